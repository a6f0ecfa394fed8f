"""What fit, evaluate and predict take: arrays, generators, datasets by number, folders and generators of pictures."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fastcnn.layers import Conv2D, Dense, Flatten, Input, RandomFlip, Rescaling
from fastcnn.models import Sequential
from fastcnn.preprocessing.image import ImageDataGenerator
from fastcnn.utils import PyDataset, Sequence, image_dataset_from_directory, set_random_seed

Array = NDArray[Any]
SIZE = 6


def data(count: int = 10) -> tuple[Array, Array]:
    random = np.random.default_rng(2)
    return random.uniform(0, 1, (count, SIZE, SIZE, 3)).astype(np.float32), np.arange(count) % 2


def classifier(*first: Any) -> Sequential:
    set_random_seed(1)
    layers = [*first, Conv2D(4, 3), Flatten(), Dense(2, activation="softmax")]
    model = Sequential([Input((SIZE, SIZE, 3)), *layers])
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def bits(model: Sequential) -> list[bytes]:
    return [w.tobytes() for w in model.get_weights()]


class Parts(PyDataset):
    """Arrays cut into batches of 4, which notes what is asked for."""

    def __init__(self, *arrays: Array, **options: Any) -> None:
        super().__init__(**options)
        self.arrays = arrays
        self.asked: list[int] = []
        self.calls: list[str] = []

    def __len__(self) -> int:
        return -(-len(self.arrays[0]) // 4)

    def __getitem__(self, index: int) -> Any:
        self.asked.append(index)
        parts = tuple(array[4 * index : 4 * index + 4] for array in self.arrays)
        return parts if len(parts) > 1 else parts[0]

    def on_epoch_begin(self) -> None:
        self.calls.append("begin")

    def on_epoch_end(self) -> None:
        self.calls.append("end")


class Bare:
    """The two methods alone."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, index: int) -> Any:
        return self.parts[index]


def test_the_same_numbers_from_every_kind_of_data() -> None:
    x, y = data()
    parts = Parts(x, y)
    expected = classifier()
    expected.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0)

    def generator() -> Iterator[tuple[Array, Array]]:
        while True:
            yield from (parts[i] for i in range(3))

    for make in (
        lambda: parts,
        lambda: Bare(parts),
        generator,
        lambda: Parts(x, y, workers=3),
        lambda: ImageDataGenerator().flow(x, y, batch_size=4, shuffle=False),
    ):
        model = classifier()
        model.fit(make(), epochs=2, steps_per_epoch=3, shuffle=False, verbose=0)
        assert bits(model) == bits(expected)
        assert model.evaluate(make(), steps=3) == expected.evaluate(x, y, batch_size=4)
    assert np.array_equal(expected.predict(Parts(x)), expected.predict(x))
    assert np.array_equal(expected.predict(Parts(x, y)), expected.predict(x))
    assert np.array_equal(expected.predict(ImageDataGenerator().flow(x, shuffle=False)), expected.predict(x))
    assert np.array_equal(expected.predict((x[i : i + 1] for i in range(10)), steps=10), expected.predict(x))


def test_sample_weights_as_third_element() -> None:
    x, y = data()
    w = np.linspace(0, 2, 10)
    expected = classifier()
    expected.fit(x, y, sample_weight=w, batch_size=4, shuffle=False, verbose=0)
    for source in (Parts(x, y, w), ImageDataGenerator().flow(x, y, sample_weight=w, batch_size=4, shuffle=False)):
        model = classifier()
        model.fit(source, shuffle=False, verbose=0)
        assert bits(model) == bits(expected)
        assert model.evaluate(source) == expected.evaluate(x, y, sample_weight=w, batch_size=4)
    plain = classifier()
    plain.fit(Parts(x, y), shuffle=False, verbose=0)
    assert bits(plain) != bits(expected)


def test_a_dataset_by_number_is_asked_in_shuffled_order() -> None:
    x, y = data(30)
    parts = Parts(x, y)
    classifier().fit(parts, epochs=3, verbose=0)
    epochs = [parts.asked[i : i + 8] for i in range(0, 24, 8)]
    assert [sorted(order) for order in epochs] == [list(range(8))] * 3
    assert epochs[0] != epochs[1]
    assert parts.calls == ["begin", "end"] * 3
    again = Parts(x, y)
    classifier().fit(again, epochs=3, verbose=0)
    assert again.asked == parts.asked
    still = Parts(x, y)
    classifier().fit(still, validation_data=still, shuffle=False, verbose=0)
    assert still.asked == [0, *range(8), *range(8)]  # validation's first batch is looked at before the first step


def test_random_layers_see_a_sample_number_from_every_source() -> None:
    x, y = data()
    results = []
    for source in (lambda: Parts(x, y), lambda: Parts(x, y, workers=2)):
        model = classifier(RandomFlip(seed=1))
        model.fit(source(), epochs=2, verbose=0)
        results.append(bits(model))
    assert results[0] == results[1]
    arrays, flow = classifier(RandomFlip(seed=1)), classifier(RandomFlip(seed=1))
    arrays.fit(x, y, batch_size=4, shuffle=False, epochs=2, verbose=0)
    flow.fit(ImageDataGenerator().flow(x, y, batch_size=4, shuffle=False), epochs=2, verbose=0)
    assert bits(arrays) == bits(flow)


