"""What users of Keras notice beside numbers, one function a point; `keras` is either package.

Each returns JSON's types; floats are compared as floats. Names are those of the table that `compare_keras.py` prints.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from seeded import seeded_images, seeded_keras_weights, seeded_labels

Keras = Any
N = 70  # samples: two batches of 32 and 6


def _model(keras: Keras, rate: float = 0.0) -> Any:
    """Return a compiled dense layer on 6 x 6 pictures."""
    model = keras.Sequential([keras.layers.Input((6, 6, 1)), keras.layers.Flatten()])
    model.add(keras.layers.Dense(3, activation="softmax"))
    model.set_weights([seeded_keras_weights("d/kernel", (36, 3)) * 3, seeded_keras_weights("d/bias", (3,))])
    model.compile(keras.optimizers.SGD(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def _data() -> tuple[Any, Any]:
    return seeded_images(N, 6, 4, channels=1), seeded_labels(N, 3)


def _fit(keras: Keras, model: Any = None, epochs: int = 1, **options: Any) -> Any:
    x, y = _data()
    model = model or _model(keras)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(x, y, epochs=epochs, verbose=0, shuffle=False, **options)


def _answer(call: Callable[[], Any]) -> Any:
    """Return what a call returns, or the name of the error that it raises."""
    try:
        return call()
    except (ValueError, TypeError) as error:
        return type(error).__name__


def history(keras: Keras) -> Any:
    """Keys in their order, epochs, and that values are lists of floats."""
    found = _fit(keras, epochs=2, validation_split=0.25)
    floats = all(isinstance(value, float) for values in found.history.values() for value in values)
    return [list(found.history), found.epoch, floats]


def history_params(keras: Keras) -> Any:
    """What callbacks find in `params`."""
    return sorted(_fit(keras).params)


def running_means(keras: Keras) -> Any:
    """Losses in training are means over the epoch while weights change; the last batch is smaller and counts less."""
    found = _fit(keras, _model(keras, 0.5), epochs=2).history
    return [found["loss"], found["accuracy"]]


def default_batch(keras: Keras) -> Any:
    """How many batches 70 samples are."""
    seen: list[int] = []
    callback = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(batch))
    _fit(keras, callbacks=[callback])
    return seen


def validation_split(keras: Keras) -> Any:
    """The last samples validate: with a rate of 0 both losses tell which."""
    found = _fit(keras, validation_split=0.3).history
    return [found["loss"], found["val_loss"]]


def class_weight(keras: Keras) -> Any:
    """Training's loss alone is weighted; not together with sample_weight."""
    weights = {0: 3.0, 1: 1.0, 2: 0.5}
    found = _fit(keras, class_weight=weights, validation_data=_data()).history
    both = _answer(lambda: _fit(keras, class_weight=weights, sample_weight=np.ones(N)) and "none")
    return [found["loss"], found["val_loss"], found["accuracy"], both]


def sample_weight(keras: Keras) -> Any:
    """The weighted loss is divided by the number of samples; plain metrics are not weighted."""
    x, y = _data()
    weights = (np.arange(N) % 4).astype(np.float32)
    model = _model(keras)
    found = _fit(keras, model, sample_weight=weights, validation_data=(x, y, weights)).history
    evaluated = model.evaluate(x, y, sample_weight=weights, verbose=0)
    return [found["loss"], found["val_loss"], found["accuracy"], [float(value) for value in evaluated]]


def early_stopping(keras: Keras) -> Any:
    """Epochs run where nothing improves, for patience 0, 1 and 2."""
    stops = [keras.callbacks.EarlyStopping(monitor="loss", patience=patience) for patience in range(3)]
    return [len(_fit(keras, epochs=6, callbacks=[stop]).epoch) for stop in stops]


def unknown_monitor_with_a_mode(keras: Keras) -> Any:
    """EarlyStopping of a log that is not there, mode="min": epochs run, or the error."""
    stop = keras.callbacks.EarlyStopping(monitor="val_lost", mode="min")
    return _answer(lambda: len(_fit(keras, epochs=3, callbacks=[stop]).epoch))


