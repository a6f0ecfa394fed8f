"""Random layers: what they do to one picture, and their place between the data and the program."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fastcnn import reference
from fastcnn.layers import (
    Conv2D,
    Dense,
    Flatten,
    GlobalAveragePooling2D,
    Input,
    Normalization,
    RandomCrop,
    RandomFlip,
    RandomRotation,
    RandomTranslation,
    RandomZoom,
    Rescaling,
)
from fastcnn.models import Model, Sequential, load_model
from fastcnn.random import uniforms

Array = NDArray[Any]
WARP_GATE = 16  # as in tests/ops/test_warp.py


def picture(height: int = 9, width: int = 12, channels: int = 3, seed: int = 0) -> Array:
    return np.random.default_rng(seed).uniform(0, 255, (height, width, channels)).astype(np.float32)


def draws(layer: Any, count: int = 200, **options: Any) -> list[Array]:
    x = options.get("x", picture())
    return [layer.prepare(x, (0, number)) for number in range(count)]


# -- one picture -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "flips"),
    [
        ("horizontal", [(1, 1), (1, -1)]),
        ("vertical", [(1, 1), (-1, 1)]),
        ("horizontal_and_vertical", [(1, 1), (1, -1), (-1, 1), (-1, -1)]),
    ],
)
def test_flips_are_fair(mode: str, flips: list[tuple[int, int]]) -> None:
    x = picture()
    counts = dict.fromkeys(flips, 0)
    for y in draws(RandomFlip(mode, seed=1), 400):
        counts[next(flip for flip in flips if np.array_equal(y, x[:: flip[0], :: flip[1]]))] += 1
    share = 400 / len(flips)
    assert all(abs(count - share) < 4.5 * np.sqrt(share) for count in counts.values())


def test_crops_are_windows_from_everywhere() -> None:
    x = np.arange(9 * 12, dtype=np.float32).reshape(9, 12, 1)
    corners = set()
    for y in draws(RandomCrop(7, 9, seed=1), x=x):
        assert y.shape == (7, 9, 1)
        top, left = divmod(int(y[0, 0, 0]), 12)
        assert np.array_equal(y, x[top : top + 7, left : left + 9])
        corners.add((top, left))
    assert corners == {(top, left) for top in range(3) for left in range(4)}
    assert np.array_equal(RandomCrop(9, 12).prepare(x, (0, 0)), x)


def test_a_crop_in_inference_is_the_largest_centred_window_resized() -> None:
    x = picture(9, 12)
    assert np.array_equal(RandomCrop(9, 9).prepare(x, None), x[:, 1:10])
    assert np.array_equal(RandomCrop(9, 12).prepare(x, None), x)
    # 9x9 pixels in the middle, seen as 6x6: half-pixel centres
    centres = (np.arange(6) + 0.5) * 1.5 - 0.5
    for draw in (None, (0, 0)):
        layer = RandomCrop(6, 6) if draw is None else RandomCrop(18, 18)
        y = layer.prepare(x, draw)
        size = layer.height
        centres = (np.arange(size) + 0.5) * 9 / size - 0.5
        matrix = [[9 / size, 0, centres[0]], [0, 9 / size, centres[0]]]
        expected = reference.warp_forward(x[:, 1:10], matrix, (size, size))
        S = reference.warp_magnitude(x, matrix, (size, size))
        assert reference.error_units(y, expected, S).max() <= WARP_GATE


def layer_matrix(kind: str, H: int, W: int, a: float, b: float) -> Array:
    """Return Keras' maps from output to input pixels, written out in float64."""
    r, c = (H - 1) / 2, (W - 1) / 2
    if kind == "rotation":  # counter-clockwise by a full turns
        s, t = np.sin(2 * np.pi * a), np.cos(2 * np.pi * a)
        linear = np.array([[t, s], [-s, t]])
    elif kind == "zoom":
        linear = np.diag([1 + a, 1 + b])
    else:
        return np.array([[1, 0, -a * H], [0, 1, -b * W]])
    return np.hstack([linear, ((r, c) - linear @ (r, c))[:, None]])


