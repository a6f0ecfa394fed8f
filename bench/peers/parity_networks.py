"""Networks and ways to train them that Keras and fastcnn are compared on; `keras` is either package.

Weights follow from their place in `model.weights`, so the order of `get_weights` is compared as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from seeded import seeded_images, seeded_keras_weights, seeded_labels

APPLICATIONS = ("VGG16", "VGG19", "ResNet50", "ResNet101", "ResNet152")
SIZE, CLASSES, SEED = 64, 10, 1
STEPS = 50
WEIGHTS = 48  # entries that are compared of a trained network's weights
BATCH = 8  # of ResNet50's gradients


def seed_weights(model: Any, seed: int = SEED) -> Any:
    """Set every weight of a model to seeded values, those of BatchNormalization's statistics too; return the model."""
    values = []
    for i, weight in enumerate(model.weights):
        kind = weight.path.rpartition("/")[2]
        values.append(seeded_keras_weights(f"{i}/{kind}", tuple(weight.shape), seed))
    model.set_weights(values)
    return model


def application(keras: Any, name: str) -> Any:
    """Return one of Keras' architectures, giving logits."""
    build = getattr(keras.applications, name)
    shape = (SIZE, SIZE, 3)
    return seed_weights(build(weights=None, input_shape=shape, classes=CLASSES, classifier_activation=None))


def application_data(batch: int) -> tuple[Any, Any]:
    """Return pictures of mean 0 and deviation 1, and class numbers."""
    return seeded_images(batch, SIZE, SEED), seeded_labels(batch, CLASSES)


def all_layers(keras: Any) -> Any:
    """Return a network with every layer that computes something and is not random."""
    layers = keras.layers
    x = layers.Input((15, 14, 3))
    y = layers.Rescaling(0.5, offset=0.1, name="scale")(x)
    y = layers.ZeroPadding2D(((2, 1), (0, 3)), name="pad")(y)
    y = layers.Conv2D(8, 3, strides=2, padding="same", name="strided", kernel_regularizer="l2")(y)
    y = layers.BatchNormalization(name="norm")(y)
    y = layers.ReLU(max_value=1.5, negative_slope=0.1, threshold=0.1, name="bounded")(y)
    left = layers.Conv2D(8, (3, 1), dilation_rate=2, padding="same", use_bias=False, name="dilated")(y)
    left = layers.BatchNormalization(scale=False, epsilon=1e-4, name="no_scale")(left)
    left = layers.LeakyReLU(negative_slope=0.2, name="leaky")(left)
    right = layers.Conv2D(8, 3, padding="same", activation="sigmoid", name="sigmoid")(y)
    y = layers.Add(name="add")([left, y, right])
    y = layers.Activation("relu", name="relu")(y)
    pooled = layers.MaxPooling2D(3, strides=2, padding="same", name="max")(y)
    averaged = layers.AveragePooling2D(3, strides=2, padding="same", name="average")(y)
    y = layers.Concatenate(name="both")([pooled, averaged])
    frozen = layers.BatchNormalization(name="frozen")
    frozen.trainable = False
    y = frozen(layers.Conv2D(12, 1, name="pointwise")(y))
    means = layers.GlobalAveragePooling2D(name="mean")(y)
    largest = layers.GlobalMaxPooling2D(name="largest")(y)
    flat = layers.Flatten(name="flat")(layers.MaxPooling2D(2, name="halve")(y))
    y = layers.Concatenate(name="features")([means, largest, flat])
    y = layers.Dense(16, activation="relu", name="hidden", bias_regularizer="l1")(y)
    y = layers.Softmax(name="softmax")(layers.Dense(5, name="head")(y))
    return seed_weights(keras.Model(x, y))


def all_layers_data() -> tuple[Any, Any]:
    """Return pictures and one-hot labels."""
    return seeded_images(8, 15, 2)[:, :, :14], np.eye(5, dtype=np.float32)[seeded_labels(8, 5)]


# -- training --------------------------------------------------------------------------------------------------------

# name: class and arguments
RULES: dict[str, tuple[str, dict[str, Any]]] = {
    "sgd": ("SGD", {"learning_rate": 0.05}),
    "momentum": ("SGD", {"learning_rate": 0.02, "momentum": 0.9}),
    "nesterov": ("SGD", {"learning_rate": 0.02, "momentum": 0.9, "nesterov": True}),
    "adam": ("Adam", {"learning_rate": 0.003}),
    "amsgrad": ("Adam", {"learning_rate": 0.003, "amsgrad": True}),
    "adamw": ("AdamW", {"learning_rate": 0.003}),
    "rmsprop": ("RMSprop", {"learning_rate": 0.001}),
    "rmsprop momentum": ("RMSprop", {"learning_rate": 0.0005, "momentum": 0.5}),
    "rmsprop centered": ("RMSprop", {"learning_rate": 0.001, "centered": True}),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "weight_decay": {"weight_decay": 0.1},
    "clipnorm": {"clipnorm": 0.1},
    "clipvalue": {"clipvalue": 0.01},
    "global_clipnorm": {"global_clipnorm": 0.2},
    "ema": {"use_ema": True, "ema_momentum": 0.9},
    "ema overwriting": {"use_ema": True, "ema_momentum": 0.8, "ema_overwrite_frequency": 7},
    "accumulation": {"gradient_accumulation_steps": 3},
}
SCHEDULES: dict[str, tuple[str, dict[str, Any]]] = {
    "exponential": ("ExponentialDecay", {"decay_steps": 10, "decay_rate": 0.5}),
    "exponential stairs": ("ExponentialDecay", {"decay_steps": 10, "decay_rate": 0.5, "staircase": True}),
    "inverse time": ("InverseTimeDecay", {"decay_steps": 5, "decay_rate": 0.5}),
    "polynomial": ("PolynomialDecay", {"decay_steps": 30, "power": 2.0}),
    "polynomial cycle": ("PolynomialDecay", {"decay_steps": 20, "cycle": True}),
    "cosine": ("CosineDecay", {"decay_steps": 30, "alpha": 0.1, "warmup_target": 0.05, "warmup_steps": 10}),
}
PIECES = {"boundaries": [10, 30], "values": [0.03, 0.01, 0.003]}