def unknown_monitor(keras: Keras) -> Any:
    """The same with mode="auto"."""
    stop = keras.callbacks.EarlyStopping(monitor="val_lost")
    return _answer(lambda: len(_fit(keras, epochs=3, callbacks=[stop]).epoch))


def checkpoint_names(keras: Keras) -> Any:
    """Epochs in a file's name are counted from 1."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "{epoch:02d}.weights.h5")
        _fit(keras, epochs=2, callbacks=[keras.callbacks.ModelCheckpoint(path, save_weights_only=True)])
        return sorted(each.name for each in Path(folder).iterdir())


def checkpoint_of_an_unknown_monitor(keras: Keras) -> Any:
    """ModelCheckpoint(save_best_only=True, mode="min") of a log that is not there: files written, or the error."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "{epoch:02d}.weights.h5")
        best = keras.callbacks.ModelCheckpoint(
            path, monitor="val_lost", mode="min", save_best_only=True, save_weights_only=True
        )
        return _answer(lambda: _fit(keras, epochs=2, callbacks=[best]) and len(list(Path(folder).iterdir())))


def plateau_log(keras: Keras) -> Any:
    """The rates that ReduceLROnPlateau adds to the history."""
    callback = keras.callbacks.ReduceLROnPlateau(monitor="loss", factor=0.5, patience=1, min_delta=10)
    return _fit(keras, _model(keras, 0.25), epochs=3, callbacks=[callback]).history["learning_rate"]


def plateau_log_order(keras: Keras) -> Any:
    """Where in the history it stands."""
    callback = keras.callbacks.ReduceLROnPlateau(monitor="loss")
    return list(_fit(keras, callbacks=[callback]).history)


def plateau_log_of_keras_2(keras: Keras) -> Any:
    """Whether history["lr"] finds it."""
    callback = keras.callbacks.ReduceLROnPlateau(monitor="loss")
    found = _fit(keras, epochs=1, callbacks=[callback]).history
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return found["lr"]
    except KeyError:
        return "KeyError"


def extreme_probabilities(keras: Keras) -> Any:
    """Losses of certain answers, right and wrong, and of probabilities that do not sum to 1."""
    loss = keras.losses.CategoricalCrossentropy(reduction=None)
    p = np.array([[1, 0], [0, 1], [0.5, 1.5]], np.float32)
    return np.asarray(loss(np.array([[1, 0]] * 3, np.float32), p), np.float64).tolist()


def norm_statistics(keras: Keras) -> Any:
    """The moving variance takes the batch's, biased; and the layer's momentum."""
    model = keras.Sequential([keras.layers.Input((2, 1, 1)), keras.layers.BatchNormalization()])
    model.add(keras.layers.Flatten())
    model.compile(keras.optimizers.SGD(0.0), "mse")
    model.train_on_batch(np.array([[0, 6]], np.float32).reshape(1, 2, 1, 1), np.zeros((1, 2), np.float32))
    _, _, mean, variance = model.get_weights()
    return [float(mean[0]), float(variance[0])]


def norm_defaults(keras: Keras) -> Any:
    """Momentum and epsilon of the layer, and epsilon in the applications."""
    layer = keras.layers.BatchNormalization()
    model = keras.applications.ResNet50(weights=None, input_shape=(32, 32, 3), include_top=False)
    inside = {each.epsilon for each in model.layers if type(each).__name__ == "BatchNormalization"}
    return [layer.momentum, layer.epsilon, sorted(inside)]


def frozen_norm(keras: Keras) -> Any:
    """A frozen layer normalises by its moving statistics in training too, and keeps them."""
    model = keras.Sequential([keras.layers.Input((6, 6, 1)), keras.layers.BatchNormalization()])
    model.add(keras.layers.Flatten())
    model.add(keras.layers.Dense(3, activation="softmax"))
    vectors = [np.array([value], np.float32) for value in (1.5, 0.25, 0.5, 4.0)]
    model.set_weights([*vectors, seeded_keras_weights("d/kernel", (36, 3)), np.zeros(3, np.float32)])
    model.layers[0].trainable = False
    model.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy")
    found = _fit(keras, model, validation_data=_data()).history
    kept = all(np.array_equal(a, b) for a, b in zip(model.get_weights(), vectors, strict=False))
    return [found["loss"], found["val_loss"], kept]


