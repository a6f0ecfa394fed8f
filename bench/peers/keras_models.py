"""The networks of `torch_models.py` in Keras' names, for any package that has them: keras itself or fastcnn.

Layer names are those of `torch_names.py`.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

_RESNETS = {"resnet18": ((2, 2, 2, 2), False), "resnet50": ((3, 4, 6, 3), True)}  # blocks, bottlenecks


def _conv(layers: Any, x: Any, name: str, filters: int, window: int, stride: int = 1, relu: bool = True) -> Any:
    if stride > 1 and window > 1:
        x = layers.ZeroPadding2D(window // 2)(x)  # "same" would pad unevenly
    padding = "same" if stride == 1 else "valid"
    x = layers.Conv2D(filters, window, strides=stride, padding=padding, use_bias=False, name=f"{name}_conv")(x)
    x = layers.BatchNormalization(epsilon=1e-5, name=f"{name}_bn")(x)
    return layers.Activation("relu")(x) if relu else x


def _resnet(keras: Any, name: str, size: int, classes: int) -> Any:
    layers = keras.layers
    blocks, bottleneck = _RESNETS[name]
    inputs = keras.Input((size, size, 3))
    x = layers.ZeroPadding2D(1)(_conv(layers, inputs, "conv1", 64, 7, 2))
    x = layers.MaxPooling2D(3, strides=2)(x)
    for stage, count in enumerate(blocks):
        width = 64 << stage
        for i in range(count):
            block, stride = f"conv{stage + 2}_block{i + 1}", 2 if stage > 0 and i == 0 else 1
            channels = 4 * width if bottleneck else width
            windows = ((width, 1, 1), (width, 3, stride)) if bottleneck else ((width, 3, stride),)
            y = x
            for k, (filters, window, step) in enumerate(windows, 1):
                y = _conv(layers, y, f"{block}_{k}", filters, window, step)
            y = _conv(layers, y, f"{block}_{len(windows) + 1}", channels, 1 if bottleneck else 3, relu=False)
            if x.shape[-1] != channels:
                x = _conv(layers, x, f"{block}_0", channels, 1, stride, relu=False)
            x = layers.Activation("relu")(layers.Add()([x, y]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(classes, name="predictions")(x))


def lenet(keras: ModuleType, classes: int) -> Any:
    """Returns LeNet-5 with max-pooling, ReLU and logits, made of the layers of `keras`."""
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Input((28, 28, 1)),
            layers.Conv2D(6, 5, padding="same", activation="relu", name="conv1"),
            layers.MaxPooling2D(2),
            layers.Conv2D(16, 5, activation="relu", name="conv2"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(120, activation="relu", name="fc1"),
            layers.Dense(84, activation="relu", name="fc2"),
            layers.Dense(classes, name="predictions"),
        ]
    )


def build(keras: ModuleType, name: str, size: int, classes: int) -> Any:
    """Returns Keras' model of that name, giving logits; raises KeyError for another name."""
    if name == "lenet":
        return lenet(keras, classes)
    if name == "vgg16":
        return keras.applications.VGG16(
            weights=None, input_shape=(size, size, 3), classes=classes, classifier_activation=None
        )
    return _resnet(keras, name, size, classes)
