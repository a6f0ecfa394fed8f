from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastcnn.formats import ModelFileError, safetensors
from fastcnn.layers import Activation, Add, BatchNormalization, Conv2D, Dense, Flatten, Input, MaxPooling2D, ReLU
from fastcnn.models import Model, Sequential, saving
from fastcnn.optimizers import SGD, Adam, AdamW, RMSprop
from fastcnn.optimizers.schedules import CosineDecay

RNG = np.random.default_rng(3)
X = RNG.normal(size=(12, 8, 8, 3)).astype(np.float32)
Y = np.arange(12) % 4


def build() -> Model:
    x = Input((8, 8, 3), name="x")
    y = Conv2D(6, 3, padding="same", name="conv")(x)
    y = BatchNormalization(name="bn")(y)
    y = Activation("relu", name="relu")(y)
    y = Add(name="add")([Conv2D(6, 1, use_bias=False, name="side")(x), y])
    y = Flatten(name="flat")(MaxPooling2D(name="pool")(y))
    return Model(x, Dense(4, activation="softmax", name="fc")(y), name="net")


def trained(optimizer: Any = None, steps: int = 3) -> Model:
    model = build()
    model.compile(optimizer or Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])
    for _ in range(steps):
        model.train_on_batch(X, Y)
    return model


def weights_equal(a: Model, b: Model) -> bool:
    pairs = zip(a.get_weights(), b.get_weights(), strict=True)
    return all(np.array_equal(v, w) for v, w in pairs)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


# -- whole models ------------------------------------------------------------------------------------------------------


def test_round_trip(path: Path) -> None:
    model = trained()
    model.class_names = ["a", "b", "ä", "d"]
    saving.save(model, path)
    loaded = saving.load_model(path)
    assert loaded.get_config() == model.get_config()
    assert loaded.class_names == model.class_names
    assert weights_equal(loaded, model)
    assert np.array_equal(loaded.predict(X, verbose=0), model.predict(X, verbose=0))


