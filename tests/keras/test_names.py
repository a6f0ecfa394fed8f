"""Names, arguments and defaults are Keras'; old names are understood and each says so once."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import signatures

import fastcnn as keras
from fastcnn import backend as K  # noqa: N812, as Keras scripts write it
from fastcnn import callbacks, compat, layers, models, optimizers, utils
from fastcnn.layers import Conv2D, Dense, Flatten, Input
from fastcnn.models import Model, Sequential
from fastcnn.preprocessing.image import ImageDataGenerator

X = np.random.default_rng(0).normal(size=(12, 8, 8, 3)).astype(np.float32)
Y = np.eye(3, dtype=np.float32)[np.arange(12) % 3]


def test_every_argument_and_default_is_keras_or_explained() -> None:
    names, arguments, differences = signatures.compare()
    assert names > 70
    assert arguments > 300
    assert [str(difference) for difference in differences if not difference.why] == []
    explained = {(difference.name, difference.argument) for difference in differences}
    assert explained == set(signatures.EXPLAINED)  # no explanation of what no longer differs


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("models", "Model Sequential Input load_model save_model clone_model model_from_json model_from_config"),
        ("layers", "Input Conv2D Dense Dropout Flatten Activation BatchNormalization MaxPooling2D add concatenate"),
        ("optimizers", "SGD Adam AdamW RMSprop sgd adam rmsprop schedules"),
        ("losses", "categorical_crossentropy binary_crossentropy CategoricalCrossentropy"),
        ("metrics", "AUC Precision Recall CategoricalAccuracy"),
        ("callbacks", "Callback EarlyStopping ModelCheckpoint ReduceLROnPlateau CSVLogger LearningRateScheduler"),
        ("initializers", "glorot_uniform he_normal Constant"),
        ("regularizers", "l1 l2 l1_l2 L2"),
        ("applications", "VGG16 VGG19 ResNet50 ResNet101 ResNet152"),
        ("applications.vgg16", "VGG16 preprocess_input decode_predictions"),
        ("applications.vgg19", "VGG19 preprocess_input decode_predictions"),
        ("applications.resnet", "ResNet50 ResNet101 ResNet152 preprocess_input decode_predictions"),
        ("applications.resnet50", "ResNet50 preprocess_input decode_predictions"),
        ("preprocessing", "image"),
        ("preprocessing.image", "ImageDataGenerator load_img img_to_array array_to_img save_img"),
        ("utils", "to_categorical plot_model Sequence set_random_seed load_img"),
        ("saving", "load_model save_model"),
        ("backend", "clear_session epsilon image_data_format set_value get_value"),
        ("compat", "predict_classes predict_proba"),
    ],
)
def test_modules_have_what_scripts_import(module: str, names: str) -> None:
    found = importlib.import_module(f"fastcnn.{module}")
    assert [name for name in names.split() if not hasattr(found, name)] == []
    top = module.split(".")[0]
    assert getattr(keras, top) is importlib.import_module(f"fastcnn.{top}")


# -- old names ---------------------------------------------------------------------------------------------------------


def told(action: Callable[[], Any]) -> list[str]:
    """Return the first words of the DeprecationWarnings of an action."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        action()
    assert {w.category for w in caught} <= {DeprecationWarning}, [str(w.message) for w in caught]
    assert all(w.filename == __file__ for w in caught), [w.filename for w in caught]
    return [str(w.message).partition(" is an old name")[0] for w in caught]


def net(metrics: tuple[str, ...] = ("accuracy",), optimizer: Any = "sgd") -> Model:
    model = Sequential([Input((8, 8, 3)), Conv2D(4, 3, activation="relu"), Flatten(), Dense(3, activation="softmax")])
    model.compile(optimizer, "categorical_crossentropy", metrics=list(metrics))
    return model


def flow() -> Any:
    return ImageDataGenerator().flow(X, Y, batch_size=4, seed=0)


OLD: dict[str, Callable[[], Any]] = {
    "fit_generator": lambda: net().fit_generator(flow(), 3, 1, 0),
    "evaluate_generator": lambda: net().evaluate_generator(flow(), steps=2),
    "predict_generator": lambda: net().predict_generator(flow(), steps=2),
    "predict_classes": lambda: net().predict_classes(X),
    "predict_proba": lambda: net().predict_proba(X),
    "fit(nb_epoch=)": lambda: net().fit(X, Y, nb_epoch=1, verbose=0),
    "fit(workers=)": lambda: net().fit(flow(), workers=2, verbose=0),
    "fit(use_multiprocessing=)": lambda: net().fit(flow(), use_multiprocessing=True, verbose=0),
    "fit(max_queue_size=)": lambda: net().fit(flow(), max_queue_size=20, verbose=0),
    "evaluate(workers=)": lambda: net().evaluate(flow(), workers=2, verbose=0),
    "predict(max_queue_size=)": lambda: net().predict(X, max_queue_size=2),
    "Adam(lr=)": lambda: optimizers.Adam(lr=0.01),
    "SGD(decay=)": lambda: optimizers.SGD(0.01, decay=1e-6),
    "optimizer.lr": lambda: optimizers.Adam().lr,
    "layers.MaxPool2D": lambda: layers.MaxPool2D,
    "layers.AvgPool2D": lambda: layers.AvgPool2D,
    "layers.Convolution2D": lambda: layers.Convolution2D,
    "LeakyReLU(alpha=)": lambda: layers.LeakyReLU(alpha=0.1),
    "Dense(input_dim=)": lambda: Dense(3, input_dim=4),
    "Conv2D(batch_input_shape=)": lambda: Conv2D(3, 3, batch_input_shape=(None, 8, 8, 3)),
    "ModelCheckpoint(period=)": lambda: callbacks.ModelCheckpoint("x.h5", period=1),
    "ReduceLROnPlateau(epsilon=)": lambda: callbacks.ReduceLROnPlateau(epsilon=1e-3),
    "backend.set_learning_phase": lambda: K.set_learning_phase(0),
    "backend.image_dim_ordering": lambda: K.image_dim_ordering(),
    "backend.set_image_dim_ordering": lambda: K.set_image_dim_ordering("tf"),
}


