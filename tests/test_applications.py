from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn import applications
from fastcnn.applications import imagenet_utils
from fastcnn.layers import Add, BatchNormalization, Conv2D, Dense, Dropout, Input, Rescaling
from fastcnn.models import Model

# name: parameters in Keras' form, without top, not trainable, trainable in torchvision's form, layers with the input
COUNTS = {
    "VGG16": (138_357_544, 14_714_688, 0, 138_357_544, 23),
    "VGG19": (143_667_240, 20_024_384, 0, 143_667_240, 26),
    "VGG16_BN": (138_374_440, 14_731_584, 8_448, 138_365_992, 49),
    "VGG19_BN": (143_689_256, 20_046_400, 11_008, 143_678_248, 58),
    "ResNet18": (11_703_912, 11_190_912, 9_600, 11_689_512, 74),
    "ResNet34": (21_823_208, 21_310_208, 17_024, 21_797_672, 130),
    "ResNet50": (25_636_712, 23_587_712, 53_120, 25_557_032, 177),
    "ResNet101": (44_707_176, 42_658_176, 105_344, 44_549_160, 347),
    "ResNet152": (60_419_944, 58_370_944, 151_424, 60_192_808, 517),
}


def build(application: str, **arguments: Any) -> Model:
    if application.endswith("_BN"):
        application, arguments = application[:-3], {"batch_norm": True, **arguments}
    model: Model = getattr(applications, application)(weights=None, **arguments)
    return model


def trainable(model: Model) -> int:
    return sum(parameter.size for parameter in model.trainable_weights)


@pytest.mark.parametrize("name", COUNTS)
def test_counts(name: str) -> None:
    total, without_top, fixed, torchvision, layers = COUNTS[name]
    model = build(name)
    assert model.count_params() == total
    assert total - trainable(model) == fixed
    assert len(model.layers) == layers
    assert model.input_shape == (None, 224, 224, 3)
    assert model.output_shape == (None, 1000)
    assert model.name == name.lower()
    bare = build(name, include_top=False, input_shape=(96, 64, 3))
    assert bare.count_params() == without_top
    assert bare.output_shape == (None, 3, 2, 512 if total > 1e8 or int(name[6:]) < 50 else 2048)
    assert (
        build(name, include_top=False, pooling="avg", input_shape=(32, 32, 1)).output_shape[1:] == bare.output_shape[3:]
    )
    other = build(name, variant="torchvision")
    assert trainable(other) == torchvision
    assert other.output_shape == (None, 1000)


def test_seed_resnet50() -> None:
    model = applications.ResNet50Seed()
    assert model.count_params() == 23_600_006
    assert trainable(model) == 23_546_886
    assert len(model.layers) == 177
    assert model.name == "ResNet50"
    shapes = {
        "conv1": (None, 32, 32, 64),
        "res2a_branch1": (None, 15, 15, 256),
        "res3d_branch2b": (None, 8, 8, 128),
        "bn4f_branch2c": (None, 4, 4, 1024),
        "res5c_branch2c": (None, 2, 2, 2048),
        "avg_pool": (None, 1, 1, 2048),
        "fc6": (None, 6),
    }
    assert {name: model.get_layer(name).output_shape for name in shapes} == shapes
    assert sum(layer.count_params() for layer in model.layers if layer.name == "fc6") == 12_294
    assert {n.epsilon for n in model.layers if isinstance(n, BatchNormalization)} == {1e-3}


def test_seed_resnet50_names_the_layer_that_does_not_fit() -> None:
    with pytest.raises(ValueError, match="avg_pool"):
        applications.ResNet50Seed((32, 32, 3))


def test_seed_resnet50_arguments() -> None:
    x = Rescaling(1 / 127.5, offset=-1)(Input((64, 64, 3)))
    model = applications.ResNet50Seed(classes=3, momentum=0.9, input_tensor=x)
    assert model.output_shape == (None, 3)
    assert model.layers[-1].name == "fc3"
    assert {n.momentum for n in model.layers if isinstance(n, BatchNormalization)} == {0.9}


def test_vgg16_layer_names() -> None:
    names = [layer.name for layer in build("VGG16").layers][1:]
    expected = []
    for block, count in enumerate((2, 2, 3, 3, 3), 1):
        expected += [f"block{block}_conv{i + 1}" for i in range(count)] + [f"block{block}_pool"]
    assert names == [*expected, "flatten", "fc1", "fc2", "predictions"]


