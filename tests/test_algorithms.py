"""Which algorithm computes a convolution: what the table says is what runs, and forcing one takes effect at once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastcnn import config, load_model
from fastcnn.callbacks import LambdaCallback
from fastcnn.layers import BatchNormalization, Conv2D, Dense, GlobalAveragePooling2D, Input, ReLU, ZeroPadding2D
from fastcnn.models import Model, Sequential

SIZE = 32  # pixels: Winograd pays for 64 channels


def net() -> Model:
    x = Input((SIZE, SIZE, 3), name="x")
    y = ReLU()(BatchNormalization()(Conv2D(64, 3, padding="same", name="stem")(x)))
    y = Conv2D(64, 3, name="middle")(ZeroPadding2D(1)(y))
    y = Conv2D(8, 1, strides=2, name="last")(y)
    return Model(x, Dense(2, activation="softmax", name="head")(GlobalAveragePooling2D()(y)), name="net")


def pictures() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((2, SIZE, SIZE, 3)).astype(np.float32)


def in_use(model: Model) -> set[tuple[str, bool, str]]:
    """Return (layer, backward data, the engine's word) of all weights that programs have packed."""
    return {
        (key[0].name, key[4], packed.algorithm)
        for workspace in model._pool.idle()
        for packer in (workspace._constants, workspace._variables)
        for key, packed in packer._packed.items()
    }


def expected(model: Model, training: bool) -> set[tuple[str, bool, str]]:
    engine = {"direct": "gemm", "winograd": "winograd"}
    rows = model.algorithms()
    if not training:
        return {(row.layer, False, engine[row.forward]) for row in rows}
    forward = {(row.layer, False, engine[row.training]) for row in rows}
    return forward | {(row.layer, True, engine[row.backward_data]) for row in rows if row.backward_data}


@pytest.mark.parametrize("allowed", [True, False])
def test_the_table_is_what_runs(isa: str, allowed: bool) -> None:
    before = config.winograd()
    config.set_winograd(allowed)
    try:
        model = net()
        model.get_layer("middle").algorithm = None if allowed else "winograd"
        model.compile("sgd", "sparse_categorical_crossentropy")
        model.train_on_batch(pictures(), [0, 1])
        assert in_use(model) == expected(model, training=True)
        model.release_workspace()
        model.predict(pictures())
        assert in_use(model) == expected(model, training=False)
        assert ("middle", False, "winograd") in in_use(model)
    finally:
        config.set_winograd(before)


def test_the_table_names_shapes_and_what_is_possible() -> None:
    rows = {row.layer: row for row in net().algorithms()}
    assert list(rows) == ["stem", "middle", "last"]
    assert rows["stem"].image == (SIZE, SIZE, 3)
    assert rows["stem"].backward_data is None  # nobody needs the gradient of the picture
    assert rows["middle"].backward_data == rows["middle"].backward_weights == "winograd"
    assert rows["last"].backward_weights == "direct"
    assert sorted(rows["middle"].possible) == ["direct", "winograd"]
    assert rows["last"].possible == ("direct",)
    text = str(net().algorithms()).splitlines()
    columns = "Convolution, Image, Forward, In training, Backward data, Backward weights, Possible, Forced"
    assert re.split(r"  +", text[0]) == columns.split(", ")
    assert re.fullmatch(r"middle +32x32x64 +(winograd +){4}winograd, direct +-", text[3])


def test_training_chooses_for_batches() -> None:
    """On a small map a single image is read sooner than Winograd's weights; a batch shares them."""
    x = Input((6, 6, 64))
    y = Conv2D(64, 3, padding="same", name="small")(x)
    model = Model(x, Dense(2, activation="softmax")(GlobalAveragePooling2D()(y)))
    (row,) = model.algorithms()
    assert (row.forward, row.training, row.backward_data) == ("direct", "winograd", None)
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.train_on_batch(np.ones((2, 6, 6, 64), np.float32), [0, 1])
    assert in_use(model) == {("small", False, "winograd")}
    model.get_layer("small").trainable = False  # its weights are packed once
    model.compile("sgd", "sparse_categorical_crossentropy")
    assert model.algorithms()[0].training == "direct"


def test_a_layer_called_for_two_shapes_has_two_rows() -> None:
    conv = Conv2D(3, 3, name="conv")
    x = Input((9, 9, 3))
    assert [row.image for row in Model(x, conv(conv(x))).algorithms()] == [(9, 9, 3), (7, 7, 3)]


def test_frozen_layers_have_no_gradient() -> None:
    model = net()
    for name in ("stem", "batch_normalization", "middle"):
        for layer in model.layers:
            if layer.name.startswith(name):
                layer.trainable = False
    assert [row.backward_data for row in model.algorithms()] == [None, None, None]
    assert [row.backward_weights for row in model.algorithms()] == [None, None, "direct"]
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.get_layer("stem").trainable = True  # counts at the next compile
    assert [row.backward_data for row in model.algorithms()] == [None, None, None]


def test_forcing_takes_effect_at_once_and_can_be_undone(tmp_path: Path) -> None:
    net().save(tmp_path / "m.safetensors")
    model = load_model(tmp_path / "m.safetensors")
    x = pictures()
    maps = Model(model.inputs, model.get_layer("last").output)  # two probabilities may agree to the last bit
    chosen = maps.predict(x)
    model.set_algorithms({"middle": "direct"})
    direct = maps.predict(x)
    assert not np.array_equal(direct, chosen)
    np.testing.assert_allclose(direct, chosen, rtol=1e-4, atol=1e-4)
    row = model.algorithms()[1]
    assert (row.forward, row.backward_data, row.forced) == ("direct", "direct", "direct")
    model.save(tmp_path / "forced.safetensors")
    again = load_model(tmp_path / "forced.safetensors")
    assert again.get_layer("middle").algorithm == "direct"
    assert np.array_equal(again.predict(x), model.predict(x))
    model.set_algorithms({"middle": None})
    assert np.array_equal(maps.predict(x), chosen)


def test_winograd_forced_on_strides_of_2_leaves_the_gradients_direct() -> None:
    x = Input((20, 18, 16))
    y = Conv2D(16, 3, padding="same", name="first")(x)
    y = Conv2D(24, 3, strides=2, padding="same", algorithm="winograd", name="strided")(y)
    model = Model(x, Dense(2, activation="softmax")(GlobalAveragePooling2D()(y)))
    model.compile("sgd", "sparse_categorical_crossentropy")
    (row,) = [row for row in model.algorithms() if row.layer == "strided"]
    assert row.forward == row.training == "winograd"
    assert row.backward_data == row.backward_weights == "direct"
    model.train_on_batch(np.ones((2, 20, 18, 16), np.float32), [0, 1])
    assert {("strided", False, "winograd"), ("strided", True, "gemm")} <= in_use(model)


def test_models_that_share_a_layer_follow() -> None:
    model, x = net(), pictures()
    outer = Sequential([model, Dense(2, name="more")])
    for algorithm, engine in (("direct", "gemm"), ("winograd", "winograd")):
        model.set_algorithms({"middle": algorithm})
        outer.predict(x)
        assert ("middle", False, engine) in in_use(outer)


def test_the_same_algorithm_again_keeps_the_programs() -> None:
    model = net()
    model.predict(pictures())
    (workspace,) = model._pool.idle()
    model.set_algorithms({"middle": None})
    model.predict(pictures())
    assert model._pool.idle() == [workspace]


@pytest.mark.parametrize(
    ("chosen", "error", "message"),
    [
        (
            {"middel": "direct"},
            ValueError,
            "there is no layer 'middel' in net, whose convolutions are stem, middle, last",
        ),
        ({"head": "direct"}, ValueError, "'head' is a Dense in net, whose convolutions are stem, middle, last"),
        ({"stem": "gemm"}, ValueError, "the algorithm of 'stem' must be None, 'direct' or 'winograd', got 'gemm'"),
        ({"stem": ["direct"]}, ValueError, "the algorithm of 'stem' must be None, 'direct' or 'winograd', got"),
        (
            {"last": "winograd"},
            ValueError,
            "'winograd' needs a 3x3 window, strides 1 or 2 and dilation 1, 'last' has a 1x1 window with strides [2, 2]",
        ),
        ("direct", TypeError, "expected a dict of layer names and None, 'direct' or 'winograd', got str"),
    ],
)
def test_what_cannot_be_forced_changes_nothing(chosen: Any, error: type[Exception], message: str) -> None:
    model = net()
    if isinstance(chosen, dict):
        chosen = {"middle": "direct"} | chosen
    with pytest.raises(error, match="^set_algorithms: " + re.escape(message)):
        model.set_algorithms(chosen)
    assert model.get_layer("middle").algorithm is None


def test_the_attribute_is_checked_too() -> None:
    with pytest.raises(ValueError, match=r"^middle: algorithm must be None, 'direct' or 'winograd', got 'fast'"):
        net().get_layer("middle").algorithm = "fast"


def test_a_name_that_two_models_inside_use_is_refused() -> None:
    def part() -> Model:
        return Sequential([Input((9, 9, 3)), Conv2D(3, 3, padding="same", name="conv")])

    model = Sequential([part(), part()], name="two")
    with pytest.raises(ValueError, match="2 convolutions in two and the models inside it are called 'conv'"):
        model.set_algorithms({"conv": "direct"})


def test_a_model_without_a_shape_is_refused() -> None:
    model = Sequential([Conv2D(3, 3)], name="loose")
    for call in (model.algorithms, lambda: model.set_algorithms({})):
        with pytest.raises(ValueError, match="algorithms: loose does not know its input shape; call build"):
            call()


def test_no_change_while_the_model_trains() -> None:
    model = net()
    model.compile("sgd", "sparse_categorical_crossentropy")
    errors = []

    def change(batch: int, logs: Any) -> None:
        with pytest.raises(RuntimeError, match="set_algorithms: net is already being trained") as caught:
            model.set_algorithms({"middle": "direct"})
        errors.append(caught)

    model.fit(pictures(), np.array([0, 1]), verbose=0, callbacks=[LambdaCallback(on_train_batch_end=change)])
    assert len(errors) == 1
