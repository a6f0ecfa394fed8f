"""The notebooks beside the programs of examples/keras_programs: the same code, run to its end, with pictures."""

from __future__ import annotations

import base64
import importlib.util
import io
import json
import re
import socket
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

PROGRAMS = Path(__file__).parents[2] / "examples" / "keras_programs"
NOTEBOOKS = sorted(PROGRAMS.glob("*.ipynb"))

pytestmark = pytest.mark.skipif(not PROGRAMS.is_dir(), reason="the examples are not here")


def cells(path: Path) -> list[dict[str, Any]]:
    found = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell | {"source": "".join(cell["source"])} for cell in found]


def maker() -> Any:
    spec = importlib.util.spec_from_file_location("make_notebooks", PROGRAMS / "make_notebooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_there_are_two() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["resnet50_functional", "vgg16_generator"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_code_is_the_programs(path: Path) -> None:
    program = path.with_suffix(".py").read_text(encoding="utf-8")
    text, code = maker().paragraphs(program)
    own = [cell["source"] for cell in cells(path) if cell["cell_type"] == "code" and "added" not in cell["metadata"]]
    assert own == code
    lines = [line for line in program.partition('"""\n')[2].splitlines() if line.strip()]
    assert [line for part in own for line in part.splitlines() if line.strip()] == lines  # nothing was lost on the way
    assert text.splitlines()[0] in cells(path)[0]["source"]
    added = [cell["source"] for cell in cells(path) if cell["metadata"].get("added") == "settings"]
    assert len(added) == 1
    names = re.findall(r'"([A-Z]+)=', added[0])
    assert names
    assert all(re.search(rf"^(.*, )?{name}\b.* = ", program, re.MULTILINE) for name in names)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_ran_to_its_end(path: Path) -> None:
    code = [cell for cell in cells(path) if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} <= {"stream", "execute_result", "display_data"}
    assert [output for output in outputs if output.get("name") == "stderr"] == []
    pictures = [output["data"]["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == sum(cell["source"].count("plt.savefig(") for cell in code) > 0
    for picture in pictures:
        image = Image.open(io.BytesIO(base64.b64decode(picture)))
        extremes = image.convert("L").getextrema()
        assert image.width > 150
        assert extremes[0] != extremes[1]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_small_and_tells_nothing_of_the_machine(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text) < 300_000
    without = re.sub(r'"image/png": "[^"]*"', "", text)
    assert re.findall(r"(?:/tmp|/home|/root|/usr|/var|[A-Z]:\\\\)\S*", without) == []
    assert socket.gethostname() not in without
