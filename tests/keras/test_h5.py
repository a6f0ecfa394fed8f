"""Keras' .h5 files: read from Keras 3, read back, read by Keras, and refused when damaged or hostile."""

from __future__ import annotations

import builtins
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from fastcnn import applications, load_model
from fastcnn.callbacks import ModelCheckpoint
from fastcnn.formats import ModelFileError, detect, hdf5
from fastcnn.layers import (
    Add,
    BatchNormalization,
    ChannelPadding,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    Input,
    LeakyReLU,
    PythonLayer,
)
from fastcnn.metrics import AUC
from fastcnn.models import Model, Sequential
from fastcnn.optimizers import SGD, Adam, AdamW, RMSprop
from fastcnn.optimizers.schedules import ExponentialDecay

ROOT = Path(__file__).parents[2]
VECTORS = ROOT / "tests" / "vectors" / "keras3"  # of keras 3.15.1; beside it tf_keras, of tf-keras 2.21
ANSWERS = {kind: np.load(VECTORS.with_name(kind) / "answers.npz") for kind in ("keras3", "tf_keras")}
X, Y = ANSWERS["keras3"]["x"], ANSWERS["keras3"]["y"]
NAMES = ("functional", "sequential")
KINDS = pytest.mark.parametrize("kind", ANSWERS)


def zeroed(model: Model) -> Model:
    for weight in model.weights:
        weight.assign(np.zeros(weight.shape))
    return model


def distance(model: Model, kind: str, name: str) -> float:
    return float(np.abs(model.predict(X) - ANSWERS[kind][f"{name}_p"]).max())


def chain(name: str = "small", prefix: str = "") -> Model:
    layers = [
        Input((8, 8, 3)),
        Conv2D(4, 3, activation="relu", name=f"{prefix}conv"),
        BatchNormalization(name=f"{prefix}bn"),
        Flatten(),
        Dense(3, activation="softmax", name=f"{prefix}fc"),
    ]
    return Sequential(layers, name=name)


def trained(model: Model, optimizer: Any = None) -> Model:
    model.compile(optimizer or Adam(0.01), "categorical_crossentropy", metrics=["accuracy", AUC(name="area")])
    for _ in range(2):
        model.train_on_batch(X, Y)
    return model


# -- from Keras --------------------------------------------------------------------------------------------------------


@KINDS
@pytest.mark.parametrize("name", NAMES)
def test_whole_models_of_keras(kind: str, name: str) -> None:
    model = load_model(VECTORS.with_name(kind) / f"{name}.h5")
    assert distance(model, kind, name) <= 1e-6
    assert model.metrics_names == ["loss", "accuracy"]
    assert model.optimizer.iterations == 2
    assert model.optimizer.learning_rate == {"functional": 0.01, "sequential": 0.1}[name]


@KINDS
def test_training_goes_on_where_keras_stopped(kind: str) -> None:
    model = load_model(VECTORS.with_name(kind) / "sequential.h5")
    losses = [model.train_on_batch(X, Y, return_dict=True)["loss"] for _ in range(3)]
    assert losses == pytest.approx(ANSWERS[kind]["sequential_losses"], rel=1e-3, abs=1e-5)  # softmax ends at 1.2e-7
    assert not any(layer.trainable for layer in model.get_layer("base").layers)


