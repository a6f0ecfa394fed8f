"""PythonLayer: a user's own NumPy functions in training and prediction, their errors, and what files say of them."""

from __future__ import annotations

import gc
import re
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn import load_model
from fastcnn.formats import ModelFileError
from fastcnn.layers import Add, Conv2D, Dense, GlobalAveragePooling2D, Input, PythonLayer, ReLU, Softmax
from fastcnn.models import Model, Sequential
from fastcnn.optimizers import SGD


class Swish(PythonLayer):
    """y = x * sigmoid(factor * x)."""

    def __init__(self, factor: float = 1.0, **options: Any) -> None:
        super().__init__(**options)
        self.factor = factor

    def forward(self, x):
        return x / (1 + np.exp(-self.factor * x.astype(np.float64)))

    def backward(self, dy, y, x):
        s = 1 / (1 + np.exp(-self.factor * x.astype(np.float64)))
        return dy * (s + self.factor * x * s * (1 - s))


class Gated(PythonLayer):
    """y = a * b * gain[C], one weight per channel."""

    def build(self, *shapes):
        self.gain = self.add_weight("gain", shapes[0][-1:], "ones")
        return super().build(*shapes)

    def forward(self, a, b):
        return a * b * self.gain.value

    def backward(self, dy, y, a, b):
        gain = self.gain.value
        axes = tuple(range(dy.ndim - 1))
        return dy * b * gain, dy * a * gain, (dy * a * b).sum(axis=axes)


def net() -> Model:
    x = Input((6, 6, 2), name="x")
    y = Swish(2.0, name="swish")(Conv2D(4, 3, name="c")(x))
    z = Gated(name="gate")([y, Conv2D(4, 1, name="d")(y)])
    y = GlobalAveragePooling2D()(Add()([Swish(name="s1")(z), z, y]))  # gradients are added to
    return Model(x, Dense(3, activation="softmax", name="head")(y))


def data() -> tuple[np.ndarray, np.ndarray]:
    return np.random.default_rng(0).standard_normal((5, 6, 6, 2)).astype(np.float32), np.arange(5) % 3


def swish(x: np.ndarray, factor: float) -> np.ndarray:
    return x / (1 + np.exp(-factor * x))


def exact(model: Model, x: np.ndarray, w: dict[str, np.ndarray]) -> np.ndarray:
    """Return the model's probabilities in float64."""
    padded = fastcnn.reference.conv2d_forward(x, w["c/kernel"], w["c/bias"])
    y = swish(padded, 2.0)
    z = y * (y @ w["d/kernel"][0, 0] + w["d/bias"]) * w["gate/gain"]
    y = (swish(z, 1.0) + z + y).mean(axis=(1, 2))
    return fastcnn.reference.softmax_forward(y @ w["head/kernel"] + w["head/bias"])