def dropout(keras: Keras) -> Any:
    """Outputs are 0 or x/(1-rate) in training, in the share of the rate, and x in inference."""
    model = keras.Sequential([keras.layers.Input((400,)), keras.layers.Dropout(0.5, seed=3)])
    model.add(keras.layers.Dense(1, use_bias=False, kernel_initializer="ones", trainable=True))
    model.compile(keras.optimizers.SGD(0.0), "mse")
    ones = np.ones((1, 400), np.float32)
    loss = model.train_on_batch(ones, np.zeros((1, 1), np.float32))
    kept = np.sqrt(float(loss if np.ndim(loss) == 0 else loss[0])) / 2
    return [
        bool(abs(kept - round(kept)) < 1e-3),
        bool(160 < kept < 240),
        float(np.asarray(model.predict(ones, verbose=0))[0, 0]),
    ]


def initial_values(keras: Keras) -> Any:
    """The laws: glorot_uniform's limit, he_normal's truncation and deviation. The bits are each package's own."""
    found = []
    for name, size in (
        ("glorot_uniform", np.sqrt(6 / (9 * 8 + 9 * 64))),
        ("he_normal", np.sqrt(2 / (9 * 8)) / 0.87962566),
    ):
        layer = keras.layers.Conv2D(64, 3, kernel_initializer=name)
        model = keras.Sequential([keras.layers.Input((8, 8, 8)), layer])
        kernel = np.asarray(model.get_weights()[0])
        limit = size if name == "glorot_uniform" else 2 * size
        deviation = size / np.sqrt(3) if name == "glorot_uniform" else 0.87962566 * size
        largest = float(np.abs(kernel).max())
        found += [bool(0.98 * limit < largest <= limit * (1 + 1e-6)), bool(abs(kernel.std() / deviation - 1) < 0.05)]
    return found


def same_padding(keras: Keras) -> Any:
    """padding="same" with window 3, stride 2 on 6 pixels: nothing before, one after."""
    model = keras.Sequential([keras.layers.Input((6, 6, 1))])
    model.add(keras.layers.Conv2D(1, 3, strides=2, padding="same", kernel_initializer="ones"))
    x = np.arange(36, dtype=np.float32).reshape(1, 6, 6, 1)
    return np.asarray(model.predict(x, verbose=0)).ravel().astype(float).tolist()


@contextlib.contextmanager
def _pictures() -> Any:
    """Yield a folder of the classes b and a, made in this order, each with a picture that EXIF says is turned."""
    with tempfile.TemporaryDirectory() as folder:
        for i, name in enumerate(("b", "a")):
            (Path(folder) / name).mkdir()
            pixels = (seeded_images(1, 12, i)[0, :, :10] * 60 + 128).clip(0, 255).astype(np.uint8)
            exif = Image.Exif()
            exif[0x0112] = 6
            Image.fromarray(pixels).save(Path(folder) / name / "1.png", exif=exif)
        yield folder


def folders(keras: Keras) -> Any:
    """Classes in order, pictures shrunk by "nearest" in the generator and "bilinear" in the dataset, EXIF ignored."""
    generator: Any = getattr(keras, "preprocessing", None)
    image = getattr(generator, "image", None)
    if not hasattr(image, "ImageDataGenerator"):
        from keras._tf_keras.keras.preprocessing import image
    with _pictures() as folder, contextlib.redirect_stdout(io.StringIO()) as out:
        found = image.ImageDataGenerator().flow_from_directory(folder, target_size=(5, 4), shuffle=False)
        x, y = next(found)
        size = keras.utils.load_img(Path(folder) / "a" / "1.png").size
        data = keras.utils.image_dataset_from_directory(folder, image_size=(5, 4), shuffle=False)
        pixels, labels = next(iter(data))
    return [
        dict(found.class_indices),
        found.filenames,
        np.asarray(y).tolist(),
        np.asarray(x)[:, :2].ravel().astype(float).tolist(),
        list(size),
        data.class_names,
        np.asarray(labels).tolist(),
        np.asarray(pixels)[:, :2].ravel().astype(float).round(2).tolist(),
        out.getvalue().splitlines()[0],
    ]