def test_what_does_not_decay_is_in_the_file(path: Path) -> None:
    optimizer = AdamW(0.01, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    model = trained(optimizer)
    saving.save(model, path)
    loaded = saving.load_model(path)
    loaded.train_on_batch(X, Y)
    model.train_on_batch(X, Y)
    assert weights_equal(loaded, model)
    other = trained(AdamW(0.01, weight_decay=0.5), steps=4)
    assert not weights_equal(other, model)


def test_sequential(path: Path) -> None:
    model = Sequential([Input((8, 8, 3)), Conv2D(4, 3, activation="relu"), Flatten(), Dense(3)])
    saving.save(model, path)
    loaded = saving.load_model(path)
    assert type(loaded) is Sequential
    assert np.array_equal(loaded.predict(X, verbose=0), model.predict(X, verbose=0))


@pytest.mark.parametrize(
    "optimizer",
    [
        SGD(0.1),
        SGD(0.05, 0.9, nesterov=True),
        Adam(0.01),
        Adam(0.01, amsgrad=True, clipnorm=0.1),
        AdamW(CosineDecay(0.01, 5, warmup_target=0.02, warmup_steps=2), weight_decay=0.5),
        RMSprop(0.01, momentum=0.5, centered=True, gradient_accumulation_steps=2),
        RMSprop(0.01, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=2, global_clipnorm=0.1),
    ],
    ids=repr,
)
def test_training_goes_on_as_if_never_interrupted(path: Path, optimizer: Any) -> None:
    model = trained(optimizer)
    saving.save(model, path)
    loaded = saving.load_model(path)
    assert loaded.optimizer.batches == 3
    assert loaded.optimizer.get_config() == model.optimizer.get_config()
    for _ in range(3):
        assert loaded.train_on_batch(X, Y) == model.train_on_batch(X, Y)
    assert weights_equal(loaded, model)
    assert loaded.evaluate(X, Y, verbose=0, return_dict=True).keys() == {"accuracy", "loss"}


def test_compile_false_leaves_the_optimizer_in_the_file(path: Path) -> None:
    model = trained()
    saving.save(model, path)
    loaded = saving.load_model(path, compile=False)
    assert loaded.optimizer is None
    assert weights_equal(loaded, model)


def test_model_that_was_never_compiled(path: Path) -> None:
    saving.save(build(), path)
    assert saving.load_model(path).optimizer is None


def test_frozen_layers_stay_frozen(path: Path) -> None:
    model = build()
    model.get_layer("conv").trainable = False
    model.compile("adam", "sparse_categorical_crossentropy")
    model.train_on_batch(X, Y)
    saving.save(model, path)
    loaded = saving.load_model(path)
    assert not loaded.get_layer("conv").trainable
    assert "optimizer/momentum/conv/kernel" not in safetensors.read(path).tensors
    assert loaded.train_on_batch(X, Y) == model.train_on_batch(X, Y)


def test_names_in_the_file(path: Path) -> None:
    saving.save(trained(), path)
    file = safetensors.read(path)
    own = {f"conv/{v}" for v in ("kernel", "bias")} | {"side/kernel", "fc/kernel", "fc/bias"}
    norm = {f"bn/{v}" for v in ("gamma", "beta", "moving_mean", "moving_variance")}
    trainable = own | {"bn/gamma", "bn/beta"}
    slots = {f"optimizer/{slot}/{name}" for slot in ("momentum", "velocity") for name in trainable}
    assert set(file.tensors) == own | norm | slots | {"optimizer/iterations"}
    assert set(file.metadata) == {"fastcnn.version", "fastcnn.isa", "fastcnn.config", "fastcnn.training"}
    assert json.loads(file.metadata["fastcnn.training"])["step"] == 3


def test_custom_layer(path: Path) -> None:
    class Rectifier(ReLU):
        pass

    x = Input((4,))
    model = Model(x, Rectifier()(Dense(3)(x)))
    saving.save(model, path)
    with pytest.raises(ModelFileError, match="'Rectifier'"):
        saving.load_model(path)
    loaded = saving.load_model(path, custom_objects={"Rectifier": Rectifier})
    assert isinstance(loaded.layers[-1], Rectifier)


# -- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.keras", "model", "model.safetensors.bak"])
def test_other_suffixes(tmp_path: Path, name: str) -> None:
    for write in (saving.save, saving.save_weights):
        with pytest.raises(
            ValueError, match=r"a model file ends in \.safetensors, or in \.h5 or \.hdf5 \(Keras\), got"
        ):
            write(build(), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_overwrite_false(path: Path) -> None:
    saving.save(build(), path)
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match="exists and overwrite is False"):
        saving.save(build(), path, overwrite=False)
    assert path.read_bytes() == before


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_never_replace_a_file(path: Path, value: float) -> None:
    model = build()
    saving.save(model, path)
    before = path.read_bytes()
    kernel, bias = model.get_layer("fc").get_weights()
    model.get_layer("fc").set_weights([kernel, np.full_like(bias, value)])
    with pytest.raises(ValueError, match="save: fc/bias holds NaN or infinity"):
        saving.save(model, path)
    assert path.read_bytes() == before


def test_safe_mode_cannot_be_switched_off(path: Path) -> None:
    saving.save(build(), path)
    with pytest.raises(ValueError, match="safe_mode must be True"):
        saving.load_model(path, safe_mode=False)


def rewrite(path: Path, change: Callable[[dict[str, Any], dict[str, str]], None]) -> None:
    """Write the file again, with a good hash, after a change of tensors and metadata."""
    file = safetensors.read(path)
    tensors, metadata = dict(file.tensors), dict(file.metadata)
    change(tensors, metadata)
    safetensors.write(path, tensors, metadata)


def test_all_wrong_names_and_shapes_in_one_error(path: Path) -> None:
    def change(tensors: dict[str, Any], metadata: dict[str, str]) -> None:
        tensors["convolution/kernel"] = tensors.pop("conv/kernel")
        tensors["fc/bias"] = tensors["fc/bias"][:3]
        del tensors["optimizer/velocity/side/kernel"]

    saving.save(trained(), path)
    rewrite(path, change)
    with pytest.raises(ModelFileError) as caught:
        saving.load_model(path)
    for part in ("conv/kernel", "convolution/kernel", "[3] in the file, expected [4]", "velocity/side/kernel"):
        assert part in str(caught.value)


def config(change: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any], dict[str, str]], None]:
    """Return a change of the stored configuration; what `change` returns, if anything, replaces it."""

    def apply(tensors: dict[str, Any], metadata: dict[str, str]) -> None:
        stored = json.loads(metadata["fastcnn.config"])
        replacement = change(stored)
        metadata["fastcnn.config"] = json.dumps(stored if replacement is None else replacement)

    return apply