def test_torchvisions_vgg_has_dropout() -> None:
    names = [layer.name for layer in build("VGG19", variant="torchvision").layers][-6:]
    assert names == ["flatten", "fc1", "drop1", "fc2", "drop2", "predictions"]
    drop = build("VGG16", variant="torchvision").get_layer("drop2")
    assert isinstance(drop, Dropout)
    assert drop.rate == 0.5


@pytest.mark.parametrize(("variant", "numbers"), [("keras", (1.001e-5, 0.99)), ("torchvision", (1e-5, 0.9))])
def test_vgg16_with_batch_norm(variant: str, numbers: tuple[float, float]) -> None:
    """Convolution with bias, normalisation, ReLU, as in torchvision's vgg16_bn."""
    model = build("VGG16_BN", variant=variant, include_top=False, input_shape=(32, 32, 3))
    names = [layer.name for layer in model.layers][1:8]
    first = [f"block1_{part}{i}" for i in (1, 2) for part in ("conv", "bn", "relu")]
    assert names == [*first, "block1_pool"]
    assert all(layer.use_bias and layer.activation == "linear" for layer in model.layers if isinstance(layer, Conv2D))
    norms = [layer for layer in model.layers if isinstance(layer, BatchNormalization)]
    assert len(norms) == 13
    assert {(n.epsilon, n.momentum) for n in norms} == {numbers}


# depth: trainable parameters of option A (He et al. 2015, table 6, gives 0.27, 0.46, 0.66, 0.85, 1.7 and 19.4 million)
CIFAR = {20: 269_722, 32: 464_154, 44: 658_586, 56: 853_018, 110: 1_727_962, 1202: 19_421_274}


@pytest.mark.parametrize("depth", CIFAR)
def test_cifar_resnets(depth: int) -> None:
    model = applications.cifar_resnet(depth)
    assert trainable(model) == CIFAR[depth]
    assert model.output_shape == (None, 10)
    shapes = [model.get_layer(f"conv{stage}_block1_out").output_shape for stage in (2, 3, 4)]
    assert shapes == [(None, 32, 32, 16), (None, 16, 16, 32), (None, 8, 8, 64)]
    weighted = [layer for layer in model.layers if isinstance(layer, Conv2D | Dense)]
    assert len(weighted) == depth  # option A adds none
    plain = applications.cifar_resnet(depth, residual=False)
    assert trainable(plain) == CIFAR[depth]
    assert not any(isinstance(layer, Add) for layer in plain.layers)
    assert sum(isinstance(layer, Add) for layer in model.layers) == (depth - 2) // 2
    projected = applications.cifar_resnet(depth, shortcut="B")
    assert trainable(projected) == CIFAR[depth] + 16 * 32 + 32 * 64 + 2 * (32 + 64)


def test_option_a_takes_every_second_pixel_and_adds_zeros() -> None:
    model = applications.cifar_resnet(8, input_shape=(6, 7, 3))
    shortcut = model.get_layer("conv3_block1_0_pad")
    inner = Model(model.input, [shortcut.input, shortcut.output, model.get_layer("conv2_block1_out").output])
    small, wide, before = inner.predict(np.random.default_rng(0).standard_normal((2, 6, 7, 3)))
    assert np.array_equal(small, before[:, ::2, ::2])
    assert np.array_equal(wide[..., :16], small)
    assert wide.shape == (2, 3, 4, 32)
    assert not wide[..., 16:].any()


