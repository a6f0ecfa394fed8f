"""What the float64 reference imports, and that each of its names is explained."""

from __future__ import annotations

import ast
from pathlib import Path

from fastcnn import reference


def test_imports_numpy_and_itself_alone() -> None:
    for file in Path(reference.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [str(node.module)]
            else:
                continue
            assert not [m for m in modules if m.startswith("fastcnn") and not m.startswith("fastcnn.reference")]


def test_every_public_name_exists_and_is_explained() -> None:
    assert sorted(reference.__all__) == reference.__all__
    functions = [getattr(reference, name) for name in reference.__all__ if not name.isupper()]
    assert all(function.__doc__ for function in functions)