@pytest.mark.parametrize("old", OLD)
def test_an_old_name_works_and_says_so_once(old: str) -> None:
    assert told(OLD[old]) == [old]
    assert told(OLD[old]) == []


def test_every_old_argument_is_of_what_took_its_place() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert layers.MaxPool2D is layers.MaxPooling2D
        assert layers.AvgPool2D is layers.AveragePooling2D
        assert layers.Convolution2D is Conv2D
        assert layers.LeakyReLU(alpha=0.1).negative_slope == 0.1
        assert Dense(3, input_dim=4).given_input_shape == (4,)
        assert Conv2D(3, 3, batch_input_shape=(None, 8, 8, 3)).given_input_shape == (8, 8, 3)
        assert callbacks.ModelCheckpoint("x.h5", period=3).period == 3
        assert callbacks.ReduceLROnPlateau(epsilon=1e-3).min_delta == 1e-3
        assert optimizers.Adam(lr=0.25, epsilon=None).get_config() == optimizers.Adam(0.25).get_config()
        assert len(net().fit(X, Y, nb_epoch=2, verbose=0).epoch) == 2
        with pytest.raises(TypeError, match="Adam: lr is the old name of learning_rate; both were given"):
            optimizers.Adam(learning_rate=0.1, lr=0.1)
        with pytest.raises(TypeError, match="unexpected keyword argument 'lrr'"):
            optimizers.Adam(lrr=0.1)  # type: ignore[call-arg]


