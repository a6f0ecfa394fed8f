"""ImageDataGenerator's iterators: order, labels, folders, and that no thread and no neighbour changes a picture."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fastcnn.data import ImageFileError
from fastcnn.preprocessing.image import ImageDataGenerator, img_to_array, load_img

Array = NDArray[Any]
EVERYTHING: dict[str, Any] = {
    "rotation_range": 40,
    "width_shift_range": 0.2,
    "height_shift_range": [1, 2],
    "shear_range": 10.0,
    "zoom_range": 0.3,
    "brightness_range": (0.5, 1.5),
    "channel_shift_range": 20.0,
    "horizontal_flip": True,
    "vertical_flip": True,
    "rescale": 1 / 255,
    "fill_mode": "reflect",
}


def pictures(count: int, size: int = 8) -> Array:
    return np.random.default_rng(3).integers(0, 256, (count, size, size, 3)).astype(np.uint8)


def make_folder(root: Path, classes: dict[str, int], size: tuple[int, int] = (10, 8)) -> Path:
    random = np.random.default_rng(4)
    for name, count in classes.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            pixels = random.integers(0, 256, (*size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return root


# -- arrays ------------------------------------------------------------------------------------------------------------


def test_flow_without_changes_gives_the_samples() -> None:
    x, y, w = pictures(7), np.arange(7) * 10, np.linspace(0, 1, 7)
    flow = ImageDataGenerator().flow(x, y, batch_size=3, shuffle=False, sample_weight=w)
    assert (len(flow), flow.n, flow.batch_size) == (3, 7, 3)
    batches = list(itertools.islice(flow, 3))
    assert [len(batch[0]) for batch in batches] == [3, 3, 1]
    for part, expected in zip(zip(*batches, strict=True), (x, y, w), strict=True):
        assert np.array_equal(np.concatenate(part), expected)
    assert batches[0][0].dtype == np.float32
    assert np.array_equal(next(flow)[0], x[:3])  # without end
    assert isinstance(next(ImageDataGenerator().flow(x)), np.ndarray)
    assert len(next(ImageDataGenerator().flow(x, y))) == 2


def test_shuffled_epochs_visit_every_sample_once_in_new_order() -> None:
    y = np.arange(10)
    flow = ImageDataGenerator().flow(pictures(10), y, batch_size=4, seed=1)
    epochs = [np.concatenate([next(flow)[1] for _ in range(3)]) for _ in range(3)]
    for labels in epochs:
        assert sorted(labels) == list(range(10))
    assert not np.array_equal(epochs[0], epochs[1])
    again = ImageDataGenerator().flow(pictures(10), y, batch_size=4, seed=1)
    for epoch, labels in enumerate(epochs):
        assert np.array_equal(np.concatenate([batch[1] for batch in again.epoch(epoch)]), labels)
    other = ImageDataGenerator().flow(pictures(10), y, batch_size=4, seed=2)
    assert not np.array_equal(np.concatenate([batch[1] for batch in other.epoch(0)]), epochs[0])


def test_bits_do_not_depend_on_threads() -> None:
    x = pictures(9)
    results = []
    for threads in (1, 2, 3):
        flow = ImageDataGenerator(**EVERYTHING).flow(x, np.arange(9), batch_size=4, seed=5)
        flow.num_threads = threads
        results.append([part.tobytes() for _ in range(6) for part in next(flow)])
    assert results[0] == results[1] == results[2]


def test_a_picture_depends_on_seed_epoch_and_index_alone() -> None:
    x = pictures(9)
    generator = ImageDataGenerator(**EVERYTHING)

    def by_index(flow: Any, epoch: int) -> dict[int, bytes]:
        return {i: a.tobytes() for indices, a in flow.numbered(epoch) for i, a in zip(indices, a, strict=True)}

    plain = by_index(generator.flow(x, batch_size=2, shuffle=False, seed=5), 1)
    shuffled = by_index(generator.flow(x, batch_size=4, seed=5), 1)
    assert plain == shuffled
    assert by_index(generator.flow(x[:4], batch_size=3, seed=5), 1) == {i: plain[i] for i in range(4)}
    for changed in (by_index(generator.flow(x, seed=5), 2), by_index(generator.flow(x, seed=6), 1)):
        assert all(changed[i] != plain[i] for i in range(9))
    # and index 3 gets what its own parameters say
    flow = generator.flow(x, shuffle=False, seed=5)
    parameters = generator.ranges.draw((8, 8, 3), "augment", 5, 1, 3)
    assert generator.standardize(generator.apply_transform(x[3], parameters)).tobytes() == by_index(flow, 1)[3]


def test_indexing_reset_and_epoch_end() -> None:
    y = np.arange(10)
    flow = ImageDataGenerator().flow(pictures(10), y, batch_size=4, seed=1)
    expected = [[batch[1].tolist() for batch in flow.epoch(epoch)] for epoch in range(3)]
    assert [flow[i][1].tolist() for i in range(3)] == expected[0]
    assert flow[-1][1].tolist() == expected[0][2]
    with pytest.raises(IndexError, match="has 3 batches, got index 3"):
        flow[3]
    flow.reset()  # nothing was taken yet
    assert next(flow)[1].tolist() == expected[0][0]
    flow.reset()
    assert [next(flow)[1].tolist() for _ in range(2)] == expected[1][:2]
    flow.on_epoch_end()
    assert flow[1][1].tolist() == expected[2][1]
    assert flow.next()[1].tolist() == expected[2][0]


def test_validation_is_the_first_part_of_arrays() -> None:
    x, y = pictures(10), np.arange(10) % 2
    generator = ImageDataGenerator(validation_split=0.25)
    validation = generator.flow(x, y, subset="validation", shuffle=False)
    training = generator.flow(x, y, subset="training", shuffle=False)
    assert (validation.n, training.n) == (2, 8)
    assert np.array_equal(next(validation)[0], x[:2])
    assert np.array_equal(next(training)[1], y[2:])
    with pytest.raises(ValueError, match="y has different classes in training and validation"):
        generator.flow(x, np.sort(y), subset="training")
    assert generator.flow(x, np.sort(y), subset="training", ignore_class_split=True).n == 8
    with pytest.raises(ValueError, match=re.escape("subset 'validation' of validation_split=0.0 holds no samples")):
        ImageDataGenerator().flow(x, subset="validation")


def test_wrong_arrays_are_named() -> None:
    generator = ImageDataGenerator()
    x = pictures(4)
    for arguments, message in (
        ({"x": x[0]}, "flow: x must be [N, H, W, C] with at least one picture, got [8, 8, 3]"),
        ({"x": x[:0]}, "flow: x must be [N, H, W, C] with at least one picture, got [0, 8, 8, 3]"),
        ({"x": [x[0], x[0, 1:]]}, "flow: x must be one array [N, H, W, C]; its pictures differ in size"),
        ({"x": x, "y": [1, 2]}, "flow: y must have 4 entries, one per picture, got [2]"),
        ({"x": x, "sample_weight": [1, 1, 1, 1]}, "flow: sample_weight needs y"),
        ({"x": x, "batch_size": 0}, "batch_size must be a positive integer, got 0"),
        ({"x": x, "seed": 1.5}, "seed must be an integer or None, got 1.5"),
        ({"x": x, "subset": "test"}, "flow: subset must be 'training', 'validation' or None, got 'test'"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            generator.flow(**arguments)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError, match="'nowhere' does not exist"):
        generator.flow(x, save_to_dir="nowhere")
    with pytest.raises(RuntimeError, match=re.escape("NumpyArrayIterator: featurewise_center needs")):
        ImageDataGenerator(featurewise_center=True).flow(x)


def test_pictures_are_saved_for_the_eye(tmp_path: Path) -> None:
    x = pictures(3)
    flow = ImageDataGenerator().flow(x, shuffle=False, save_to_dir=tmp_path, save_prefix="seen", save_format="png")
    next(flow)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert [re.fullmatch(r"seen_(\d)_\d{1,7}\.png", name).group(1) for name in names] == ["0", "1", "2"]  # type: ignore[union-attr]
    saved = np.asarray(Image.open(tmp_path / names[1])).astype(int)
    low, high = x[1].min(), x[1].max()
    assert np.abs(saved - (x[1].astype(float) - low) / (high - low) * 255).max() <= 1


# -- folders -----------------------------------------------------------------------------------------------------------


def test_folders_are_keras(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_folder(tmp_path / "p", {"dog": 3, "Cat": 2})
    flow = ImageDataGenerator().flow_from_directory(str(root), target_size=(6, 5), batch_size=4, shuffle=False)
    assert capsys.readouterr().out == "Found 5 images belonging to 2 classes.\n"
    assert flow.class_indices == {"Cat": 0, "dog": 1}
    assert flow.filenames == ["Cat/0.png", "Cat/1.png", "dog/0.png", "dog/1.png", "dog/2.png"]
    assert flow.filepaths == [str(root / name) for name in flow.filenames]
    assert flow.classes.tolist() == flow.labels.tolist() == [0, 0, 1, 1, 1]
    assert (flow.samples, flow.num_classes, len(flow), flow.image_shape) == (5, 2, 2, (6, 5, 3))
    x, y = next(flow)
    assert (x.shape, x.dtype, y.shape, y.dtype) == ((4, 6, 5, 3), np.float32, (4, 2), np.float32)
    assert y.tolist() == [[1, 0], [1, 0], [0, 1], [0, 1]]
    for row, path in zip(x, flow.filepaths, strict=False):  # nearest, by Pillow
        assert np.array_equal(row, img_to_array(load_img(path, target_size=(6, 5))))


@pytest.mark.parametrize(
    ("class_mode", "expected"),
    [("categorical", [[1, 0], [0, 1]]), ("binary", [0, 1]), ("sparse", [0, 1]), ("input", "x"), (None, None)],
)
def test_class_modes(tmp_path: Path, class_mode: str | None, expected: Any) -> None:
    root = make_folder(tmp_path / "p", {"a": 1, "b": 1})
    flow = ImageDataGenerator(rescale=0.5).flow_from_directory(
        root, target_size=(4, 4), class_mode=class_mode, shuffle=False, color_mode="grayscale"
    )
    batch = next(flow)
    if class_mode is None:
        assert batch.shape == (2, 4, 4, 1)
        return
    x, y = batch
    assert y.dtype == np.float32
    assert np.array_equal(y, x if expected == "x" else expected)
    assert not np.shares_memory(x, y)


def test_classes_chosen_and_ordered(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "p", {"a": 1, "b": 2, "c": 3})
    flow = ImageDataGenerator().flow_from_directory(root, classes=["c", "a"], class_mode="sparse", shuffle=False)
    assert flow.class_indices == {"c": 0, "a": 1}
    assert flow.classes.tolist() == [0, 0, 0, 1]
    with pytest.raises(ValueError, match="class_names must be distinct names of its folders"):
        ImageDataGenerator().flow_from_directory(root, classes=["c", "d"])


def test_validation_is_the_first_part_of_each_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_folder(tmp_path / "p", {"a": 5, "b": 9, "one": 1})
    generator = ImageDataGenerator(validation_split=0.4)
    validation = generator.flow_from_directory(root, subset="validation", shuffle=False)
    training = generator.flow_from_directory(root, subset="training", shuffle=False)
    assert capsys.readouterr().out.splitlines() == [
        "Found 5 images belonging to 3 classes.",
        "Found 10 images belonging to 3 classes.",
    ]
    assert validation.filenames == ["a/0.png", "a/1.png", "b/0.png", "b/1.png", "b/2.png"]
    assert training.classes.tolist() == [0] * 3 + [1] * 6 + [2]
    assert not set(validation.filenames) & set(training.filenames)
    with pytest.raises(ValueError, match=r"subset 'validation' of validation_split=0\.0 holds no pictures"):
        ImageDataGenerator().flow_from_directory(root, subset="validation")


def test_folder_bits_do_not_depend_on_threads(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "p", {"a": 4, "b": 5})
    results = []
    for threads in (1, 2, 3):
        flow = ImageDataGenerator(**EVERYTHING).flow_from_directory(root, target_size=(9, 9), batch_size=2, seed=8)
        flow.num_threads = threads
        results.append([part.tobytes() for _ in range(7) for part in next(flow)])
    assert results[0] == results[1] == results[2]


def test_bad_folders_are_named(tmp_path: Path) -> None:
    generator = ImageDataGenerator()
    with pytest.raises(FileNotFoundError, match=r"flow_from_directory: directory '.*nowhere' does not exist"):
        generator.flow_from_directory(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="must hold one folder per class, but it has none"):
        generator.flow_from_directory(tmp_path / "empty")
    root = make_folder(tmp_path / "p", {"a": 1, "b": 0, "c": 1})
    with pytest.raises(ValueError, match=re.escape("has no picture of the classes ['b']")):
        generator.flow_from_directory(root)
    with pytest.raises(ValueError, match="has 1 classes, class_mode 'binary' needs 2"):
        generator.flow_from_directory(root, classes=["a"], class_mode="binary")
    for arguments, message in (
        ({"class_mode": "multi_output"}, "class_mode must be one of 'categorical', 'binary', 'sparse', 'input', None"),
        ({"color_mode": "cmyk"}, "color_mode must be one of 'grayscale', 'rgb', 'rgba', got 'cmyk'"),
        ({"interpolation": "cubic"}, "interpolation must be one of"),
        ({"target_size": 64}, "target_size must be (height, width) in pixels, at least 1, got 64"),
        ({"subset": "test"}, "subset must be one of 'training', 'validation', None, got 'test'"),
    ):
        with pytest.raises(ValueError, match=re.escape(f"flow_from_directory: {message}")):
            generator.flow_from_directory(root, classes=["a", "c"], **arguments)  # type: ignore[arg-type]


def test_an_unreadable_picture_is_named(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "p", {"a": 2, "b": 2})
    (root / "b" / "1.png").write_bytes(b"not a picture")
    flow = ImageDataGenerator().flow_from_directory(root, shuffle=False)
    with pytest.raises(ImageFileError, match=re.escape(str(root / "b" / "1.png"))):
        next(flow)


@pytest.fixture(autouse=True)
def no_thread_stays() -> Any:
    """Every iterator's threads end with it."""
    import gc
    import threading

    from fastcnn.data.prefetch import THREAD_NAME

    yield
    gc.collect()
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith(THREAD_NAME)] == []