def layer(stored: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(entry for entry in stored["config"]["layers"] if entry["name"] == name)
    return found


HOSTILE: dict[str, tuple[Callable[[dict[str, Any], dict[str, str]], None], str]] = {
    "not JSON": (lambda t, m: m.update({"fastcnn.config": "{"}), r"fastcnn\.config is not JSON"),
    "deep JSON": (lambda t, m: m.update({"fastcnn.config": "[" * 100_000}), r"fastcnn\.config is not JSON"),
    "a list": (lambda t, m: m.update({"fastcnn.config": "[]"}), r"fastcnn\.config is not a JSON object"),
    "other model class": (
        config(lambda s: s.update(class_name="os.system")),
        "holds a 'os.system', expected a Model or Sequential",
    ),
    "class name of another type": (config(lambda s: s.update(class_name=["Model"])), "expected a Model or Sequential"),
    "no config": (config(lambda s: s.pop("config") and None), "'config' is missing"),
    "config is a text": (config(lambda s: s.update(config="x")), "cannot be built"),
    "unknown layer": (config(lambda s: layer(s, "conv").update(class_name="Lambda")), "'Lambda'"),
    "unknown argument": (config(lambda s: layer(s, "conv")["config"].update(code="x")), "cannot be built.*code"),
    "bad argument": (config(lambda s: layer(s, "conv")["config"].update(filters=-1)), "cannot be built.*filters"),
    "argument of another type": (config(lambda s: layer(s, "conv")["config"].update(filters={})), "cannot be built"),
    "unknown initializer": (
        config(lambda s: layer(s, "conv")["config"].update(kernel_initializer={"class_name": "eval"})),
        "cannot be built.*initializer must be one of",
    ),
    "call of nothing": (config(lambda s: layer(s, "conv")["calls"][0].update(inputs=[["y", 0]])), "cannot be built"),
    "larger weights": (
        config(lambda s: layer(s, "conv")["config"].update(filters=10**6)),
        "cannot be built|do not fit",
    ),
    "weights without end": (
        config(lambda s: layer(s, "fc")["config"].update(units=2**62)),
        "cannot be built|do not fit",
    ),
    "class names of another type": (lambda t, m: m.update({"fastcnn.class_names": "[1]"}), "is not a list of names"),
    "unknown optimizer": (
        lambda t, m: m.update({"fastcnn.training": '{"compile": {"optimizer": "x"}}'}),
        "be compiled",
    ),
    "compiled with a list": (lambda t, m: m.update({"fastcnn.training": '{"compile": [1]}'}), "cannot be compiled"),
    "a step that is no number": (lambda t, m: t.update({"optimizer/iterations": np.array(np.nan)}), "a whole number"),
    "a step before the first": (lambda t, m: t.update({"optimizer/iterations": np.array(-1)}), "at least 0, got -1"),
    "no architecture": (lambda t, m: m.pop("fastcnn.config") and None, "holds weights but no architecture"),
}


def test_optimizer_slots_of_another_type(path: Path) -> None:
    def change(tensors: dict[str, Any], metadata: dict[str, str]) -> None:
        tensors["optimizer/momentum/fc/bias"] = np.ones(4, np.int8)

    saving.save(trained(), path)
    rewrite(path, change)
    with pytest.raises(ModelFileError, match=r"momentum/fc/bias.* is int8"):
        saving.load_model(path)


def test_no_optimizer_state_where_there_must_be(path: Path) -> None:
    def change(tensors: dict[str, Any], metadata: dict[str, str]) -> None:
        for name in [name for name in tensors if name.startswith("optimizer/")]:
            del tensors[name]

    saving.save(trained(), path)
    rewrite(path, change)
    with pytest.raises(ModelFileError, match="optimizer/momentum/conv/kernel"):
        saving.load_model(path)
    saving.load_model(path, compile=False)


def test_compiled_but_never_trained(path: Path) -> None:
    model = trained(steps=0)
    saving.save(model, path)
    assert not any(name.startswith("optimizer/") for name in safetensors.read(path).tensors)
    loaded = saving.load_model(path)
    assert loaded.train_on_batch(X, Y) == model.train_on_batch(X, Y)


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_files(path: Path, kind: str) -> None:
    change, message = HOSTILE[kind]
    saving.save(trained(steps=1), path)
    rewrite(path, change)
    with pytest.raises(ModelFileError, match=message) as caught:
        saving.load_model(path)
    assert str(caught.value).startswith(str(path))


def test_other_formats(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(ModelFileError, match="HDF5"):
        saving.load_model(path)
    with pytest.raises(FileNotFoundError):
        saving.load_model(tmp_path / "nothing.safetensors")


def test_damaged_file(path: Path) -> None:
    saving.save(build(), path)
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelFileError, match="damaged"):
        saving.load_model(path)


def test_layer_names_that_would_collide(path: Path) -> None:
    x = Input((4,))
    with pytest.raises(ValueError, match="optimizer/kernel is taken"):
        saving.save(Model(x, Dense(2, name="optimizer")(x)), path)


# -- weights alone -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [saving.save, saving.save_weights])
def test_weights_into_another_model(path: Path, write: Callable[[Model, Path], None]) -> None:
    model, other = trained(), build()
    write(model, path)
    saving.load_weights(other, path)
    assert weights_equal(model, other)
    assert np.array_equal(other.predict(X, verbose=0), model.predict(X, verbose=0))


def head(units: int, name: str = "fc") -> Model:
    x = Input((8, 8, 3))
    y = Flatten()(Conv2D(6, 3, name="conv")(x))
    return Model(x, Dense(units, name=name)(y))


def test_strict_by_default(path: Path) -> None:
    model = head(5, "top")
    saving.save_weights(head(4), path)
    before = model.get_weights()
    with pytest.raises(ModelFileError, match="top/bias") as caught:
        saving.load_weights(model, path)
    assert "fc/bias" in str(caught.value)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_by_name_allows_other_names_but_no_other_shapes(path: Path) -> None:
    source, model = head(4), head(5, "top")
    saving.save_weights(source, path)
    top = model.get_layer("top").get_weights()
    saving.load_weights(model, path, by_name=True)
    assert np.array_equal(model.get_layer("conv").get_weights()[0], source.get_layer("conv").get_weights()[0])
    assert np.array_equal(model.get_layer("top").get_weights()[0], top[0])
    with pytest.raises(ModelFileError, match="fc/bias"):
        saving.load_weights(head(5), path, by_name=True)


def test_skip_mismatch_allows_other_shapes_but_no_other_names(path: Path) -> None:
    source, model = head(4), head(5)
    saving.save_weights(source, path)
    with pytest.warns(UserWarning, match=r"skipped .*fc/kernel is \[216, 4\] in the file, \[216, 5\] in the model"):
        saving.load_weights(model, path, skip_mismatch=True)
    assert np.array_equal(model.get_layer("conv").get_weights()[0], source.get_layer("conv").get_weights()[0])
    with pytest.raises(ModelFileError, match="top/bias"):
        saving.load_weights(head(5, "top"), path, skip_mismatch=True)
    with pytest.warns(UserWarning, match="skipped"):
        saving.load_weights(head(5), path, by_name=True, skip_mismatch=True)


def test_half_precision_is_converted_with_a_notice(path: Path) -> None:
    model = head(4)
    weights = {parameter.path: parameter.numpy().astype(np.float16) for parameter in model.weights}
    safetensors.write(path, weights, {})
    with pytest.warns(UserWarning, match="float16 weights are converted to float32"):
        saving.load_weights(model, path)
    assert all(np.array_equal(weights[p.path].astype(np.float32), p.numpy()) for p in model.weights)


def test_integer_weights_are_refused_before_any_weight_changes(path: Path) -> None:
    model = head(4)
    before = model.get_weights()
    weights: dict[str, Any] = {parameter.path: parameter.numpy() + 1 for parameter in model.weights}
    weights["fc/bias"] = np.ones(4, np.int32)
    safetensors.write(path, weights, {})
    with pytest.raises(ModelFileError, match="fc/bias"):
        saving.load_weights(model, path)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_weights_are_read_where_they_stay(tmp_path: Path) -> None:
    """A second copy of the weights would double the peak of a large network."""
    size = 3000
    code = (
        "import sys, fastcnn\n"
        "def peak(): return next(int(s.split()[1]) for s in open('/proc/self/status') if s.startswith('VmHWM'))\n"
        "fastcnn.load_model(sys.argv[1]); before = peak()\n"
        "model = fastcnn.load_model(sys.argv[2]); print(peak() - before)"
    )
    paths = []
    for name, units in (("small", 3), ("large", size)):
        x = Input((size,))
        Model(x, Dense(units)(x)).save(path := tmp_path / f"{name}.safetensors")
        paths.append(str(path))
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, check=True)
    assert 4 * size * size <= 1024 * int(done.stdout) <= 1.5 * 4 * size * size