@KINDS
@pytest.mark.parametrize("ending", [".h5", ".weights.h5"])
@pytest.mark.parametrize("by_name", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_weights_of_keras_in_both_layouts(kind: str, name: str, ending: str, by_name: bool) -> None:
    model = zeroed(load_model(VECTORS.with_name(kind) / f"{name}.h5", compile=False))
    if by_name and (kind, ending) == ("tf_keras", ".weights.h5"):
        pytest.skip("tf-keras writes no names into this layout")
    model.load_weights(VECTORS.with_name(kind) / f"{name}{ending}", by_name=by_name)
    assert distance(model, kind, name) <= 1e-6


def test_layers_called_otherwise_are_found_by_their_place(tmp_path: Path) -> None:
    model, other = chain(), chain(prefix="my_")
    for ending in (".h5", ".weights.h5"):
        model.save_weights(tmp_path / f"w{ending}")
        zeroed(other).load_weights(tmp_path / f"w{ending}")
        assert np.array_equal(other.predict(X), model.predict(X))
        before = zeroed(other).get_weights()
        other.load_weights(tmp_path / f"w{ending}", by_name=True)
        assert all(np.array_equal(a, b) for a, b in zip(before, other.get_weights(), strict=True))


# -- to Keras ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_keras_reads_what_fastcnn_writes(name: str, tmp_path: Path, keras_python: str) -> None:
    model = load_model(VECTORS / f"{name}.h5")
    files = {ending: tmp_path / f"model{ending}" for ending in (".h5", "_weights.h5", ".weights.h5")}
    model.save(files[".h5"])
    model.save_weights(files["_weights.h5"])
    model.save_weights(files[".weights.h5"])
    np.save(tmp_path / "x.npy", X)
    script = [keras_python, str(ROOT / "bench" / "peers" / "keras_files.py")]
    whole, x, out = str(files[".h5"]), str(tmp_path / "x.npy"), str(tmp_path / "p.npy")
    for task in (
        ["predict", whole, x, out],
        ["weights", whole, str(files["_weights.h5"]), x, out],
        ["weights", whole, str(files["_weights.h5"]), x, out, "--by-name"],
        ["weights", whole, str(files[".weights.h5"]), x, out],
    ):
        Path(out).unlink(missing_ok=True)
        subprocess.run(script + task, check=True, capture_output=True, timeout=300)
        assert np.abs(np.load(out) - model.predict(X)).max() <= 1e-6, task[0]


def test_the_layout_is_keras_2s(tmp_path: Path) -> None:
    trained(chain()).save(tmp_path / "m.h5")
    with h5py.File(tmp_path / "m.h5") as file:
        assert file.attrs["keras_version"] == "2.2.4"
        config = json.loads(file.attrs["model_config"])
        assert config["class_name"] == "Sequential"
        assert config["config"]["layers"][0]["config"]["batch_input_shape"] == [None, 8, 8, 3]
        training = json.loads(file.attrs["training_config"])
        assert training["loss"] == "categorical_crossentropy"
        assert training["metrics"] == ["accuracy", "area"]
        assert training["optimizer_config"]["class_name"] == "Adam"
        group = file["model_weights"]
        assert [name.decode() for name in group.attrs["layer_names"]][:2] == ["conv", "bn"]
        assert list(group["bn"].attrs["weight_names"]) == [
            f"bn/{name}:0".encode() for name in ("gamma", "beta", "moving_mean", "moving_variance")
        ]
        assert group["conv/conv/kernel:0"].shape == (3, 3, 3, 4)
        names = [name.decode() for name in file["optimizer_weights"].attrs["weight_names"]]
        assert names[:4] == [
            "adam/iteration",
            "adam/learning_rate",
            "adam/conv_kernel_momentum",
            "adam/conv_kernel_velocity",
        ]


# -- round trips -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "optimizer",
    [
        SGD(0.1),
        SGD(0.05, 0.9, nesterov=True),
        Adam(0.01, amsgrad=True),
        AdamW(ExponentialDecay(0.01, 3, 0.5), weight_decay=0.5),
        RMSprop(0.01, momentum=0.5, centered=True),
        Adam(0.01, use_ema=True, gradient_accumulation_steps=2),
    ],
    ids=repr,
)
def test_training_goes_on_as_if_never_interrupted(tmp_path: Path, optimizer: Any) -> None:
    model = trained(chain(), optimizer)
    model.class_names = ["a", "b", "ä"]
    model.save(tmp_path / "m.h5")
    assert detect(tmp_path / "m.h5") == "hdf5"
    loaded = load_model(tmp_path / "m.h5")
    assert type(loaded) is Sequential
    assert loaded.class_names == model.class_names
    assert loaded.get_config() == model.get_config()
    assert loaded.optimizer.get_config() == model.optimizer.get_config()
    for _ in range(3):
        assert loaded.train_on_batch(X, Y) == model.train_on_batch(X, Y)
    assert load_model(tmp_path / "m.h5", compile=False).optimizer is None