def test_prediction_and_gradients_are_those_of_the_formulas() -> None:
    fastcnn.set_random_seed(0)
    model = net()
    model.get_layer("gate").set_weights([np.array([0.5, 1.5, -1.0, 2.0])])
    model.compile(SGD(1.0), "sparse_categorical_crossentropy")
    x, labels = data()
    w = {p.path: p.value.astype(np.float64) for p in model.weights}
    np.testing.assert_allclose(model.predict(x), exact(model, x, w), rtol=1e-5)
    assert np.array_equal(model.predict(x[:2]), model.predict(x)[:2])

    def loss() -> float:
        return float(-np.log(exact(model, x, w)[np.arange(5), labels]).mean())

    before = {path: value.copy() for path, value in w.items()}
    assert model.train_on_batch(x, labels) == pytest.approx(loss(), rel=1e-5)
    for parameter in model.weights:
        gradient = (before[parameter.path] - parameter.value).ravel()  # the rate is 1
        flat = w[parameter.path].reshape(-1)
        for i in range(0, flat.size, max(1, flat.size // 5)):
            value, eps = flat[i], 1e-6
            flat[i] = value + eps
            above = loss()
            flat[i] = value - eps
            slope = (above - loss()) / (2 * eps)
            flat[i] = value
            assert gradient[i] == pytest.approx(slope, abs=2e-6), parameter.path
    assert "gate/gain" in w


def test_functions_make_a_layer() -> None:
    double = PythonLayer(
        lambda x: np.concatenate([x, x], axis=-1),
        lambda dy, y, x: dy[..., : x.shape[-1]] + dy[..., x.shape[-1] :],
        lambda shape: (*shape[:-1], 2 * shape[-1]),
        name="double",
    )
    model = Sequential([Input((3,)), Dense(4), double, Dense(2, activation="softmax")])
    assert double.output_shape == (None, 8)
    model.compile("sgd", "sparse_categorical_crossentropy")
    assert np.isfinite(model.fit(np.eye(3), [0, 1, 0], verbose=0).history["loss"][0])
    assert model.predict(np.eye(3)).shape == (3, 2)


def test_arguments_are_float32_views_that_nobody_can_write() -> None:
    seen: list[np.ndarray] = []

    def forward(x):
        seen.append(x)
        return x

    model = Sequential(
        [Input((3,)), PythonLayer(forward, lambda dy, y, x: seen.extend((dy, y)) or dy), Dense(2), Softmax()]
    )
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.train_on_batch(np.ones((2, 3)), [0, 1])
    assert [array.dtype for array in seen] == [np.float32]  # nothing below it is trained
    with pytest.raises(ValueError, match="read-only"):
        seen[0][0] = 1


def test_training_stops_at_what_needs_no_gradient() -> None:
    """A layer without backward is no hindrance above frozen layers, and an error before the first step elsewhere."""
    layer = PythonLayer(np.tanh, name="tanh")
    model = Sequential([Input((3,)), Dense(4, name="below"), layer, Dense(2, activation="softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    before = model.get_weights()
    with pytest.raises(ValueError, match="tanh: has no backward, so the layers below it cannot be trained; freeze"):
        model.fit(np.eye(3), [0, 1, 0], verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), before, strict=True))
    model.get_layer("below").trainable = False
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(np.eye(3), [0, 1, 0], verbose=0)


def test_frozen_weights_of_a_layer_stay() -> None:
    model = net()
    model.get_layer("gate").trainable = False
    model.compile(SGD(1.0), "sparse_categorical_crossentropy")
    kernel = model.get_layer("c").get_weights()[0]
    model.train_on_batch(*data())
    assert np.array_equal(model.get_layer("gate").get_weights()[0], np.ones(4))
    assert not np.array_equal(model.get_layer("c").get_weights()[0], kernel)


def failing(forward=None, backward=None) -> Model:
    layer = PythonLayer(forward or (lambda x: x), backward or (lambda dy, y, x: dy), name="own")
    model = Sequential([Input((3,)), Dense(4), layer, Dense(2, activation="softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


def broken(*arrays):
    raise KeyError("oh no")


@pytest.mark.parametrize(
    ("functions", "error", "message"),
    [
        ({"forward": lambda x: x[:, :2]}, ValueError, "own: forward must return y as [3, 4], got [3, 2]"),
        ({"forward": lambda x: x + 1j}, TypeError, "own: forward must return real numbers, got complex"),
        ({"forward": broken}, KeyError, "oh no"),
        ({"backward": broken}, KeyError, "oh no"),
        ({"backward": lambda dy, y, x: dy[0]}, ValueError, "own: backward must return gradient 0 as [3, 4], got [4]"),
        ({"backward": lambda dy, y, x: (dy, dy)}, ValueError, "own: backward must return 1 gradients, of the inputs"),
        ({"backward": lambda dy, y, x: "dy"}, TypeError, "own: backward must return real numbers, got <U2"),
    ],
)
def test_errors_reach_the_caller_and_no_weight_changes(functions: dict[str, Any], error: Any, message: str) -> None:
    model = failing(**functions)
    before = model.get_weights()
    with pytest.raises(error, match=re.escape(message)):
        model.train_on_batch(np.eye(3), [0, 1, 0])
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), before, strict=True))
    assert fastcnn.num_threads() >= 1
    if "backward" in functions:
        assert model.predict(np.eye(3)).shape == (3, 2)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: PythonLayer(), TypeError, "PythonLayer: forward must be given, or written in a subclass"),
        (lambda: PythonLayer(3), TypeError, "PythonLayer: forward must be a function, got int"),
        (
            lambda: PythonLayer(np.tanh, None, lambda shape: (4,), name="p")(Input((3,))),
            ValueError,
            "p: compute_output_shape must return (None, sizes...), got (4,)",
        ),
        (
            lambda: PythonLayer(np.tanh, None, lambda shape: None, name="p")(Input((3,))),
            ValueError,
            "p: compute_output_shape must return (None, sizes...), got None",
        ),
    ],
)
def test_bad_layers_are_refused(make, error: Any, message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        make()


def test_no_gradient_is_zero() -> None:
    model = failing(backward=lambda dy, y, x: None)
    first = model.layers[0].get_weights()[0]
    model.train_on_batch(np.eye(3), [0, 1, 0])
    assert np.array_equal(model.layers[0].get_weights()[0], first)


def test_a_file_names_a_subclass_and_the_caller_brings_it(tmp_path: Path) -> None:
    model = net()
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.train_on_batch(*data())
    path = tmp_path / "m.safetensors"
    model.save(path)
    again = load_model(path, custom_objects={"Swish": Swish, "Gated": Gated})
    assert again.get_layer("swish").factor == 2.0
    assert np.array_equal(again.predict(data()[0]), model.predict(data()[0]))
    assert again.train_on_batch(*data()) == model.train_on_batch(*data())
    with pytest.raises(ModelFileError, match="'Swish' is no layer of fastcnn nor among custom_objects"):
        load_model(path)


def test_functions_cannot_be_saved(tmp_path: Path) -> None:
    model = failing()
    with pytest.raises(
        ValueError, match="own: a PythonLayer made of functions has no configuration and cannot be saved"
    ):
        model.save(tmp_path / "m.safetensors")
    assert not list(tmp_path.iterdir())
    model.save_weights(tmp_path / "w.safetensors")  # which are data
    other = failing()
    weights = [w.path for w in other.weights]
    assert len(weights) == 4


def test_several_threads_predict_at_the_same_time() -> None:
    model = net()
    x = np.random.default_rng(0).standard_normal((40, 6, 6, 2))
    expected = model.predict(x, batch_size=4)
    results: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: results.append(model.predict(x, batch_size=4))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(results) == 4
    assert all(np.array_equal(result, expected) for result in results)


def test_a_model_that_nobody_holds_is_freed() -> None:
    """Programs hold the layer's functions: these must not hold the programs."""
    model = net()
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.train_on_batch(*data())
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_it_stands_beside_fused_steps() -> None:
    x = Input((4, 4, 2))
    y = PythonLayer(lambda a: -a, lambda dy, y, a: -dy)(ReLU()(Conv2D(3, 1, name="c")(x)))
    model = Model(x, y)
    p = np.random.default_rng(0).standard_normal((2, 4, 4, 2))
    kernel, bias = model.get_layer("c").get_weights()
    np.testing.assert_allclose(model.predict(p), -np.maximum(p @ kernel[0, 0] + bias, 0), atol=1e-6)
