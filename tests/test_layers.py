"""Layers: shapes, weights, configurations, names and the sentences of their errors."""

from __future__ import annotations

import inspect
import json
import re

import numpy as np
import pytest

from fastcnn import initializers, layers, regularizers
from fastcnn.layers import (
    Activation,
    Add,
    AveragePooling2D,
    BatchNormalization,
    ChannelPadding,
    Concatenate,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    Input,
    InputLayer,
    Layer,
    LeakyReLU,
    MaxPooling2D,
    Normalization,
    RandomCrop,
    RandomFlip,
    RandomRotation,
    RandomTranslation,
    RandomZoom,
    ReLU,
    Rescaling,
    Softmax,
    ZeroPadding2D,
)
from fastcnn.layers.base import automatic_name, window_padding

# layer, input shape, output shape, parameters
TABLE = [
    (lambda: Conv2D(5, 3), (8, 7, 3), (6, 5, 5), 3 * 3 * 3 * 5 + 5),
    (lambda: Conv2D(5, (3, 2), strides=2, padding="same", use_bias=False), (8, 7, 3), (4, 4, 5), 3 * 2 * 3 * 5),
    (lambda: Conv2D(5, 3, dilation_rate=(2, 1)), (8, 7, 3), (4, 5, 5), 140),
    (lambda: Conv2D(64, 7, strides=(2, 2), padding="same"), (224, 224, 3), (112, 112, 64), 9472),
    (lambda: MaxPooling2D(), (8, 7, 3), (4, 3, 3), 0),
    (lambda: MaxPooling2D(3, strides=2, padding="same"), (8, 7, 3), (4, 4, 3), 0),
    (lambda: AveragePooling2D((2, 3), strides=1), (8, 7, 3), (7, 5, 3), 0),
    (lambda: GlobalAveragePooling2D(), (8, 7, 3), (3,), 0),
    (lambda: GlobalAveragePooling2D(keepdims=True), (8, 7, 3), (1, 1, 3), 0),
    (lambda: GlobalMaxPooling2D(), (8, 7, 3), (3,), 0),
    (lambda: GlobalMaxPooling2D(keepdims=True), (8, 7, 3), (1, 1, 3), 0),
    (lambda: Activation("sigmoid"), (8, 7, 3), (8, 7, 3), 0),
    (lambda: ZeroPadding2D(3), (8, 7, 3), (14, 13, 3), 0),
    (lambda: ZeroPadding2D((1, 2)), (8, 7, 3), (10, 11, 3), 0),
    (lambda: ZeroPadding2D(((1, 0), (2, 3))), (8, 7, 3), (9, 12, 3), 0),
    (lambda: BatchNormalization(), (8, 7, 3), (8, 7, 3), 12),
    (lambda: BatchNormalization(axis=3, center=False), (8, 7, 3), (8, 7, 3), 9),
    (lambda: BatchNormalization(axis=[1], scale=False), (9,), (9,), 27),
    (lambda: Dense(4), (9,), (4,), 40),
    (lambda: Dense(4, use_bias=False, activation="softmax"), (9,), (4,), 36),
    (lambda: Flatten(), (8, 7, 3), (168,), 0),
    (lambda: Activation("relu"), (8, 7, 3), (8, 7, 3), 0),
    (lambda: ReLU(), (9,), (9,), 0),
    (lambda: ReLU(6, negative_slope=0.1, threshold=1.0), (9,), (9,), 0),
    (lambda: Activation("relu6"), (9,), (9,), 0),
    (lambda: Dropout(0.5), (8, 7, 3), (8, 7, 3), 0),
    (lambda: Dropout(0.0, seed=7), (9,), (9,), 0),
    (lambda: Softmax(axis=3), (8, 7, 3), (8, 7, 3), 0),
    (lambda: Dense(4, kernel_regularizer="l2", bias_regularizer=regularizers.L1L2(0.5, 0.25)), (9,), (4,), 40),
    (lambda: LeakyReLU(), (8, 7, 3), (8, 7, 3), 0),
    (lambda: LeakyReLU(0), (9,), (9,), 0),
    (lambda: Softmax(), (9,), (9,), 0),
    (lambda: Rescaling(1 / 255), (8, 7, 3), (8, 7, 3), 0),
    (lambda: Normalization(), (8, 7, 3), (8, 7, 3), 6),
    (lambda: Normalization(mean=[1, 2, 3], variance=(4, 5, 6)), (8, 7, 3), (8, 7, 3), 6),
    (lambda: Normalization(axis=3, mean=0.5, variance=2), (8, 7, 3), (8, 7, 3), 6),
    (lambda: RandomFlip("vertical", seed=3), (8, 7, 3), (8, 7, 3), 0),
    (lambda: RandomCrop(5, 6), (8, 7, 3), (5, 6, 3), 0),
    (lambda: RandomRotation(0.2, fill_mode="constant", fill_value=9), (8, 7, 3), (8, 7, 3), 0),
    (lambda: RandomTranslation(0.2, (-0.1, 0.3)), (8, 7, 3), (8, 7, 3), 0),
    (lambda: RandomZoom((0.1, 0.2), interpolation="nearest"), (8, 7, 3), (8, 7, 3), 0),
    (lambda: ChannelPadding(5), (8, 7, 3), (8, 7, 8), 0),
    (lambda: ChannelPadding((1, 2)), (9,), (12,), 0),
]