def test_models_in_models_and_layers_called_twice(tmp_path: Path) -> None:
    base = applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3), pooling="avg")
    base.trainable = False
    x = Input((32, 32, 3))
    dense = Dense(512, name="again")
    y = Dropout(0.5)(dense(dense(base(x, training=False))))
    model = Model(x, Dense(2, activation="softmax")(LeakyReLU(0.1)(y)), name="whole")
    pictures = np.random.default_rng(0).uniform(0, 1, (2, 32, 32, 3)).astype(np.float32)
    model.save(tmp_path / "m.h5")
    loaded = load_model(tmp_path / "m.h5")
    assert np.array_equal(loaded.predict(pictures), model.predict(pictures))
    assert loaded.get_config() == model.get_config()
    assert not loaded.get_layer("vgg16").trainable
    base.save_weights(tmp_path / "base.h5")
    again = applications.VGG16(include_top=False, weights=tmp_path / "base.h5", input_shape=(32, 32, 3), pooling="avg")
    assert np.array_equal(again.predict(pictures), base.predict(pictures))


def test_long_lists_of_names_are_split(tmp_path: Path) -> None:
    x = y = Input((4, 4, 1))
    for i in range(900):
        y = Add(name=f"a_layer_with_quite_a_long_name_so_that_they_are_too_many_for_one_attribute_{i:04}")([y, x])
    model = Model(x, Dense(2)(Flatten()(y)))
    model.save(tmp_path / "m.h5")
    with h5py.File(tmp_path / "m.h5") as file:
        assert "layer_names0" in file["model_weights"].attrs
    assert len(load_model(tmp_path / "m.h5").layers) == len(model.layers)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_checkpoints_as_old_programs_write_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoint = ModelCheckpoint(
        "vgg16_1.h5", monitor="val_acc", save_best_only=True, save_weights_only=False, mode="auto", period=1
    )
    weights = ModelCheckpoint("w.{epoch:02d}-{val_acc:.2f}.h5", save_weights_only=True)
    model = chain()
    model.compile("sgd", "categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(X, Y, epochs=2, validation_data=(X, Y), verbose=0, callbacks=[checkpoint, weights])
    best = load_model("vgg16_1.h5")
    assert best.evaluate(X, Y, verbose=0)[1] == max(history.history["val_accuracy"])
    last = sorted(tmp_path.glob("w.02-*.h5"))
    zeroed(best).load_weights(last[0])
    assert np.array_equal(best.predict(X), model.predict(X))


def test_layers_that_keras_does_not_have_are_read_back(tmp_path: Path) -> None:
    class Double(PythonLayer):
        def forward(self, *xs: Any) -> Any:
            return 2 * xs[0]

    model = Sequential([Input((8, 8, 3)), ChannelPadding(2), Double(name="double"), Flatten(), Dense(2)])
    model.save(tmp_path / "m.h5")
    with pytest.raises(
        ModelFileError, match="layer 'double' is a Double, which is no layer of fastcnn nor among custom"
    ):
        load_model(tmp_path / "m.h5")
    loaded = load_model(tmp_path / "m.h5", custom_objects={"Double": Double})
    assert np.array_equal(loaded.predict(X), model.predict(X))


# -- what does not fit -------------------------------------------------------------------------------------------------


def test_weights_that_do_not_fit_are_named_and_nothing_changes(tmp_path: Path) -> None:
    chain().save_weights(tmp_path / "w.h5")
    wider = Sequential(
        [
            Input((8, 8, 3)),
            Conv2D(5, 3, activation="relu", name="conv"),
            BatchNormalization(name="bn", scale=False),
            Flatten(),
            Dense(3, name="fc"),
        ]
    )
    before = wider.get_weights()
    with pytest.raises(ModelFileError) as error:
        wider.load_weights(tmp_path / "w.h5")
    for text in (
        "layer 'bn' has 3 weights, the file 4",
        "conv/kernel is [3, 3, 3, 4] in the file, [3, 3, 3, 5] in the model",
        "fc/kernel is [144, 3] in the file, [180, 3] in the model",
    ):
        assert text in str(error.value)
    assert all(np.array_equal(a, b) for a, b in zip(before, wider.get_weights(), strict=True))
    with pytest.warns(UserWarning, match="skipped weights of another shape: layer 'bn' has 3"):
        wider.load_weights(tmp_path / "w.h5", skip_mismatch=True)
    assert np.array_equal(wider.get_layer("fc").get_weights()[1], np.zeros(3))
    deeper = Sequential([*chain(prefix="x").layers[:-1], Dense(4, name="more"), Dense(3, name="fc")])
    deeper.build((8, 8, 3))
    with pytest.raises(ModelFileError, match="weights of 3 layers, the model 4; only in the model: xconv, xbn, more"):
        deeper.load_weights(tmp_path / "w.h5")


def test_a_file_of_weights_is_no_model(tmp_path: Path) -> None:
    for ending in (".h5", ".weights.h5"):
        chain().save_weights(tmp_path / f"w{ending}")
        with pytest.raises(ModelFileError, match="holds weights but no architecture"):
            load_model(tmp_path / f"w{ending}")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["data"] = np.zeros(3)
    with pytest.raises(ModelFileError, match="is HDF5 but lists no layers"):
        chain().load_weights(tmp_path / "other.h5")


def test_training_that_fastcnn_does_not_have_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    trained(chain()).save(path)

    def change(config: dict[str, Any]) -> None:
        config["optimizer_config"] = {"class_name": "Adadelta", "config": {"lr": 1.0, "rho": 0.95}}

    edit(path, "training_config", change)
    with h5py.File(path, "a") as file:
        del file.attrs["fastcnn.training"]
    with pytest.warns(UserWarning, match=r"m\.h5: the model is not compiled.*optimizer must be one of"):
        model = load_model(path)
    assert model.optimizer is None
    assert load_model(path, compile=False).predict(X).shape == (6, 3)


@pytest.mark.parametrize(
    ("given", "metrics"),
    [
        ([["accuracy"]], ["accuracy"]),
        (
            [{"class_name": "MeanMetricWrapper", "config": {"name": "acc", "dtype": "float32", "fn": "accuracy"}}],
            ["acc"],
        ),
        (None, []),
    ],
)
def test_training_as_other_versions_write_it(tmp_path: Path, given: Any, metrics: list[str]) -> None:
    path = tmp_path / "m.h5"
    trained(chain(), SGD(0.1)).save(path)

    def change(config: dict[str, Any]) -> None:
        config["metrics"] = given
        config["optimizer_config"] = {
            "class_name": "Adam",
            "config": {"lr": 0.0010000000474974513, "beta_1": 0.9, "beta_2": 0.999, "decay": 0.5, "epsilon": None,
                       "amsgrad": False, "name": "Adam", "is_legacy_optimizer": False},
        }  # fmt: skip
        config["loss"] = {
            "class_name": "CategoricalCrossentropy",
            "config": {"reduction": "auto", "name": "cce", "from_logits": False, "label_smoothing": 0.1},
        }

    edit(path, "training_config", change)
    with h5py.File(path, "a") as file:
        del file.attrs["fastcnn.training"], file["optimizer_weights"]
    model = load_model(path)
    assert model.metrics_names == ["loss", *metrics]
    assert model.optimizer.get_config()["learning_rate"] == 0.001
    assert model.optimizer.decay == 0.5
    assert model.loss.label_smoothing == 0.1


# -- damaged and hostile files -----------------------------------------------------------------------------------------


def edit(path: Path, name: str, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a JSON attribute of the root."""
    with h5py.File(path, "a") as file:
        config = json.loads(file.attrs[name])
        change(config)
        file.attrs[name] = json.dumps(config).encode()


def layer(config: dict[str, Any], number: int = 1) -> dict[str, Any]:
    """Return a layer of a Sequential's configuration."""
    found: dict[str, Any] = config["config"]["layers"][number]
    return found


ARCHITECTURES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "lambda": (
        lambda c: layer(c).update(class_name="Lambda", config={"name": "l", "function": ["4wEAAAA=", None, None]}),
        "layer 'l' is a Lambda, which holds code; fastcnn never runs code from a file",
    ),
    "class": (lambda c: layer(c).update(class_name="LSTM"), "layer 'conv' is a LSTM, which is no layer of fastcnn"),
    "argument": (lambda c: layer(c)["config"].update(groups=2), r"layer 'conv' \(Conv2D\) has groups=2"),
    "unknown": (lambda c: layer(c)["config"].update(code="x"), r"layer 'conv' \(Conv2D\) has code='x'"),
    "float16": (lambda c: layer(c)["config"].update(dtype="float16"), "has dtype='float16'"),
    "huge": (lambda c: layer(c)["config"].update(filters=10**12), "the weights do not fit the model"),
    "kind": (lambda c: layer(c)["config"].update(filters="many"), "the architecture cannot be built"),
    "model": (lambda c: c.update(class_name="Subclassed"), "got class 'Subclassed'"),
    "no layers": (lambda c: c["config"].pop("layers"), "the configuration lacks 'layers'"),
    "a list": (lambda c: c["config"].update(layers=[3]), "the configuration is malformed"),
}


@pytest.mark.parametrize("case", ARCHITECTURES)
def test_architectures_that_are_refused(tmp_path: Path, case: str) -> None:
    path = tmp_path / "m.h5"
    chain().save(path)
    change, message = ARCHITECTURES[case]
    edit(path, "model_config", change)
    with pytest.raises(ModelFileError, match=message):
        load_model(path)


def replace_kernel(path: Path, make: Callable[[Any, str], object]) -> None:
    with h5py.File(path, "a") as file:
        del file["model_weights/conv/conv/kernel:0"]
        make(file["model_weights/conv/conv"], "kernel:0")


SHAPE = (3, 3, 3, 4)


def external(group: Any, name: str) -> None:
    group.create_dataset(name, SHAPE, "f4", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])


