"""Plots that need matplotlib: what is drawn is what was given, and what cannot be drawn is refused by name."""

from __future__ import annotations

import builtins
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastcnn import applications, plots
from fastcnn.layers import Conv2D, Dense, Flatten, GlobalAveragePooling2D, Input, MaxPooling2D
from fastcnn.models import Model, Sequential

MATRIX = np.array([[5, 1, 0], [0, 4, 0], [2, 0, 0]])


def small() -> Sequential:
    return Sequential(
        [
            Input((12, 12, 3)),
            Conv2D(6, 3, name="first"),
            MaxPooling2D(name="pool"),
            Conv2D(20, 3, name="second"),
            GlobalAveragePooling2D(name="mean"),
            Dense(2, name="head"),
        ]
    )


def opened(path: Path) -> np.ndarray[Any, Any]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


# -- confusion matrix --------------------------------------------------------------------------------------------------


def test_confusion_matrix_shows_counts_and_shares(tmp_path: Path) -> None:
    figure = plots.confusion_matrix(MATRIX, ["cat", "dog", "eel"], tmp_path / "m.png")
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.texts] == [
        *("5\n83%", "1\n17%", "0"),
        *("0", "4\n100%", "0"),
        *("2\n100%", "0", "0"),
    ]
    shares = np.asarray(axes.images[0].get_array())
    assert np.allclose(shares, [[5 / 6, 1 / 6, 0], [0, 1, 0], [1, 0, 0]])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["cat", "dog", "eel"]
    assert axes.get_title() == "75.0% of 12 right"
    assert opened(tmp_path / "m.png").std() > 0


def test_confusion_matrix_counts_samples() -> None:
    truth, scores = [0, 0, 1, 2], np.eye(3)[[0, 1, 1, 0]]
    for taken in (scores, scores.argmax(axis=1)):
        axes = plots.confusion_matrix((truth, taken), ["cat", "dog", "eel"]).axes[0]
        assert np.asarray(axes.images[0].get_array()).tolist() == [[0.5, 0.5, 0], [0, 1, 0], [1, 0, 0]]
        assert axes.get_title() == "50.0% of 4 right"
    assert len(plots.confusion_matrix((truth, [0, 1, 1, 0])).axes[0].texts) == 9  # as many classes as were seen


def test_confusion_matrix_of_a_hundred_classes() -> None:
    matrix = np.diag(np.arange(1, 101) * 1000)
    matrix[3, 97] = 7
    names = [f"class {i}" for i in range(100)]
    figure = plots.confusion_matrix(matrix, names)
    axes = figure.axes[0]
    texts = {text.get_position(): text for text in axes.texts}
    assert len(texts) == 101  # a cell of nothing stays empty
    assert texts[97, 3].get_text() == "7"
    assert [label.get_text() for label in axes.get_yticklabels()] == names
    figure.draw_without_rendering()
    cell = axes.transData.transform([(0, 0), (1, 1)])
    width = abs(cell[1] - cell[0])[0]
    assert texts[99, 99].get_text() == "100000"
    assert texts[99, 99].get_window_extent().width <= width  # the longest stays in its cell
    labels = [label.get_window_extent() for label in axes.get_yticklabels()]
    assert all(not a.overlaps(b) for a, b in pairwise(labels))


def test_confusion_matrix_of_many_classes_and_of_none_seen() -> None:
    figure = plots.confusion_matrix(np.eye(101, dtype=int))
    assert list(figure.axes[0].texts) == []
    assert plots.confusion_matrix(np.zeros((2, 2))).axes[0].get_title() == "nothing counted"


@pytest.mark.parametrize(
    ("matrix", "names", "message"),
    [
        (np.zeros((2, 3)), None, r"matrix must be \[K, K\] counts of at least 0, got \[2, 3\]"),
        (np.zeros((0, 0)), None, r"got \[0, 0\]"),
        (-MATRIX, None, "counts of at least 0"),
        (np.full((2, 2), np.inf), None, "finite counts of at least 0"),
        ([["a"]], None, "counts of at least 0, got <U1"),
        (MATRIX, ["a", "b"], "3 classes need as many names, got 2"),
        (([], []), None, "y_true must hold at least one label, got none"),
        (([0, 1], [0]), None, "y_true has 2 rows but y_pred has 1"),
        (([0, 2], [0, 1]), ["a", "b"], r"must be in 0\.\.1, got 3 classes"),
    ],
)
def test_confusion_matrix_refuses(matrix: Any, names: Any, message: str) -> None:
    with pytest.raises(ValueError, match=rf"plots\.confusion_matrix: .*{message}"):
        plots.confusion_matrix(matrix, names)


# -- gradients ---------------------------------------------------------------------------------------------------------


