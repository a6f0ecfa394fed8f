"""The notebook that fastcnn grew from runs: its code cells, with other import lines, picture sizes and counts.

The notebook is not part of this repository; it is looked for beside it, or where FASTCNN_KERAS_NOTEBOOK says.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastcnn import reference

ROOT = Path(__file__).parents[2]
NOTEBOOK = Path(os.environ.get("FASTCNN_KERAS_NOTEBOOK", ROOT.parent / "shared" / "seed" / "keras-notebook.md"))
CELL = "In [None]:"

pytestmark = pytest.mark.skipif(not NOTEBOOK.is_file(), reason="the notebook is not here")

# what may change: imports, picture sizes, counts of steps and epochs
CHANGES = (
    (r"^import keras\b", "import fastcnn as keras"),
    (r"^from keras\b", "from fastcnn"),
    (r"\(224,\s*224(, 3)?\)", r"(32,32\1)"),
    (r"\(224,224,3\)", "(32,32,3)"),
    (r"steps_per_epoch=100", "steps_per_epoch=2"),
    (r"validation_steps=10\b", "validation_steps=3"),
    (r"epochs=100", "epochs=2"),
)

# what the notebook imports or calls without showing it
HEAD = """
model.add(Flatten())
model.add(Dense(units=4096, activation="relu"))
model.add(Dense(units=4096, activation="relu"))
model.add(Dense(units=2, activation="softmax"))
"""
BLOCKS = """
from keras.models import Model
from keras.layers import Input, Add, Activation, ZeroPadding2D, BatchNormalization, AveragePooling2D, MaxPooling2D
from keras.initializers import glorot_uniform

def main_path(X, f, filters, stage, block, s):
    name = str(stage) + block + '_branch'
    for part, (number, size, stride) in zip('abc', zip(filters, (1, f, 1), (s, 1, 1))):
        X = Conv2D(number, (size, size), strides=(stride, stride), padding='same' if part == 'b' else 'valid',
                   name='res' + name + '2' + part, kernel_initializer=glorot_uniform(seed=0))(X)
        X = BatchNormalization(axis=3, name='bn' + name + '2' + part)(X)
        if part != 'c':
            X = Activation('relu')(X)
    return X

def identity_block(X, f, filters, stage, block):
    return Activation('relu')(Add()([main_path(X, f, filters, stage, block, 1), X]))

def convolutional_block(X, f, filters, stage, block, s=2):
    name = str(stage) + block + '_branch1'
    shortcut = Conv2D(filters[2], (1, 1), strides=(s, s), name='res' + name,
                      kernel_initializer=glorot_uniform(seed=0))(X)
    shortcut = BatchNormalization(axis=3, name='bn' + name)(shortcut)
    return Activation('relu')(Add()([main_path(X, f, filters, stage, block, s), shortcut]))
"""


def cells() -> list[str]:
    """Return the notebook's code cells: what follows each mark as far as it is Python."""
    found = []
    for text in NOTEBOOK.read_text(encoding="utf-8").split(CELL)[1:]:
        lines = text.strip("\n").splitlines()
        while lines and not _is_python("\n".join(lines)):
            lines.pop()
        found.append("\n".join(lines).rstrip())
    return found


def _is_python(text: str) -> bool:
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True


def changed(text: str, size: int = 32) -> str:
    """Return code with the changes of the table, pictures of `size` pixels."""
    lines = []
    for line in text.splitlines():
        for pattern, new in CHANGES:
            line = re.sub(pattern, new.replace("32", str(size)), line)
        lines.append(line)
    return "\n".join(lines) + "\n"