@pytest.mark.parametrize("fill_mode", ["nearest", "constant", "reflect", "wrap"])
@pytest.mark.parametrize(
    ("layer", "kind", "ranges"),
    [
        (lambda **o: RandomRotation(0.3, **o), "rotation", [(-0.3, 0.3), (0, 0)]),
        (lambda **o: RandomRotation((0.1, 0.2), **o), "rotation", [(0.1, 0.2), (0, 0)]),
        (lambda **o: RandomTranslation(0.4, (0.1, 0.5), **o), "translation", [(-0.4, 0.4), (0.1, 0.5)]),
        (lambda **o: RandomZoom((-0.5, 0.5), (0.2, 0.6), **o), "zoom", [(-0.5, 0.5), (0.2, 0.6)]),
    ],
)
def test_warps_are_keras(layer: Any, kind: str, ranges: list[tuple[float, float]], fill_mode: str) -> None:
    x = picture()
    made = layer(fill_mode=fill_mode, fill_value=7, seed=4)
    for number in range(10):
        u = uniforms(4, type(made).__name__, 4, 2, number)
        a, b = (low + v * (high - low) for (low, high), v in zip(ranges, u, strict=False))
        matrix = layer_matrix(kind, *x.shape[:2], a, b)
        expected = reference.warp_forward(x, matrix, x.shape[:2], fill_mode, 7)
        S = reference.warp_magnitude(x, matrix, x.shape[:2], fill_mode, 7)
        assert reference.error_units(made.prepare(x, (2, number)), expected, S).max() <= WARP_GATE


def test_directions() -> None:
    x = np.zeros((5, 5, 1), np.float32)
    x[1, 2] = 1
    one = {"fill_mode": "constant"}
    assert RandomTranslation((0.2, 0.2), (0, 0), **one).prepare(x, (0, 0))[2, 2] == pytest.approx(1)  # down
    assert RandomTranslation((0, 0), (0.2, 0.2), **one).prepare(x, (0, 0))[1, 3] == pytest.approx(1)  # right
    assert RandomRotation((0.25, 0.25), **one).prepare(x, (0, 0))[2, 1] == pytest.approx(1)  # counter-clockwise
    full = np.ones((5, 5, 1), np.float32)
    assert RandomZoom((1.0, 1.0), **one).prepare(full, (0, 0)).sum() == 9  # out, both axes alike


def test_a_picture_depends_on_seed_epoch_and_number_alone() -> None:
    x = picture()
    for make in (RandomFlip, lambda seed: RandomCrop(5, 6, seed=seed), lambda seed: RandomRotation(0.5, seed=seed)):
        layer = make(seed=3)
        first = layer.prepare(x, (1, 2))
        layer.prepare(picture(seed=5), (4, 4))
        assert np.array_equal(layer.prepare(x, (1, 2)), first)
        assert np.array_equal(make(seed=3).prepare(x, (1, 2)), first)
        for other, draw in ((3, (2, 2)), (3, (1, 3)), (4, (1, 2))):
            rest = [make(seed=other).prepare(x, (draw[0] + 10 * i, draw[1] + 7 * i)) for i in range(8)]
            assert any(not np.array_equal(y, first) for y in rest)
    assert RandomFlip().seed != RandomFlip().seed  # their own, following from the process's seed


# -- in a model --------------------------------------------------------------------------------------------------------


def data(count: int = 10, size: int = 8) -> tuple[Array, Array]:
    random = np.random.default_rng(2)
    return random.uniform(0, 255, (count, size, size, 3)).astype(np.float32), np.arange(count) % 2