def test_gradient_norms_of_one_and_of_several_runs(tmp_path: Path) -> None:
    one = {"a/kernel": 0.5, "b/kernel": 2.0}
    axes = plots.gradient_norms(one, tmp_path / "g.png").axes[0]
    assert axes.lines[0].get_ydata().tolist() == [0.5, 2.0]
    assert axes.get_yscale() == "log"
    assert [label.get_text() for label in axes.get_xticklabels()] == list(one)
    assert opened(tmp_path / "g.png").std() > 0
    axes = plots.gradient_norms({"plain": one, "residual": {"a/kernel": 1.0, "c/kernel": 1.5, "d/kernel": 1.0}}).axes[0]
    assert [line.get_label() for line in axes.lines] == ["plain", "residual"]
    assert "a/kernel" not in [label.get_text() for label in axes.get_xticklabels()]  # theirs are not the same weights


def test_gradient_norms_of_a_model() -> None:
    inputs = Input((6, 6, 1))
    model = Model(inputs, Dense(2, activation="softmax", name="head")(Flatten()(Conv2D(2, 3, name="conv")(inputs))))
    model.compile("sgd", "sparse_categorical_crossentropy")
    norms = model.gradient_norms(np.ones((2, 6, 6, 1)), [0, 1])
    assert plots.gradient_norms(norms).axes[0].lines[0].get_ydata().tolist() == list(norms.values())


def test_gradient_norms_of_zero_fall_out_of_the_plot(tmp_path: Path) -> None:
    axes = plots.gradient_norms({"a": 1.0, "b": 0.0, "c": 0.1}, tmp_path / "g.png").axes[0]
    assert 0 < axes.get_ylim()[0] <= 0.1
    axes = plots.gradient_norms({"a": 0.0, "b": 0.0}, tmp_path / "g.png").axes[0]
    assert axes.get_yscale() == "linear"  # there is nothing for a logarithmic one


@pytest.mark.parametrize("norms", [{"a": 1.0, "run": {"a": 1.0}}, {"run": {"a": 1.0}, "a": 1.0}])
def test_gradient_norms_refuses_numbers_among_runs(norms: Any) -> None:
    with pytest.raises(ValueError, match=r"norms must all be numbers or all be runs, 'a' is 1\.0"):
        plots.gradient_norms(norms)


@pytest.mark.parametrize("norms", [{}, {"a": -1.0}, {"a": np.nan}, {"a": "b"}, {"run": {"a": np.inf}}, {"run": {}}])
def test_gradient_norms_refuses(norms: Any) -> None:
    with pytest.raises(ValueError, match=r"plots\.gradient_norms: norms.* must be finite numbers of at least 0"):
        plots.gradient_norms(norms)


# -- filters and feature maps ------------------------------------------------------------------------------------------


def test_filters_are_stretched_and_in_colour(tmp_path: Path) -> None:
    model = small()
    axes = plots.filters(model, tmp_path / "f.png").axes[0]
    grid = np.asarray(axes.images[0].get_array())
    assert grid.shape == (2 * 3 + 1, 3 * 3 + 2, 3)  # six filters of 3x3 in two rows of three
    kernel = model.get_layer("first").get_weights()[0]
    tile = kernel[:, :, :, 4]
    assert np.allclose(grid[4:7, 4:7], (tile - tile.min()) / (tile.max() - tile.min()), atol=1e-6)
    assert axes.get_title() == "first: 6 of 6 filters 3 x 3 x 3"
    with pytest.raises(ValueError, match=r"plots\.filters: head has no Conv2D layer"):
        plots.filters(model.get_layer("head"))


def test_filters_of_other_channels_are_grey_slices() -> None:
    layer = small().get_layer("second")
    axes = plots.filters(layer, count=7, channels=4).axes[0]
    assert axes.get_title() == "second: 7 of 20 filters 3 x 3 x 6, channels 0 to 3 from left to right"
    grid = np.asarray(axes.images[0].get_array())
    assert grid.shape == (4 * 3 + 3 * 2, 2 * 15 + 2)  # strips of 3 x 15, two side by side
    kernel = layer.get_weights()[0][..., 3]  # in the second row on the right
    slices = (kernel - kernel.min()) / (kernel.max() - kernel.min())
    for c in range(4):
        assert np.allclose(grid[5:8, 17 + 4 * c : 20 + 4 * c], slices[..., c], atol=1e-6)
    assert (grid[5:8, 20] == 1).all()
    grey = Sequential([Input((6, 6, 1)), Conv2D(4, 3, name="grey", kernel_initializer="zeros")])
    axes = plots.filters(grey).axes[0]
    assert axes.get_title() == "grey: 4 of 4 filters 3 x 3 x 1"
    assert (np.asarray(axes.images[0].get_array())[:3, :3] == 0.5).all()  # the same everywhere