def test_the_warning_is_at_the_line_that_imports() -> None:
    def imports() -> None:
        from fastcnn.layers import (
            MaxPool2D,  # noqa: F401
            core,  # noqa: F401
        )

    sys.modules.pop("fastcnn.layers.core", None)
    vars(layers).pop("core", None)
    assert told(imports) == ["layers.MaxPool2D", "layers.core"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_old_methods_give_what_the_new_ones_do() -> None:
    keras.set_random_seed(1)
    old, new = net(), net()
    new.set_weights(old.get_weights())
    a = old.fit_generator(flow(), steps_per_epoch=3, epochs=2, verbose=0, validation_data=flow(), validation_steps=2)
    b = new.fit(flow(), steps_per_epoch=3, epochs=2, verbose=0, validation_data=flow(), validation_steps=2)
    assert a.history == b.history
    assert old.evaluate_generator(flow(), steps=3) == new.evaluate(X, Y, verbose=0, batch_size=4)
    p = new.predict(X)
    assert np.array_equal(old.predict_classes(X), p.argmax(axis=1))
    assert np.array_equal(old.predict_proba(X), p)
    one = Sequential([Input((4,)), Dense(1, activation="sigmoid")])
    numbers = one.predict_classes(X[:, 0, 0, :1].repeat(4, axis=1))
    assert numbers.shape == (12, 1)
    assert numbers.dtype == np.int32
    assert np.array_equal(compat.predict_classes(one, X[:, 0, 0, :1].repeat(4, axis=1)), numbers)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_more_validation_steps_than_batches_go_on_from_the_beginning() -> None:
    model = net()
    three, seven = (model.evaluate(flow(), steps=steps, verbose=0, return_dict=True) for steps in (3, 6))
    assert seven["loss"] == pytest.approx(three["loss"], rel=1e-6)
    with pytest.raises(ValueError, match="the data ended after 3 of 4 batches"):
        model.evaluate(X, Y, batch_size=4, steps=4)


def test_workers_are_threads() -> None:
    data = flow()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net().fit(data, workers=3, verbose=0)
        assert data.num_threads == 3
        net().fit(data, workers=0, verbose=0)
        assert data.num_threads == 1
        with pytest.raises(ValueError, match="fit: workers must be an integer of at least 0, got -1"):
            net().fit(data, workers=-1)


# -- logs --------------------------------------------------------------------------------------------------------------


class Reads(callbacks.Callback):
    """Looks an old name up in the logs."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.seen: list[float] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        assert self.name in logs
        self.seen.append(logs[self.name])


@pytest.mark.parametrize(("given", "asked"), [("accuracy", "acc"), ("acc", "accuracy")])
def test_a_log_is_found_under_its_other_name(given: str, asked: str, tmp_path: Path) -> None:
    reads = Reads(f"val_{asked}")
    stop = callbacks.EarlyStopping(f"val_{asked}", patience=5)
    save = callbacks.ModelCheckpoint(tmp_path / f"{{epoch}}-{{val_{asked}:.2f}}.safetensors", f"val_{asked}")
    model = net((given,))

    def run() -> None:
        nonlocal history
        history = model.fit(X, Y, epochs=2, verbose=0, validation_data=(X, Y), callbacks=[reads, stop, save])
        assert history.history[asked] == history.history[given]

    history: Any = None
    found = told(run)
    assert found == (["'val_acc'", "'acc'"] if asked == "acc" else [])
    assert reads.seen == history.history[f"val_{given}"]
    assert stop.best == max(reads.seen)
    assert len(list(tmp_path.glob("1-*.safetensors"))) == 1


# -- decay and rates ---------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("make", [optimizers.SGD, optimizers.Adam, optimizers.RMSprop, optimizers.AdamW])
def test_decay_is_keras_2s(make: Any) -> None:
    keras.set_random_seed(2)
    old = net(optimizer=make(lr=0.1, decay=0.5))
    new = net(optimizer=make(optimizers.schedules.InverseTimeDecay(0.1, 1, 0.5)))
    new.set_weights(old.get_weights())
    for _ in range(4):
        assert old.train_on_batch(X, Y) == pytest.approx(new.train_on_batch(X, Y), rel=1e-6)
    assert old.optimizer.lr == 0.1
    assert make.from_config(old.optimizer.get_config()).get_config() == old.optimizer.get_config()
    assert "decay" not in make().get_config()
    with pytest.raises(ValueError, match="decay must be a number finite and at least 0, got -1"):
        make(decay=-1)
    with pytest.raises(ValueError, match="exclude each other"):
        make(optimizers.schedules.InverseTimeDecay(0.1, 1, 0.5), decay=0.5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_rate_can_be_set_by_the_backend() -> None:
    model = net(optimizer=optimizers.Adam(0.5))
    K.set_value(model.optimizer.lr, 0.25)
    assert K.get_value(model.optimizer.lr) == model.optimizer.learning_rate == 0.25
    K.set_value(model.optimizer.learning_rate, 0.125)
    assert model.optimizer.learning_rate == 0.125
    model.optimizer.lr = 0.5
    assert model.optimizer.learning_rate == 0.5
    K.set_value(model.weights[1], np.ones(4))
    assert np.array_equal(K.get_value(model.weights[1]), np.ones(4))
    with pytest.raises(TypeError, match="set_value: takes a weight of a layer or the rate of an optimizer, got float"):
        K.set_value(0.5, 0.25)


# -- the rest ----------------------------------------------------------------------------------------------------------


def test_backend_says_what_cannot_be_chosen() -> None:
    K.set_image_data_format("channels_last")
    K.set_epsilon(1e-7)
    K.set_floatx("float32")
    for call, value in ((K.set_image_data_format, "channels_first"), (K.set_epsilon, 1e-5), (K.set_floatx, "float16")):
        with pytest.raises(ValueError, match=repr(value)):
            call(value)
    assert K.int_shape(Input((4, 4, 3))) == (None, 4, 4, 3)
    K.clear_session()
    assert Dense(3).name == "dense"
    assert K.get_uid("a") == 1
    assert K.get_uid("a") == 2
    assert (K.backend(), K.floatx(), K.learning_phase()) == ("fastcnn", "float32", 0)


def test_merge_names_what_took_its_place() -> None:
    with pytest.raises(ImportError, match="write Add or Concatenate"):
        from fastcnn.layers import merge  # noqa: F401
    x = Input((4, 4, 3))
    assert layers.add([x, x], name="sum").shape == (None, 4, 4, 3)
    assert layers.concatenate([x, x]).shape == (None, 4, 4, 6)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_keras_2s_paths_of_layers() -> None:
    for path, name in (
        ("core", "Dense"),
        ("convolutional", "Convolution2D"),
        ("pooling", "MaxPooling2D"),
        ("normalization", "BatchNormalization"),
        ("advanced_activations", "LeakyReLU"),
    ):
        assert isinstance(getattr(importlib.import_module(f"fastcnn.layers.{path}"), name), type)
    assert importlib.import_module("fastcnn.utils.np_utils").to_categorical is utils.to_categorical
    assert utils.np_utils.to_categorical is utils.to_categorical


def test_a_layer_or_model_with_call_is_told_what_to_do() -> None:
    for base in (layers.Layer, Model):
        with pytest.raises(TypeError, match=r"Mine: fastcnn does not run a call\(\) .* Model\(inputs, outputs\)"):
            type("Mine", (base,), {"call": lambda self, x: x})


def test_models_has_no_other_names() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = models.nothing
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = layers.nothing
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = utils.nothing