@pytest.mark.parametrize(("make", "given", "expected", "count"), TABLE)
def test_shapes_and_parameter_counts(make, given, expected, count):
    layer = make()
    node = layer(Input(given))
    assert node.sample_shape == expected
    assert node.shape == (None, *expected) == layer.output_shape
    assert layer.input_shape == (None, *given)
    assert layer.output is node
    assert layer.count_params() == count == sum(w.size for w in layer.get_weights())


@pytest.mark.parametrize(("make", "given", "expected", "count"), TABLE)
def test_config_survives_json(make, given, expected, count):
    layer = make()
    config = json.loads(json.dumps(layer.get_config()))
    again = type(layer).from_config(config)
    assert json.loads(json.dumps(again.get_config())) == config
    assert again.name == layer.name
    assert again(Input(given)).sample_shape == expected
    assert layers.CLASSES[type(layer).__name__] is type(layer)


def test_config_keeps_initializers():
    layer = Conv2D(4, 3, kernel_initializer=initializers.HeNormal(seed=7), bias_initializer="ones")
    again = Conv2D.from_config(layer.get_config())
    for one in (layer, again):
        one(Input((5, 5, 2)))
    assert np.array_equal(layer.get_weights()[0], again.get_weights()[0])
    assert np.array_equal(again.get_weights()[1], np.ones(4))