def classifier(*first: Any, size: int = 8) -> Sequential:
    model = Sequential([Input((size, size, 3)), *first, Conv2D(4, 3), Flatten(), Dense(2, activation="softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def without(model: Sequential, count: int) -> Sequential:
    """Return the same model without its first layers, with the same weights."""
    shape = model.layers[count - 1].output.sample_shape
    rest = Sequential([Input(shape), *(type(layer).from_config(layer.get_config()) for layer in model.layers[count:])])
    rest.set_weights(model.get_weights())
    rest.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return rest


def test_training_sees_the_changed_pictures_and_inference_does_not() -> None:
    x, y = data()
    layers = (Rescaling(1 / 255), RandomFlip(seed=1), RandomRotation(0.2, seed=2))
    model = classifier(*layers)
    plain = without(model, 3)
    scaled = x * np.float32(1 / 255)
    assert np.array_equal(model.predict(x), plain.predict(scaled))
    assert model.evaluate(x, y) == plain.evaluate(scaled, y)
    for epoch in range(2):
        model.fit(x, y, batch_size=4, epochs=epoch + 1, initial_epoch=epoch, shuffle=False, verbose=0)
        changed = [layers[2].prepare(layers[1].prepare(a, (epoch, i)), (epoch, i)) for i, a in enumerate(scaled)]
        plain.fit(np.array(changed), y, batch_size=4, shuffle=False, verbose=0)
        for a, b in zip(model.get_weights(), plain.get_weights(), strict=True):
            assert a.tobytes() == b.tobytes()


def test_weights_do_not_depend_on_loader_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    from fastcnn.data import prefetch

    x, y = data()
    start = classifier(RandomFlip(seed=1), RandomZoom(0.3, seed=2)).get_weights()
    results = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(prefetch, "default_threads", lambda threads=threads: threads)
        model = classifier(RandomFlip(seed=1), RandomZoom(0.3, seed=2))
        model.set_weights(start)
        model.fit(x, y, batch_size=4, epochs=2, verbose=0)
        results.append([w.tobytes() for w in model.get_weights()])
    assert results[0] == results[1] == results[2]


def test_a_crop_changes_the_shape_in_training_and_inference() -> None:
    x, y = data()
    model = classifier(RandomCrop(6, 6, seed=1), RandomFlip(seed=2))
    plain = without(model, 2)
    centred = np.array([model.layers[0].prepare(a, None) for a in x])
    assert np.array_equal(model.predict(x), plain.predict(centred))
    assert np.array_equal(model.predict(x, batch_size=4), model.predict(x))
    assert np.array_equal(model(x), plain(centred))
    assert model.evaluate(x, y) == plain.evaluate(centred, y)
    model.fit(x, y, validation_data=(x, y), batch_size=4, verbose=0)
    assert model.predict(x[:0]).shape == (0, 2)


def test_train_on_batch_follows_from_the_step() -> None:
    x, y = data()
    model = classifier(RandomFlip("horizontal", seed=1))
    plain = without(model, 1)
    for step in range(2):
        changed = np.array([model.layers[0].prepare(a, (step, i)) for i, a in enumerate(x)])
        assert model.train_on_batch(x, y) == plain.train_on_batch(changed, y)
    assert model.test_on_batch(x, y) == plain.test_on_batch(x, y)


def test_saved_with_the_model(tmp_path: Any) -> None:
    x, y = data()
    model = classifier(RandomCrop(7, 7), RandomRotation((0.1, 0.2), fill_mode="wrap"))
    model.save(tmp_path / "m.safetensors")
    again = load_model(tmp_path / "m.safetensors")
    assert [layer.get_config() for layer in again.layers] == [layer.get_config() for layer in model.layers]
    for one in (model, again):
        one.fit(x, y, batch_size=5, verbose=0)
    assert [w.tobytes() for w in model.get_weights()] == [w.tobytes() for w in again.get_weights()]


def test_a_nested_model_of_random_layers_and_training_false() -> None:
    x, y = data()
    augment = Sequential([RandomFlip(seed=1), RandomTranslation(0.2, 0.2, seed=3)])
    inputs = Input((8, 8, 3))

    def head(tensor: Any, **options: Any) -> Model:
        made = Model(inputs, Dense(2, activation="softmax", **options)(Flatten()(tensor)))
        made.compile("sgd", "sparse_categorical_crossentropy")
        return made

    augment.build((8, 8, 3))
    model, frozen = head(augment(inputs)), head(augment(inputs, training=False))
    plain = head(inputs)
    for other in (frozen, plain):
        other.set_weights(model.get_weights())
    for one in (model, frozen, plain):
        one.fit(x, y, shuffle=False, verbose=0)
    assert np.array_equal(frozen.get_weights()[0], plain.get_weights()[0])
    assert not np.array_equal(model.get_weights()[0], plain.get_weights()[0])
    crop = Model(inputs, Flatten()(RandomCrop(4, 4)(inputs, training=False)))
    assert crop.predict(x).shape == (10, 48)


def test_only_at_the_front_of_a_model() -> None:
    inputs = Input((8, 8, 3))
    x, y = data()
    middle = Model(inputs, Dense(2, activation="softmax")(Flatten()(RandomFlip(name="late")(Conv2D(4, 3)(inputs)))))
    both = Model(inputs, GlobalAveragePooling2D()(RandomFlip(name="late")(Normalization()(inputs))))
    message = "late: a layer that changes samples at random must come first in a model, behind the input; "
    middle.compile("sgd", "sparse_categorical_crossentropy")
    for call in (lambda: middle.fit(x, y), lambda: middle.predict(x), lambda: both.predict(x)):
        with pytest.raises(ValueError, match=re.escape(message) + r".* here it reads (conv2d|normalization)"):
            call()


# -- Normalization -----------------------------------------------------------------------------------------------------


def test_normalization_normalises() -> None:
    x = picture(6, 6)[None] + np.zeros((3, 1, 1, 1), np.float32)
    mean, variance = [10.0, 100.0, 50.0], [4.0, 900.0, 0.25]
    model = Sequential([Input((6, 6, 3)), Normalization(mean=mean, variance=variance)])
    expected = (x.astype(np.float64) - mean) / np.sqrt(variance)
    S = (np.abs(x) + np.abs(mean)) / np.sqrt(variance)
    assert reference.error_units(model.predict(x), expected, S).max() <= 8
    assert not model.trainable_weights


def test_normalization_adapts_before_and_after_it_is_built(tmp_path: Any) -> None:
    x = np.random.default_rng(0).normal((5, -3, 1000), (2, 0.5, 30), (50, 4, 4, 3))
    batches = [(x[:7], None), x[7:30], (x[30:], 1, 2)]
    models = []
    for before in (True, False):
        layer = Normalization()
        model = Sequential([layer, Flatten()])
        if before:
            layer.adapt(x)
            model.build((4, 4, 3))
        else:
            model.build((4, 4, 3))
            layer.adapt(iter(batches))
        models.append(model)
        stored = [w.astype(np.float64) for w in layer.get_weights()]
        for found, wanted in zip(stored, (x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2))), strict=True):
            assert np.abs(found / wanted - 1).max() <= 2 * reference.UNIT_ROUNDOFF
    y = models[0].predict(x).reshape(x.shape)
    assert np.abs(y.mean(axis=(0, 1, 2))).max() < 1e-4
    assert np.abs(y.std(axis=(0, 1, 2)) - 1).max() < 1e-4
    models[0].save(tmp_path / "n.safetensors")
    assert np.array_equal(load_model(tmp_path / "n.safetensors").predict(x), models[0].predict(x))


def test_normalization_refuses() -> None:
    with pytest.raises(RuntimeError, match="adapt cannot be used after mean and variance were given"):
        Normalization(mean=1, variance=1).adapt(np.ones((2, 3)))
    for wrong, error, message in (
        (3, TypeError, "adapt takes an array or batches of arrays, got int"),
        (np.ones(3), ValueError, "adapt takes batches [N, ..., C], got [3]"),
        (np.ones((0, 3)), ValueError, "adapt got no data"),
        ([np.ones((2, 3)), np.ones((2, 4))], ValueError, "adapt got batches with 3 and 4 channels"),
    ):
        with pytest.raises(error, match=re.escape(message)):
            Normalization().adapt(wrong)