def changed_lines(before: str, after: str) -> list[tuple[str, str]]:
    """Return the lines that differ as (old, new); raises AssertionError where lines were added or removed."""
    old, new = before.splitlines(), after.splitlines()
    assert len(old) == len(new)
    return [(a, b) for a, b in zip(old, new, strict=True) if a != b]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pictures that the notebook reads: data/, test/ and image.jpeg."""
    folder = tmp_path_factory.mktemp("notebook")
    rng = np.random.default_rng(0)
    for part, count in (("data", 40), ("test", 20)):
        for number, name in enumerate(("cats", "dogs")):
            (folder / part / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 8, (48, 40, 3), np.uint8)  # dark: VGG16 at this rate may blow up on 0..255
                pixels[:, :, number] += 16
                Image.fromarray(pixels).save(folder / part / name / f"{i}.jpg")
    Image.fromarray(pixels).save(folder / "image.jpeg")
    return folder


def run(folder: Path, program: str) -> tuple[str, list[str]]:
    """Run a program in a folder; return what it prints and the DeprecationWarnings it meets."""
    (folder / "program.py").write_text(program)
    environment = os.environ | {"MPLBACKEND": "Agg"}
    seeded = "import fastcnn, runpy; fastcnn.set_random_seed(5); runpy.run_path('program.py', run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", seeded], cwd=folder, env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, re.findall(r"DeprecationWarning: (.*) is an old name", done.stderr)


def test_the_first_program(folder: Path) -> None:
    given = cells()[:7]
    original = "\n".join(given)
    program = [changed(cell) for cell in given]
    lines = changed_lines(original, changed(original).rstrip("\n"))
    for old, new in lines:
        print(f"- {old}\n+ {new}")
    allowed = re.compile(r"^(import|from) keras|target_size|input_shape|steps_per_epoch")
    assert [old for old, _ in lines if not allowed.search(old)] == []
    program.insert(3, HEAD)
    out, old_names = run(folder, "\n".join(program))
    (folder / "vgg16_1.h5").unlink()  # 400 MB
    assert "Found 80 images belonging to 2 classes." in out
    assert "Total params: 33,605,442" in out
    assert "Epoch 1: val_acc improved" in out
    assert out.splitlines()[-1] in ("cat", "dog")
    expected = ["layers.MaxPool2D", "Adam(lr=)", "ModelCheckpoint(period=)", "fit_generator", "'val_acc'", "'acc'"]
    assert sorted(old_names) == sorted(expected)
    print(f"{len(lines)} of {len(original.splitlines())} lines changed")


def test_the_second_program(folder: Path) -> None:
    code = cells()
    first, data, architecture, training = code[0], code[1], code[7], code[4]
    use = """
model = ResNet50(input_shape=(64, 64, 3), classes=2)
model.compile(optimizer="adam", loss=keras.losses.categorical_crossentropy, metrics=["accuracy"])
model.summary()
"""
    lines = changed_lines(architecture, changed(architecture).rstrip("\n"))
    assert lines == []  # the function runs as it stands
    parts = [first, BLOCKS, data, architecture, use, training.replace("vgg16_1", "resnet50")]
    out, old_names = run(folder, "\n".join(changed(part, 64) for part in parts))
    (folder / "resnet50.h5").unlink()
    assert "Total params: 23,591,810" in out
    assert "Non-trainable params: 53,120" in out
    assert "Epoch 1: val_acc improved" in out
    assert {"fit_generator", "'val_acc'", "ModelCheckpoint(period=)"} <= set(old_names)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_architecture_is_that_of_its_text() -> None:
    """The function gives 23,600,006 weights in 177 layers with its own default arguments."""
    scope: dict[str, Any] = {}
    code = cells()
    for part in (code[0], BLOCKS, code[7]):
        exec(changed(part), scope)
    model = scope["ResNet50"]()
    assert model.count_params() == 23_600_006
    assert len(model.layers) == 177
    with pytest.raises(ValueError, match=r"average_pooling2d.*: the window covers"):
        scope["ResNet50"](input_shape=(32, 32, 3))


def test_its_gradients_of_batch_normalisation_are_the_reference() -> None:
    scope: dict[str, Any] = {"np": np}
    for cell in cells()[8:10]:
        exec(re.sub(r"(dbeta)\w*$", r"\1", cell), scope)
    rng = np.random.default_rng(3)
    x, dout = rng.normal(size=(2, 20, 5))
    gamma, beta = rng.normal(size=(2, 5))
    _, cache = reference.batchnorm_forward(x, gamma, beta, 1e-3)
    for name in ("batchnorm_backward", "batchnorm_backward_alt"):
        for ours, theirs in zip(getattr(reference, name)(dout, cache), scope[name](dout, cache), strict=True):
            assert np.abs(ours - theirs).max() <= 1e-13