def virtual(group: Any, name: str) -> None:
    layout = h5py.VirtualLayout(SHAPE, "f4")
    layout[...] = h5py.VirtualSource("/etc/passwd", "x", SHAPE)
    group.create_virtual_dataset(name, layout)


def link(group: Any, name: str) -> None:
    group[name] = h5py.ExternalLink("/etc/passwd", "/x")


def soft(group: Any, name: str) -> None:
    group[name] = h5py.SoftLink("/model_weights/bn/bn/gamma:0")


ARRAYS: dict[str, tuple[Callable[[Any, str], object], str]] = {
    "external": (external, "lies outside the file"),
    "virtual": (virtual, "lies outside the file"),
    "external link": (link, "is a link to somewhere else"),
    "soft link": (soft, "is a link to somewhere else"),
    "unwritten": (lambda g, n: g.create_dataset(n, SHAPE, "f4"), "takes 432 bytes but the file has 0 for it"),
    "integers": (lambda g, n: g.create_dataset(n, data=np.ones(SHAPE, np.int32)), "is int32, weights are floats"),
    "text": (lambda g, n: g.create_dataset(n, data=np.full(SHAPE, b"x")), "expected floats or integers"),
    "compound": (lambda g, n: g.create_dataset(n, data=np.zeros(SHAPE, "f4,f4")), "expected floats or integers"),
    "group": (lambda g, n: g.create_group(n), "is not an array in the file"),
    "filter": (
        lambda g, n: g.create_dataset(n, data=np.ones(SHAPE, "f4"), compression="lzf"),
        "uses the HDF5 filter 32000",
    ),
    "shape": (lambda g, n: g.create_dataset(n, data=np.ones((3, 3, 4, 3), "f4")), r"is \[3, 3, 4, 3\] in the file"),
    "missing": (lambda g, n: None, "is not an array in the file"),
}