@pytest.mark.parametrize("residual", [True, False])
def test_1202_layers_train(residual: bool) -> None:
    """Nothing is recursive in depth: the graph, its plan, its table and its configuration are made, a step runs."""
    fastcnn.set_random_seed(0)
    model = applications.cifar_resnet(1202, residual=residual, input_shape=(8, 8, 3))
    lines: list[str] = []
    model.summary(print_fn=lines.append)
    assert len(lines) > len(model.layers) > (4000 if residual else 3600)
    again = Model.from_config(model.get_config())
    assert [layer.name for layer in again.layers] == [layer.name for layer in model.layers]
    model.compile("sgd", "sparse_categorical_crossentropy")
    x = np.random.default_rng(0).standard_normal((2, 8, 8, 3))
    assert model.predict(x).shape == (2, 10)  # moving statistics that nobody has moved yet scale nothing down
    before = model.get_layer("conv2_block1_1_conv").get_weights()[0]
    assert np.isfinite(model.train_on_batch(x, [0, 1]))
    after = model.get_layer("conv2_block1_1_conv").get_weights()[0]
    assert not np.array_equal(before, after)
    if residual:  # without shortcuts, gradients grow by a fifth per normalised layer (Yang et al. 2019): beyond float32
        assert np.isfinite(after).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 18}, r"cifar_resnet: depth must be 6n\+2 for an n of at least 1 \(8, 14, 20...\), got 18"),
        ({"depth": 2}, "depth must be 6n.*got 2"),
        ({"depth": 20, "shortcut": "C"}, "cifar_resnet: shortcut must be 'A' or 'B', got 'C'"),
        ({"depth": 20, "classes": 0}, "cifar_resnet: classes must be an integer of at least 1, got 0"),
        ({"depth": 20, "input_shape": (3, 32, 3)}, r"must be \(H, W, C\) of at least 4 x 4 pixels, got \(3, 32, 3\)"),
    ],
)
def test_cifar_resnet_refuses(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        applications.cifar_resnet(**arguments)


def test_cifar_resnet_on_an_input_tensor() -> None:
    x = Rescaling(1 / 255, name="scale")(Input((16, 16, 3)))
    model = applications.cifar_resnet(8, classes=3, input_tensor=x, classifier_activation=None, name="tiny")
    assert (model.name, model.input_shape, model.output_shape) == ("tiny", (None, 16, 16, 3), (None, 3))
    assert model.layers[1].name == "scale"
    with pytest.raises(ValueError, match=r"input_shape is \[32, 32, 3\] but input_tensor has \[16, 16, 3\]"):
        applications.cifar_resnet(8, input_shape=(32, 32, 3), input_tensor=x)


def test_resnet50_layer_names() -> None:
    """The names and shapes of keras.applications, in the order in which its graph is written."""
    model = build("ResNet50")
    names = {layer.name for layer in model.layers}
    expected = {"conv1_pad", "conv1_conv", "conv1_bn", "conv1_relu", "pool1_pad", "pool1_pool"}
    for stage, depth in zip((2, 3, 4, 5), (3, 4, 6, 3), strict=True):
        for block in range(1, depth + 1):
            prefix = f"conv{stage}_block{block}_"
            expected |= {f"{prefix}{k}_{part}" for k in (1, 2) for part in ("conv", "bn", "relu")}
            expected |= {f"{prefix}{part}" for part in ("3_conv", "3_bn", "add", "out")}
            if block == 1:
                expected |= {f"{prefix}0_conv", f"{prefix}0_bn"}
    assert names - {model.layers[0].name} == expected | {"avg_pool", "predictions"}
    assert model.get_layer("pool1_pool").output_shape == (None, 56, 56, 64)
    assert model.get_layer("conv5_block3_out").output_shape == (None, 7, 7, 2048)


def conv(model: Model, name: str) -> Conv2D:
    layer = model.get_layer(name)
    assert isinstance(layer, Conv2D)
    return layer


@pytest.mark.parametrize(
    ("variant", "strides", "bias", "epsilon", "momentum"),
    [("keras", ((2, 2), (1, 1)), True, 1.001e-5, 0.99), ("torchvision", ((1, 1), (2, 2)), False, 1e-5, 0.9)],
)
def test_bottleneck_variants(
    variant: str, strides: tuple[object, object], bias: bool, epsilon: float, momentum: float
) -> None:
    model = build("ResNet50", variant=variant)
    assert (conv(model, "conv3_block1_1_conv").strides, conv(model, "conv3_block1_2_conv").strides) == strides
    assert conv(model, "conv3_block1_0_conv").strides == (2, 2)
    assert conv(model, "conv2_block1_1_conv").strides == (1, 1)
    assert {n.use_bias for n in model.layers if isinstance(n, Conv2D)} == {bias}
    norms = [layer for layer in model.layers if isinstance(layer, BatchNormalization)]
    assert {(n.epsilon, n.momentum) for n in norms} == {(epsilon, momentum)}
    padded = [layer.name for layer in model.layers if layer.name.endswith("_2_pad")]
    assert padded == ([] if variant == "keras" else [f"conv{stage}_block1_2_pad" for stage in (3, 4, 5)])
    assert model.get_layer("conv3_block1_2_conv").output_shape == (None, 28, 28, 128)


@pytest.mark.parametrize("variant", ["keras", "torchvision"])
def test_basic_block(variant: str) -> None:
    """The stride is in the first 3x3, which pads one pixel on each side; only a wider stage projects its shortcut."""
    model = build("ResNet34", variant=variant)
    assert conv(model, "conv4_block1_1_conv").strides == (2, 2)
    assert conv(model, "conv4_block1_1_conv").padding == "valid"
    assert model.get_layer("conv4_block1_1_pad").output_shape == (None, 30, 30, 128)
    assert conv(model, "conv4_block1_2_conv").padding == "same"
    names = {layer.name for layer in model.layers}
    assert "conv2_block1_0_conv" not in names
    assert "conv4_block1_0_conv" in names


def test_pooling_classes_and_activation() -> None:
    for pooling in ("avg", "max"):
        pooled = build("ResNet18", include_top=False, pooling=pooling)
        assert pooled.output_shape == (None, 512)
        assert pooled.layers[-1].name == f"{pooling}_pool"
    model = build("ResNet18", classes=7, classifier_activation=None, input_shape=(64, 64, 1), name="small")
    assert model.name == "small"
    assert model.output_shape == (None, 7)
    assert model.input_shape == (None, 64, 64, 1)
    assert model.get_layer("predictions").get_config()["activation"] in (None, "linear")


def test_input_tensor_brings_its_own_input() -> None:
    x = Rescaling(1 / 127.5, offset=-1, name="scale")(Input((64, 64, 3)))
    model = build("ResNet18", input_tensor=x, classes=5)
    assert [layer.name for layer in model.layers][1] == "scale"
    assert model.input_shape == (None, 64, 64, 3)


def test_weights_from_a_file(tmp_path: Path) -> None:
    first = build("ResNet18", include_top=False, input_shape=(32, 32, 3))
    first.save_weights(tmp_path / "w.safetensors")
    second = applications.ResNet18(False, tmp_path / "w.safetensors", input_shape=(32, 32, 3))
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weights": "imagenet"}, 'ResNet18: weights="imagenet" would be a download'),
        ({"variant": "timm"}, r"variant must be one of \('keras', 'torchvision'\), got 'timm'"),
        ({"pooling": "sum"}, "pooling must be None, 'avg' or 'max', got 'sum'"),
        ({"classes": 0}, "classes must be an integer of at least 1, got 0"),
        ({"input_shape": (31, 64, 3)}, r"input_shape must be \(H, W, C\) of at least 32 x 32 .*got \(31, 64, 3\)"),
        ({"input_shape": (64, 64)}, r"got \(64, 64\)"),
        ({"input_shape": (64, 64, 3), "input_tensor": "x"}, r"input_shape is \[64, 64, 3\] .*has \[32, 32, 3\]"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    if "input_tensor" in arguments:
        arguments = arguments | {"input_tensor": Input((32, 32, 3))}
    with pytest.raises(ValueError, match=message):
        applications.ResNet18(**({"weights": None} | arguments))


def test_torchvision_vgg_needs_its_own_size() -> None:
    with pytest.raises(ValueError, match=r"VGG16: variant='torchvision' .* takes pictures of 224 x 224 .*got 64 x 96"):
        build("VGG16", variant="torchvision", input_shape=(64, 96, 3))
    assert build("VGG16", variant="torchvision", include_top=False, input_shape=(64, 96, 3)).count_params() > 0


def test_missing_weights_file() -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.safetensors"):
        applications.ResNet18(weights="nowhere.safetensors", input_shape=(32, 32, 3))


def test_signature_is_that_of_keras() -> None:
    parameters = inspect.signature(applications.ResNet50).parameters.values()
    assert [(parameter.name, parameter.default) for parameter in parameters] == [
        ("include_top", True),
        ("weights", "imagenet"),
        ("input_tensor", None),
        ("input_shape", None),
        ("pooling", None),
        ("classes", 1000),
        ("classifier_activation", "softmax"),
        ("name", None),
        ("variant", "keras"),
    ]


def test_import_paths_of_keras() -> None:
    assert applications.vgg16.VGG16 is applications.VGG16
    assert applications.vgg19.VGG19 is applications.VGG19
    assert applications.resnet50.ResNet50 is applications.ResNet50
    assert applications.resnet.ResNet101 is applications.ResNet101
    for module in (applications.vgg16, applications.vgg19, applications.resnet50, applications.resnet):
        assert module.preprocess_input is imagenet_utils.preprocess_input
        assert module.decode_predictions is imagenet_utils.decode_predictions


X = np.arange(2 * 3 * 4 * 3, dtype=np.float32).reshape(2, 3, 4, 3)
PREPARED = {
    "caffe": X[..., ::-1] - np.array([103.939, 116.779, 123.68], np.float32),
    "tf": X / np.float32(127.5) - 1,
    "torch": (X / 255.0 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225],
}


@pytest.mark.parametrize("mode", PREPARED)
def test_preprocess_input(mode: str) -> None:
    x = X.copy()
    y = imagenet_utils.preprocess_input(x, mode=mode)
    assert y.dtype == np.float32
    assert y.flags.c_contiguous
    assert np.array_equal(x, X)  # Keras overwrites it
    np.testing.assert_allclose(y, PREPARED[mode], rtol=1e-5)
    np.testing.assert_array_equal(imagenet_utils.preprocess_input(X[0].astype(np.uint8), mode=mode), y[0])
    first = imagenet_utils.preprocess_input(X.transpose(0, 3, 1, 2), data_format="channels_first", mode=mode)
    np.testing.assert_array_equal(first, y.transpose(0, 3, 1, 2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "bgr"}, "mode must be one of caffe, tf, torch, got 'bgr'"),
        ({"data_format": "nchw"}, "data_format must be None, 'channels_last' or 'channels_first', got 'nchw'"),
    ],
)
def test_preprocess_input_refuses(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        imagenet_utils.preprocess_input(X, **arguments)


def test_preprocess_input_needs_three_channels() -> None:
    with pytest.raises(ValueError, match=r"x must be \[\.\.\., H, W, 3\], got \[2, 3, 4, 1\]"):
        imagenet_utils.preprocess_input(X[..., :1])
    with pytest.raises(ValueError, match=r"x must be \[\.\.\., 3, H, W\], got \[2, 4, 3, 3\]"):
        imagenet_utils.preprocess_input(X.transpose(0, 2, 1, 3), data_format="channels_first")


def test_the_class_list() -> None:
    classes = imagenet_utils.imagenet_classes()
    synsets = [synset for synset, _ in classes]
    assert len(classes) == 1000 == len(set(synsets))
    assert synsets == sorted(synsets)
    assert all(re.fullmatch(r"n\d{8}", synset) for synset in synsets)
    assert all(re.fullmatch(r"[A-Za-z][A-Za-z'._-]*", name) for _, name in classes)
    assert classes[0] == ("n01440764", "tench")
    assert classes[281] == ("n02123045", "tabby")
    assert classes[985] == ("n11939491", "daisy")
    assert classes[999] == ("n15075141", "toilet_tissue")


def test_decode_predictions() -> None:
    scores = np.zeros((2, 1000), np.float32)
    scores[0, [281, 7, 999]] = [0.5, 0.125, 0.25]
    scores[1, 3] = 1
    first, second = imagenet_utils.decode_predictions(scores, top=3)
    assert first == [
        ("n02123045", "tabby", 0.5),
        ("n15075141", "toilet_tissue", 0.25),
        ("n01514668", "cock", 0.125),
    ]
    assert [name for _, name, _ in second] == ["tiger_shark", "tench", "goldfish"]  # equal scores in order
    assert [len(row) for row in imagenet_utils.decode_predictions(scores)] == [5, 5]


@pytest.mark.parametrize(
    ("shape", "top", "message"),
    [
        ((2, 999), 5, r"decode_predictions: preds must be \[N, 1000\], got \[2, 999\]"),
        ((1000,), 5, r"preds must be \[N, 1000\], got \[1000\]"),
        ((1, 1000), 0, "top must be an integer from 1 to 1000, got 0"),
        ((1, 1000), 1001, "top must be an integer from 1 to 1000, got 1001"),
    ],
)
def test_decode_predictions_refuses(shape: tuple[int, ...], top: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        imagenet_utils.decode_predictions(np.zeros(shape), top)
