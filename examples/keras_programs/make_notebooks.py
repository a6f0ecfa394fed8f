"""Make executed notebooks of programs in this folder, with their output and the pictures that they save.

    pip install nbformat nbclient ipykernel matplotlib
    python examples/fashion_mnist.py --out pictures --labels 1 8 --per-class 600
    python examples/keras_programs/make_notebooks.py vgg16_generator --data pictures SIZE=32 UNITS=512 EPOCHS=4

The docstring becomes text, each paragraph of the code a cell. Added, and marked so in its metadata, are a first cell
that gives the settings and, behind each `savefig`, one that shows the picture. tests/keras/test_notebooks.py holds
notebooks and programs to each other.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SAVED = re.compile(r"plt\.savefig\(\"(.+?)\"")


def paragraphs(program: str) -> tuple[str, list[str]]:
    """Return a program's docstring, and its code cut at the empty lines between statements; imports stay together."""
    tree = ast.parse(program)
    lines = program.splitlines()
    inside = {i for node in tree.body for i in range(node.lineno, node.end_lineno or node.lineno)}
    cells: list[list[ast.stmt]] = []
    for before, node in zip(tree.body, tree.body[1:], strict=False):
        gap = any(not lines[i].strip() for i in range(before.end_lineno or 0, node.lineno - 1) if i not in inside)
        imports = isinstance(node, ast.Import | ast.ImportFrom) and len(cells) == 1
        if not cells or (gap and not imports and not (_is_matplotlib(node) and len(cells) == 1)):
            cells.append([])
        cells[-1].append(node)
    ends = [cell[-1].end_lineno or 0 for cell in cells]
    first = (tree.body[0].end_lineno or 0, *ends)
    code = ["\n".join(lines[begin:end]).strip("\n") for begin, end in zip(first, ends, strict=False)]
    return ast.get_docstring(tree) or "", code


def _is_matplotlib(node: ast.stmt) -> bool:
    return ast.unparse(node).startswith("matplotlib.use(")


def notebook(name: str, settings: list[str]) -> Any:
    """Return a program as a notebook that has not run."""
    import nbformat

    made = nbformat.v4
    text, code = paragraphs((HERE / f"{name}.py").read_text(encoding="utf-8"))
    given = f"import sys\n\nsys.argv[1:] = {json.dumps(settings)}  # what settings() reads"
    title, _, rest = text.partition("\n")
    how = "\n".join(f"    {line}" for line in rest.strip().splitlines())
    cells = [made.new_markdown_cell(f"# {name}.py\n\n{title}\n\n{how}\n")]
    cells.append(made.new_code_cell(given, metadata={"added": "settings"}))
    for part in code:
        cells.append(made.new_code_cell(part))
        for picture in SAVED.findall(part):
            show = f"from IPython.display import Image\n\nImage({json.dumps(picture)})"
            cells.append(made.new_code_cell(show, metadata={"added": "picture"}))
    for i, cell in enumerate(cells):
        cell["id"] = f"{name}-{i}".replace("_", "-")
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return made.new_notebook(cells=cells, metadata=kernel)


def execute(made: Any, data: Path) -> None:
    """Run a notebook beside a copy of the pictures; leave nothing of this machine in it."""
    from nbclient import NotebookClient

    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    os.environ["PYTHONWARNINGS"] = "ignore::DeprecationWarning"  # they tell of old names, and where the cell's file was
    with tempfile.TemporaryDirectory() as folder:
        for part in ("data", "test"):
            shutil.copytree(data / part, Path(folder) / part)
        NotebookClient(made, timeout=3600, resources={"metadata": {"path": folder}}, store_widget_state=False).execute()
    made.metadata.pop("language_info", None)
    for cell in made.cells:
        cell.metadata.pop("execution", None)  # when, to the microsecond


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", help="its name without .py")
    parser.add_argument("--data", type=Path, required=True, help="a folder with data/ and test/")
    parser.add_argument("settings", nargs="*", help="NAME=VALUE")
    options = parser.parse_intermixed_args()
    import nbformat

    made = notebook(options.program, options.settings)
    execute(made, options.data)
    path = HERE / f"{options.program}.ipynb"
    nbformat.write(made, path)
    print(path.name, path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