@pytest.mark.parametrize("case", ARRAYS)
def test_arrays_that_are_refused(tmp_path: Path, case: str) -> None:
    path = tmp_path / "m.h5"
    chain().save(path)
    make, message = ARRAYS[case]
    replace_kernel(path, make)
    with pytest.raises(ModelFileError, match=rf"m\.h5: (.|\n)*{message}"):
        load_model(path)
    model = chain()
    before = model.get_weights()
    with pytest.raises(ModelFileError, match=message):
        model.load_weights(path)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_floats_are_converted(tmp_path: Path, dtype: Any) -> None:
    path = tmp_path / "m.h5"
    chain().save(path)
    values = np.random.default_rng(0).normal(size=SHAPE).astype(dtype)
    replace_kernel(path, lambda g, n: g.create_dataset(n, data=values, chunks=True, compression="gzip", shuffle=True))
    with pytest.warns(UserWarning, match="weights are converted to float32"):
        model = load_model(path)
    assert np.array_equal(model.get_weights()[0], values.astype(np.float32))


def test_one_array_for_many_weights_is_no_way_to_make_memory(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    model = Sequential([Input((64,)), *(Dense(64, use_bias=False, name=f"d{i:02}") for i in range(40))])
    model.save(path)
    with h5py.File(path, "a") as file:
        group = file["model_weights"]
        first = group["d00/d00/kernel:0"]
        for i in range(1, 40):
            del group[f"d{i:02}/d{i:02}/kernel:0"]
            group[f"d{i:02}/d{i:02}/kernel:0"] = first
        text = {name: file.attrs[name] for name in file.attrs}
    small = tmp_path / "small.h5"
    with h5py.File(path) as old, h5py.File(small, "w") as new:
        for name, value in text.items():
            new.attrs[name] = value
        old.copy("model_weights", new)
    assert small.stat().st_size < 10 * 64 * 64 * 4
    with pytest.raises(ModelFileError, match="are said to be larger than the file"):
        load_model(small)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("model_config", b"{", "model_config is not JSON"),
        ("model_config", b"[]", "model_config is not a JSON object"),
        ("model_config", b"[" * 100_000, "model_config is not JSON"),
        ("model_config", np.arange(3), "expected text"),
        ("model_config", b"\xff", "is not UTF-8"),
    ],
)
def test_attributes_that_are_refused(tmp_path: Path, name: str, value: Any, message: str) -> None:
    path = tmp_path / "m.h5"
    chain().save(path)
    with h5py.File(path, "a") as file:
        file.attrs[name] = value
    with pytest.raises(ModelFileError, match=message):
        load_model(path)