def test_filters_refuses() -> None:
    with pytest.raises(ValueError, match=r"plots\.filters: count must be at least 1, got 0"):
        plots.filters(small(), count=0)
    with pytest.raises(ValueError, match=r"plots\.filters: channels must be at least 1, got 0"):
        plots.filters(small(), channels=0)
    with pytest.raises(ValueError, match=r"plots\.filters: conv has no Conv2D layer with weights"):
        plots.filters(Conv2D(2, 3, name="conv"))
    with pytest.raises(ValueError, match=r"plots\.filters: 'model' has no Conv2D layer"):
        plots.filters("model")  # type: ignore[arg-type]


def test_feature_maps_are_what_the_layers_make(tmp_path: Path) -> None:
    model = small()
    x = np.random.default_rng(0).random((12, 12, 3), np.float32)
    figure = plots.feature_maps(model, x, ["first", "second"], tmp_path / "m.png", count=4)
    assert [axes.get_title() for axes in figure.axes] == [
        "first: 4 of 6 channels 10 x 10",
        "second: 4 of 20 channels 3 x 3",
    ]
    maps = Model(model.input, model.get_layer("first").output).predict(x[None])[0]
    grid = np.asarray(figure.axes[0].images[0].get_array())
    tile = maps[:, :, 2]
    assert np.allclose(grid[:, 22:32], (tile - tile.min()) / (tile.max() - tile.min()), atol=1e-6)
    assert figure.axes[0].images[0].get_array().mask[:, [10, 21, 32]].all()  # no colour between the maps
    assert opened(tmp_path / "m.png").std() > 0


def test_feature_maps_leave_the_model_as_it_is() -> None:
    model, x = small(), np.ones((12, 12, 3))
    plots.feature_maps(model, x, "first")
    assert len({id(weight.store) for weight in model.weights}) == 1
    untouched = small()
    untouched.set_weights(model.get_weights())
    assert np.array_equal(model.predict(x[None]), untouched.predict(x[None]))


def test_feature_maps_choose_layers_of_a_deep_network() -> None:
    model = applications.cifar_resnet(8, input_shape=(32, 32, 3), classes=3)
    figure = plots.feature_maps(model, np.ones((1, 32, 32, 3)))
    names = [axes.get_title().split(":")[0] for axes in figure.axes]
    assert names == ["conv1_conv", "conv2_block1_2_conv", "conv3_block1_2_conv", "conv4_block1_2_conv"]
    pools = Sequential([Input((8, 8, 3)), MaxPooling2D(name="pool"), GlobalAveragePooling2D()])
    assert [axes.get_title() for axes in plots.feature_maps(pools, np.ones((8, 8, 3))).axes] == [
        "pool: 3 of 3 channels 4 x 4"
    ]


@pytest.mark.parametrize(
    ("x", "layers", "message"),
    [
        (np.zeros((2, 12, 12, 3)), None, r"x must be one sample \[12, 12, 3\], got \[2, 12, 12, 3\]"),
        (np.zeros((12, 12)), None, r"got \[12, 12\]"),
        (np.zeros((12, 12, 3)), ["head"], r"layers must be layers that make maps, .*'first', 'pool', 'second'.*head"),
        (np.zeros((12, 12, 3)), ["third"], "third"),
    ],
)
def test_feature_maps_refuses(x: Any, layers: Any, message: str) -> None:
    with pytest.raises(ValueError, match=rf"plots\.feature_maps: .*{message}"):
        plots.feature_maps(small(), x, layers)
    with pytest.raises(ValueError, match=r"plots\.feature_maps: count must be at least 1, got 0"):
        plots.feature_maps(small(), np.zeros((12, 12, 3)), count=0)


@pytest.mark.parametrize(
    ("name", "draw"),
    [
        ("confusion_matrix", lambda: plots.confusion_matrix(MATRIX)),
        ("gradient_norms", lambda: plots.gradient_norms({"a": 1.0})),
        ("filters", lambda: plots.filters(small())),
        ("feature_maps", lambda: plots.feature_maps(small(), np.zeros((12, 12, 3)))),
        ("history", lambda: plots.history({"loss": [1.0]})),
    ],
)
def test_without_matplotlib_the_error_says_what_to_install(name: str, draw: Any, monkeypatch: Any) -> None:
    real = builtins.__import__

    def without(module: str, *arguments: Any, **options: Any) -> Any:
        if module.startswith("matplotlib"):
            raise ImportError(module)
        return real(module, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=rf'plots.{name} needs matplotlib: pip install "fastcnn\[plot\]"'):
        draw()