def training_cases() -> list[str]:
    """Return the names of all ways of training."""
    names = list(RULES)
    names += [f"{rule}, {option}" for rule in ("momentum", "adam", "rmsprop") for option in OPTIONS]
    names += [f"momentum, {schedule}" for schedule in (*SCHEDULES, "pieces")]
    return [*names, "adam, cosine", "momentum, class_weight", "momentum, sample_weight", "momentum, frozen norm"]


def _optimizer(keras: Any, case: str, number: Callable[[float], Any]) -> Any:
    rule, _, option = case.partition(", ")
    cls, arguments = RULES[rule]
    if cls.startswith("Adam"):
        arguments = arguments | {"beta_1": number(0.9), "beta_2": number(0.999)}
    arguments = arguments | OPTIONS.get(option, {})
    rate = arguments["learning_rate"]
    if option in SCHEDULES:
        kind, given = SCHEDULES[option]
        arguments["learning_rate"] = getattr(keras.optimizers.schedules, kind)(initial_learning_rate=rate, **given)
    if option == "pieces":
        arguments["learning_rate"] = keras.optimizers.schedules.PiecewiseConstantDecay(**PIECES)
    return getattr(keras.optimizers, cls)(**arguments)


def small(keras: Any, frozen: bool = False) -> Any:
    """Return the network that is trained: two normalised convolutions, pooling, and a dense layer.

    It is smooth: one ReLU on the other side of 0 by rounding would make another course of the training.
    No biases of convolutions: in front of a normalisation their gradient is rounding, which Adam makes whole steps of.
    """
    layers = keras.layers
    model = keras.Sequential([layers.Input((12, 12, 3)), layers.Conv2D(8, 3, padding="same", use_bias=False)])
    norm = layers.BatchNormalization(momentum=0.9)
    norm.trainable = not frozen
    model.add(norm)
    model.add(layers.Activation("sigmoid"))
    model.add(layers.AveragePooling2D(2))
    model.add(layers.Conv2D(12, 3, use_bias=False, kernel_regularizer="l2"))
    model.add(layers.BatchNormalization(momentum=0.9))
    model.add(layers.Activation("sigmoid"))
    model.add(layers.GlobalAveragePooling2D())
    model.add(layers.Dense(5, activation="softmax"))
    return seed_weights(model)


def train(keras: Any, case: str, number: Callable[[float], Any] = float, **options: Any) -> dict[str, Any]:
    """Train for STEPS steps on one batch, with more options of `compile`; return losses, and weights with their kinds.

    `number` makes Adam's betas: of a Python number Keras makes float32 before it takes 1 - beta^t, in float64 too.
    Averages of weights (`use_ema`) take the weights' places when `fit` ends, so it makes the last step there.
    """
    option = case.partition(", ")[2]
    model = small(keras, frozen=option == "frozen norm")
    model.compile(_optimizer(keras, case, number), "sparse_categorical_crossentropy", **options)
    x, y = seeded_images(24, 12, 3), seeded_labels(24, 5)
    weights: dict[str, Any] = {}
    if option == "class_weight":
        weights["class_weight"] = {0: 2.0, 1: 0.5, 2: 1.0, 3: 0.0, 4: 1.5}
    if option == "sample_weight":
        weights["sample_weight"] = np.arange(24, dtype=np.float32) / 10
    averages = option.startswith("ema")
    losses = []
    for _ in range(STEPS - averages):
        if hasattr(model, "reset_metrics"):
            model.reset_metrics()  # Keras' train_on_batch returns the mean since then
        losses.append(float(model.train_on_batch(x, y, **weights)))
    if averages:
        losses += model.fit(x, y, 24, verbose=0, shuffle=False).history["loss"]
    return {
        "loss": np.array(losses),
        "weights": [np.asarray(value) for value in model.get_weights()],
        "kinds": [weight.path.rpartition("/")[2] for weight in model.weights],
    }


def flat(run: dict[str, Any]) -> tuple[Any, Any]:
    """Return the moving statistics that `train` left, and all other weights, each in one array."""
    pairs = list(zip(run["kinds"], run["weights"], strict=True))
    moving = [value.ravel() for kind, value in pairs if kind.startswith("moving")]
    return np.concatenate(moving), np.concatenate([v.ravel() for kind, v in pairs if not kind.startswith("moving")])