def test_truncated_and_garbled_files_are_errors(tmp_path: Path) -> None:
    path, damaged = tmp_path / "m.h5", tmp_path / "damaged.h5"
    model = chain()
    model.save(path)
    content = path.read_bytes()
    rng = np.random.default_rng(1)
    for i in range(60):
        changed = bytearray(content)
        if i % 2:
            changed = changed[: rng.integers(8, len(content))]
        else:
            for place in rng.integers(8, len(content), 40):
                changed[place] = rng.integers(256)
        damaged.write_bytes(bytes(changed))
        try:
            loaded = load_model(damaged, compile=False)
        except (ModelFileError, UnicodeDecodeError):
            continue
        assert [p.shape for p in loaded.weights] == [p.shape for p in model.weights]


def test_without_h5py_there_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.h5"
    chain().save(path)
    real = builtins.__import__

    def refusing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "h5py":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refusing)
    for action in (lambda: load_model(path), lambda: chain().save(tmp_path / "new.h5")):
        with pytest.raises(ImportError, match=r'need h5py: pip install "fastcnn\[keras\]"'):
            action()
    assert not (tmp_path / "new.h5").exists()


def test_reader_says_what_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    chain().save(path)
    with hdf5.read(path) as file:
        assert file.text("", "nothing") is None
        assert file.names("", "nothing") is None
        assert not file.has_group("model_weights/../model_weights")
        with pytest.raises(ModelFileError, match="has no group 'nothing'"):
            file.children("nothing")
        with pytest.raises(ModelFileError, match=r"is \[3, 3, 3, 4\], expected \[4\]"):
            file.array("model_weights/conv/conv/kernel:0", (4,))
    with (
        hdf5.write(tmp_path / "new.h5") as writer,
        pytest.raises(ValueError, match="is too long for an HDF5 attribute"),
    ):
        writer.names("", "names", ["x" * 70_000])