def test_input_takes_kerass_arguments():
    node = Input(shape=(8, 8, 3), batch_size=4, dtype="uint8", name="picture")
    assert (node.name, node.shape) == ("picture", (None, 8, 8, 3))
    assert InputLayer.from_config(node.layer.get_config()).output.sample_shape == (8, 8, 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Conv2D(0, 3), "Conv2D: filters must be a positive integer, got 0"),
        (lambda: Conv2D(4, 0), "Conv2D: kernel_size must be one or two integers of at least 1, got 0"),
        (lambda: Conv2D(4, (3, 3, 3)), "Conv2D: kernel_size must be one or two integers"),
        (lambda: Conv2D(4, 3, strides=(1, 0)), "Conv2D: strides must be"),
        (lambda: Conv2D(4, 3, dilation_rate=0), "Conv2D: dilation_rate must be"),
        (lambda: Conv2D(4, 3, padding="full"), "Conv2D: padding must be 'same' or 'valid', got 'full'"),
        (lambda: Conv2D(4, 3, data_format="channels_first"), "data_format must be None or 'channels_last'"),
        (lambda: Conv2D(4, 3, groups=2), "Conv2D: groups is not supported yet and must be 1, got 2"),
        (lambda: Conv2D(4, 3, activity_regularizer="l2"), "activity_regularizer is not supported yet and must be None"),
        (lambda: Dense(4, kernel_constraint="x"), "Dense: kernel_constraint is not supported yet and must be None"),
        (lambda: Dense(4, kernel_regularizer="l3"), "regularizer must be one of l1, l2, l1_l2, a Regularizer or None"),
        (
            lambda: Conv2D(4, 3, activation="tanh"),
            "activation must be None or one of linear, relu, relu6, leaky_relu, sigmoid, softmax, got 'tanh'",
        ),
        (lambda: Dropout(1.0), "Dropout: rate must be a number in [0, 1), got 1.0"),
        (lambda: Dropout(-0.1), "Dropout: rate must be a number in [0, 1), got -0.1"),
        (lambda: Dropout(0.5, noise_shape=(None, 1)), "Dropout: noise_shape is not supported yet and must be None"),
        (lambda: Dropout(0.5, seed="x"), "Dropout: seed must be an integer or None, got 'x'"),
        (lambda: Conv2D(4, 3, algorithm="fft"), "algorithm must be None, 'direct' or 'winograd', got 'fft'"),
        (lambda: Dense(-1), "Dense: units must be a positive integer, got -1"),
        (lambda: Dense(True), "Dense: units must be a positive integer"),
        (lambda: MaxPooling2D((17, 17)), "pool_size must cover at most 256 pixels"),
        (lambda: BatchNormalization(momentum=1.5), "momentum must lie in [0, 1], got 1.5"),
        (lambda: BatchNormalization(epsilon=0), "epsilon must be positive, got 0"),
        (lambda: ReLU(max_value=-6), "ReLU: max_value must be a finite number of at least 0, got -6"),
        (lambda: ReLU(negative_slope=-0.1), "ReLU: negative_slope must be a finite number of at least 0, got -0.1"),
        (lambda: ReLU(threshold=None), "ReLU: threshold must be a finite number of at least 0, got None"),
        (lambda: LeakyReLU(-0.1), "LeakyReLU: negative_slope must be a finite number of at least 0, got -0.1"),
        (lambda: LeakyReLU(float("nan")), "negative_slope must be a finite number of at least 0, got nan"),
        (lambda: LeakyReLU(None), "negative_slope must be a finite number of at least 0, got None"),
        (
            lambda: GlobalMaxPooling2D("channels_first"),
            "GlobalMaxPooling2D: data_format must be None or 'channels_last', got 'channels_first'",
        ),
        (lambda: ZeroPadding2D(-1), "ZeroPadding2D: padding must be one or two integers of at least 0"),
        (lambda: ZeroPadding2D((1, 2, 3)), "padding must be one or two integers or two pairs"),
        (lambda: ChannelPadding(-1), "ChannelPadding: padding must be one or two integers of at least 0"),
        (lambda: Concatenate(axis="x"), "Concatenate: axis must be an integer, got 'x'"),
        (lambda: Rescaling("x"), "Rescaling: scale must be a number, got 'x'"),
        (lambda: Normalization(mean=1), "Normalization: mean and variance go together, got mean=1, variance=None"),
        (lambda: Normalization(mean=1, variance=-1), "Normalization: variance must not be negative, got -1"),
        (lambda: Normalization(mean="a", variance=1), "mean must be a finite number or one per channel, got 'a'"),
        (lambda: Normalization(axis=None), "Normalization: axis must be the last axis, -1, got None"),
        (lambda: Normalization(invert=True), "invert is not supported yet and must be False, got True"),
        (lambda: RandomFlip("diagonal"), "mode must be one of horizontal, vertical, horizontal_and_vertical, got"),
        (lambda: RandomFlip(seed=0.5), "RandomFlip: seed must be an integer or None, got 0.5"),
        (lambda: RandomCrop(0, 4), "RandomCrop: height must be a positive integer, got 0"),
        (lambda: RandomCrop(4, 4, data_format="channels_first"), "data_format must be None or 'channels_last'"),
        (lambda: RandomRotation(1.5), "RandomRotation: factor must be a number in [-1, 1] or two of them, got 1.5"),
        (lambda: RandomRotation((0.1, 0.2, 0.3)), "factor must be a number in [-1, 1] or two of them"),
        (lambda: RandomRotation(0.1, fill_mode="zero"), "fill_mode must be one of constant, nearest, reflect, wrap"),
        (lambda: RandomZoom(0.1, interpolation="cubic"), "interpolation must be 'bilinear' or 'nearest', got 'cubic'"),
        (lambda: RandomTranslation("a", 0.1), "height_factor must be a number in [-1, 1]"),
        (lambda: Input((None, None, 3)), "Input: shape must hold positive integers (sizes are fixed), got (None, None"),
        (lambda: Input(), "Input: shape must be given"),
        (lambda: ReLU(name="a/b"), "name must not contain '/'"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


@pytest.mark.parametrize(
    ("layer", "shapes", "message"),
    [
        (
            Conv2D(4, 3, name="c"),
            [(2, 8, 3)],
            "c: the window covers [3, 3] pixels but the padded input has only [2, 8]",
        ),
        (Conv2D(4, 3, name="c"), [(8,)], "c: takes samples of shape [H, W, C], got [8]"),
        (AveragePooling2D(2, name="avg_pool"), [(1, 1, 3)], "avg_pool: the window covers [2, 2] pixels"),
        (
            Dense(4, name="d"),
            [(2, 2, 3)],
            "d: takes samples of shape [C] (put Flatten or GlobalAveragePooling2D before)",
        ),
        (Add(name="a"), [(4, 4, 3)], "a: takes two or more inputs, got 1"),
        (Add(name="a"), [(4, 4, 3), (4, 4, 2)], "a: inputs must have one shape, got [4, 4, 3], [4, 4, 2]"),
        (Concatenate(name="c"), [(4, 4, 3)], "c: takes two or more inputs, got 1"),
        (Concatenate(name="c"), [(4, 4, 3), (4, 5, 3)], "c: inputs may differ along axis -1 only, got [4, 4, 3], [4"),
        (Concatenate(axis=1, name="c"), [(4, 4, 3), (4, 3)], "c: inputs may differ along axis 1 only"),
        (Concatenate(axis=0, name="c"), [(4,), (4,)], "c: axis must lie in 1..1 or -1..-1, got 0"),
        (Concatenate(axis=4, name="c"), [(4, 4, 3), (4, 4, 3)], "c: axis must lie in 1..3 or -3..-1, got 4"),
        (Concatenate(axis=-4, name="c"), [(4, 4, 3), (4, 4, 3)], "c: axis must lie in 1..3 or -3..-1, got -4"),
        (GlobalMaxPooling2D(name="g"), [(9,)], "g: takes samples of shape [H, W, C], got [9]"),
        (LeakyReLU(name="l"), [(4,), (4,)], "l: takes one input, got 2"),
        (ReLU(name="r"), [(4,), (4,)], "r: takes one input, got 2"),
        (Normalization(mean=[1, 2], variance=[1, 2], name="n"), [(4, 3)], "n: mean must be one number or 3, got [2]"),
        (RandomFlip(name="f"), [(4,)], "f: takes samples of shape [H, W, C], got [4]"),
        (Softmax(axis=1, name="s"), [(4, 4, 3)], "s: axis must be the last, -1 or 3, got 1"),
        (BatchNormalization(axis=1, name="b"), [(4, 4, 3)], "b: axis must be the last, -1 or 3, got 1"),
    ],
)
def test_shapes_that_do_not_fit_are_named(layer, shapes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        layer([Input(shape) for shape in shapes])


def test_calls_with_something_else_are_refused():
    with pytest.raises(TypeError, match="conv: called with ndarray, expected the output of another layer"):
        Conv2D(4, 3, name="conv")([np.zeros((1, 8, 8, 3))])
    with pytest.raises(TypeError, match="unknown argument 'nmae'"):
        ReLU(nmae="r")
    with pytest.raises(ValueError, match="training=True cannot be fixed in a graph"):
        ReLU()(Input((4,)), training=True)
    with pytest.raises(TypeError, match="an input layer cannot be called"):
        Input((4,)).layer(Input((4,)))


def test_a_shared_layer_keeps_its_weights_and_checks_later_inputs():
    layer = Dense(4, name="shared")
    first, second = layer(Input((6,))), layer(Input((6,)))
    assert layer.count_params() == 28
    assert first is not second
    with pytest.raises(AttributeError, match="shared has been called 2 times"):
        _ = layer.output
    with pytest.raises(ValueError, match=re.escape("kernel is [6, 4] from the first call, this input needs [5, 4]")):
        layer(Input((5,)))


def test_automatic_names_are_keras_names():
    names = {
        "Conv2D": "conv2d",
        "MaxPooling2D": "max_pooling2d",
        "GlobalAveragePooling2D": "global_average_pooling2d",
        "BatchNormalization": "batch_normalization",
        "ZeroPadding2D": "zero_padding2d",
        "GlobalMaxPooling2D": "global_max_pooling2d",
        "LeakyReLU": "leaky_re_lu",
        "ReLU": "re_lu",
        "Add": "add",
        "InputLayer": "input_layer",
        "Sequential": "sequential",
    }
    for class_name, stem in names.items():
        first, second = automatic_name(class_name), automatic_name(class_name)
        assert re.fullmatch(rf"{stem}(_\d+)?", first)
        assert int(second.rsplit("_", 1)[1]) == (int(first[len(stem) + 1 :]) if first != stem else 0) + 1


def test_weights_come_in_keras_order_and_freezing_moves_them():
    layer = BatchNormalization()
    layer(Input((3,)))
    assert [w.name for w in layer.weights] == ["gamma", "beta", "moving_mean", "moving_variance"]
    assert [w.name for w in layer.trainable_weights] == ["gamma", "beta"]
    layer.trainable = False
    assert layer.trainable_weights == []
    assert len(layer.non_trainable_weights) == 4
    assert layer.gamma.path == f"{layer.name}/gamma"


def test_set_weights_changes_all_or_nothing():
    layer = Dense(2, name="head", kernel_initializer="ones")
    layer(Input((3,)))
    before = layer.get_weights()
    with pytest.raises(ValueError, match=re.escape("head/bias is [2] but was given [3]")):
        layer.set_weights([np.zeros((3, 2)), np.zeros(3)])
    with pytest.raises(ValueError, match="head has 2 weights but 1 arrays were given"):
        layer.set_weights([np.zeros((3, 2))])
    assert all(np.array_equal(a, b) for a, b in zip(before, layer.get_weights(), strict=True))
    version = int(layer.kernel.version[0])
    layer.set_weights([np.full((3, 2), 2.5), np.array([1, 2])])
    assert np.array_equal(layer.get_weights()[0], np.full((3, 2), 2.5))
    assert layer.kernel.version[0] == version + 1
    layer.get_weights()[0][:] = 9  # a copy
    assert layer.get_weights()[0].max() == 2.5


def test_same_padding_has_the_smaller_half_before():
    assert window_padding((224, 224), (7, 7), (2, 2), "same") == ((2, 3), (2, 3))
    assert window_padding((8, 7), (3, 3), (2, 2), "same") == ((0, 1), (1, 1))
    assert window_padding((8, 8), (2, 2), (2, 2), "same") == ((0, 0), (0, 0))
    assert window_padding((8, 8), (1, 1), (3, 3), "same") == ((0, 0), (0, 0))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_aliases_are_the_same_classes():
    assert layers.MaxPool2D is MaxPooling2D
    assert layers.AvgPool2D is AveragePooling2D
    assert layers.GlobalMaxPool2D is GlobalMaxPooling2D
    assert layers.Convolution2D is Conv2D


REGULARIZERS = dict.fromkeys(
    ("kernel_regularizer", "bias_regularizer", "activity_regularizer", "kernel_constraint", "bias_constraint")
)
WEIGHTS = {"use_bias": True, "kernel_initializer": "glorot_uniform", "bias_initializer": "zeros"}
REQUIRED = inspect.Parameter.empty
WARPS = {
    "fill_mode": "reflect",
    "interpolation": "bilinear",
    "seed": None,
    "fill_value": 0.0,
    "data_format": None,
}
KERAS = {
    Conv2D: {
        "filters": REQUIRED,
        "kernel_size": REQUIRED,
        "strides": (1, 1),
        "padding": "valid",
        "data_format": None,
        "dilation_rate": (1, 1),
        "groups": 1,
        "activation": None,
        **WEIGHTS,
        **REGULARIZERS,
    },
    Dense: {"units": REQUIRED, "activation": None, **WEIGHTS, **REGULARIZERS},
    MaxPooling2D: {"pool_size": (2, 2), "strides": None, "padding": "valid", "data_format": None},
    AveragePooling2D: {"pool_size": (2, 2), "strides": None, "padding": "valid", "data_format": None},
    GlobalAveragePooling2D: {"data_format": None, "keepdims": False},
    GlobalMaxPooling2D: {"data_format": None, "keepdims": False},
    ZeroPadding2D: {"padding": (1, 1), "data_format": None},
    Flatten: {"data_format": None},
    Activation: {"activation": REQUIRED},
    ReLU: {"max_value": None, "negative_slope": 0.0, "threshold": 0.0},
    LeakyReLU: {"negative_slope": 0.3},
    Softmax: {"axis": -1},
    Rescaling: {"scale": REQUIRED, "offset": 0.0},
    Concatenate: {"axis": -1},
    Dropout: {"rate": REQUIRED, "noise_shape": None, "seed": None},
    BatchNormalization: {
        "axis": -1,
        "momentum": 0.99,
        "epsilon": 0.001,
        "center": True,
        "scale": True,
        "beta_initializer": "zeros",
        "gamma_initializer": "ones",
        "moving_mean_initializer": "zeros",
        "moving_variance_initializer": "ones",
        "beta_regularizer": None,
        "gamma_regularizer": None,
        "beta_constraint": None,
        "gamma_constraint": None,
        "synchronized": False,
    },
    Normalization: {"axis": -1, "mean": None, "variance": None, "invert": False},
    RandomCrop: {"height": REQUIRED, "width": REQUIRED, "seed": None, "data_format": None},
    RandomFlip: {"mode": "horizontal_and_vertical", "seed": None, "data_format": None},
    RandomRotation: {"factor": REQUIRED} | WARPS,
    RandomTranslation: {"height_factor": REQUIRED, "width_factor": REQUIRED} | WARPS,
    RandomZoom: {"height_factor": REQUIRED, "width_factor": None} | WARPS,
}


def test_every_layer_is_in_both_tables():
    shown = {type(make()) for make, *_ in TABLE}
    one_input = set(layers.CLASSES.values()) - {InputLayer, Add, Concatenate}
    assert one_input - shown == set()
    assert one_input - set(KERAS) == {ChannelPadding}  # fastcnn's own


@pytest.mark.parametrize("cls", KERAS)
def test_arguments_are_those_of_keras_in_the_same_order(cls: type[Layer]):
    own = {
        name: parameter.default
        for name, parameter in inspect.signature(cls.__init__).parameters.items()
        if name not in ("self", "options")
    }
    keras = KERAS[cls]
    assert list(own)[: len(keras)] == list(keras)
    assert {name: own[name] for name in keras} == keras
    assert set(own) - set(keras) <= {"algorithm"}  # fastcnn's own


@pytest.mark.parametrize(("axis", "expected"), [(-1, (4, 5, 6)), (3, (4, 5, 6))])
def test_concatenate_keeps_its_axis(axis: int, expected: tuple[int, ...]):
    layer = Concatenate(axis=axis)
    assert layer([Input((4, 5, 2)), Input((4, 5, 3)), Input((4, 5, 1))]).sample_shape == expected
    again = Concatenate.from_config(layer.get_config())
    assert again([Input((4, 5, 2)), Input((4, 5, 4))]).sample_shape == expected
    rows = Concatenate(axis=1)([Input((4, 5, 2)), Input((2, 5, 2))])
    assert rows.sample_shape == (6, 5, 2)