def preprocess_input(keras: Keras) -> Any:
    """Its three modes, and which of them VGG and ResNet use."""
    x = (seeded_images(1, 2, 1) * 60 + 128).astype(np.float32)
    modes = keras.applications.imagenet_utils.preprocess_input
    calls = [lambda v, mode=mode: modes(v, mode=mode) for mode in ("caffe", "tf", "torch")]
    calls += [keras.applications.vgg16.preprocess_input, keras.applications.resnet50.preprocess_input]
    return [np.asarray(call(x.copy())).ravel().astype(float).tolist() for call in calls]


def preprocess_input_of_ones_own_array(keras: Keras) -> Any:
    """Whether the array that was given is another afterwards."""
    x = np.full((1, 2, 2, 3), 100, np.float32)
    keras.applications.vgg16.preprocess_input(x)
    return bool((x != 100).any())


def summary_after_training(keras: Keras) -> Any:
    """The total that summary() shows once the optimizer has slots."""
    model = keras.Sequential([keras.layers.Input((10,)), keras.layers.Dense(10, name="d")])
    model.compile("adam", "mse")
    model.train_on_batch(np.ones((2, 10), np.float32), np.ones((2, 10), np.float32))
    lines: list[str] = []
    model.summary(print_fn=lambda line, **_: lines.append(line))
    text = "\n".join(lines)
    return int(text.partition("Total params: ")[2].split()[0].replace(",", ""))


def verbose_2(keras: Keras) -> Any:
    """How many lines two epochs print."""
    x, y = _data()
    with contextlib.redirect_stdout(io.StringIO()) as out:
        _model(keras).fit(x, y, epochs=2, verbose=2)
    return len([line for line in out.getvalue().splitlines() if line.strip()])


CHECKS: dict[str, Callable[[Any], Any]] = {
    function.__name__.replace("_", " "): function
    for function in (
        history, history_params, running_means, default_batch, validation_split, class_weight, sample_weight,
        early_stopping, unknown_monitor, unknown_monitor_with_a_mode, checkpoint_names,
        checkpoint_of_an_unknown_monitor, plateau_log, plateau_log_order, plateau_log_of_keras_2, extreme_probabilities,
        norm_statistics, norm_defaults, frozen_norm, dropout, initial_values, same_padding, folders, preprocess_input,
        preprocess_input_of_ones_own_array, summary_after_training, verbose_2,
    )
}  # fmt: skip

# what fastcnn answers instead, and why
DIFFERENT: dict[str, tuple[Any, str]] = {
    "history params": (
        ["epochs", "metrics", "others", "steps", "verbose"],
        "callbacks check names of logs before the first step; `metrics` is of Keras 2",
    ),
    "plateau log order": (["accuracy", "learning_rate", "loss"], "all keys are sorted, those of callbacks too"),
    "unknown monitor with a mode": ("ValueError", "Keras warns and trains on; a wrong name should cost no training"),
    "checkpoint of an unknown monitor": ("ValueError", "Keras warns and saves every epoch"),
    "plateau log of keras 2": ([0.0], "programs of Keras 2 read history['lr']"),
    "preprocess input of ones own array": (False, "Keras overwrites float32 arrays; fastcnn copies"),
    "summary after training": (110, "Keras counts the optimizer's slots; here they have a line of their own"),
    "verbose 2": (2, "Keras prints the epoch's number on a line of its own"),
}


def answers(keras: Keras) -> dict[str, Any]:
    """Return what every check gives."""
    return {name: check(keras) for name, check in CHECKS.items()}