def test_a_picture_left_out_leaves_the_others_as_they_are(tmp_path: Path) -> None:
    """Numbers are places in the list of files, so a broken file changes no other picture's crop or flip."""
    random = np.random.default_rng(5)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(4):
            pixels = random.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    options: dict[str, Any] = {"image_size": SIZE, "batch_size": 1, "shuffle": False, "verbose": False}
    whole = dict(_numbered(image_dataset_from_directory(tmp_path, **options)))
    (tmp_path / "a" / "2.png").write_bytes(b"broken")
    broken = dict(_numbered(image_dataset_from_directory(tmp_path, on_error="skip", **options)))
    assert set(whole) - set(broken) == {2}
    assert all(np.array_equal(broken[number], whole[number]) for number in broken)
    model = classifier(RandomFlip(seed=1), Rescaling(1 / 255))
    model.fit(image_dataset_from_directory(tmp_path, on_error="skip", **options), epochs=2, verbose=0)


def _numbered(dataset: Any) -> Iterator[tuple[int, Array]]:
    for numbers, (x, _) in dataset.numbered(0):
        yield from zip(numbers, x, strict=True)


def test_a_model_takes_its_input_shape_from_data_by_number() -> None:
    x, y = data()
    for source in (Parts(x, y), ImageDataGenerator().flow(x, y)):
        model = Sequential([Flatten(), Dense(2, activation="softmax")])
        model.compile("sgd", "sparse_categorical_crossentropy")
        model.fit(source, verbose=0)
        assert model.input_shape == (None, SIZE, SIZE, 3)
    with pytest.raises(ValueError, match="does not know its input shape"):
        Sequential([Flatten()]).predict((a for a in x), steps=1)


def test_validation_split_is_the_last_part_of_arrays() -> None:
    x, y = data()
    model, by_hand = classifier(), classifier()
    found = model.fit(x, y, validation_split=0.3, verbose=0).history
    wanted = by_hand.fit(x[:7], y[:7], validation_data=(x[7:], y[7:]), verbose=0).history
    assert found == wanted
    for source in (Parts(x, y), ImageDataGenerator().flow(x, y)):
        with pytest.raises(ValueError, match="validation_split needs arrays"):
            model.fit(source, validation_split=0.3)


def test_what_is_no_data_is_named() -> None:
    x, y = data()
    model = classifier()
    for source, error, message in (
        ({"x": x}, TypeError, "fit: x must be an array, a dataset, a PyDataset or a generator, got dict"),
        ("pictures", TypeError, "got str"),
        (Parts(x[:0], y[:0]), ValueError, "fit: x holds no batches"),
        ((b for b in [(x, y)]), ValueError, "steps_per_epoch must be given for a generator, which has no length"),
        ([x[0], x[0, 1:]], ValueError, "fit: x must be one array; its samples differ in shape"),
        (Parts(x[:, 1:], y), ValueError, "fit: x must be [N, 6, 6, 3] but is [4, 5, 6, 3]"),
        (Parts(x, y, y, y), ValueError, "a batch must be x, (x, y) or (x, y, sample_weight), got 4 parts"),
        (Parts(x), ValueError, "y is missing; the data must give labels too"),
    ):
        with pytest.raises(error, match=re.escape(message)):
            model.fit(source, y if isinstance(source, list) else None)
    with pytest.raises(ValueError, match="fit: y must be None when x is a dataset or generator"):
        model.fit(Parts(x, y), y)


def test_py_dataset_is_keras() -> None:
    assert Sequence is PyDataset
    dataset = PyDataset(workers=2, use_multiprocessing=True, max_queue_size=3)
    assert (dataset.workers, dataset.use_multiprocessing, dataset.max_queue_size) == (2, True, 3)
    assert Parts(*data()).num_batches == 3
    with pytest.raises(NotImplementedError, match="PyDataset must define __len__"):
        len(dataset)
    with pytest.raises(NotImplementedError, match="PyDataset must define __getitem__"):
        dataset[0]
    with pytest.raises(ValueError, match="workers must be a positive integer, got 0"):
        PyDataset(workers=0)


def test_folders_through_a_generator(tmp_path: Path) -> None:
    """The usual Keras script: a generator for training with changes, one for validation without."""
    random = np.random.default_rng(0)
    for channel, name in enumerate(("red", "green", "blue")):
        (tmp_path / name).mkdir()
        for i in range(8):
            pixels = random.integers(0, 60, (9, 8, 3), dtype=np.uint8)
            pixels[..., channel] += 190
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    options: dict[str, Any] = {"target_size": (SIZE, SIZE), "batch_size": 6, "seed": 1}
    changed = ImageDataGenerator(rescale=1 / 255, rotation_range=30, horizontal_flip=True, validation_split=0.25)
    plain = ImageDataGenerator(rescale=1 / 255, validation_split=0.25)
    training = changed.flow_from_directory(tmp_path, subset="training", **options)
    validation = plain.flow_from_directory(tmp_path, subset="validation", **options)
    set_random_seed(1)
    model = Sequential([Flatten(), Dense(3, activation="softmax")])
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(training, validation_data=validation, epochs=25, verbose=0, steps_per_epoch=len(training))
    assert history.history["val_accuracy"][-1] == 1
    test = plain.flow_from_directory(tmp_path, class_mode=None, shuffle=False, **options)
    assert np.array_equal(model.predict(test).argmax(axis=1), test.classes)
