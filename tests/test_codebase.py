"""The rules of the code itself: who may include and import whom, one name through all layers, a stub that is true."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
CPP, PACKAGE = ROOT / "cpp", ROOT / "python" / "fastcnn"
STEMS = ("conv", "pool", "norm", "dense", "pointwise", "softmax", "loss", "optim", "warp")

needs_sources = pytest.mark.skipif(not CPP.is_dir() or not PACKAGE.is_dir(), reason="the sources are not here")


# -- C++: includes and words -------------------------------------------------------------------------------------------


def sources(folder: str) -> list[Path]:
    """Return the C++ files under cpp/folder."""
    paths = sorted((CPP / folder).rglob("*.[ch]pp"))
    assert paths, f"cpp/{folder} holds no C++"
    return paths


def code(path: Path) -> str:
    """Return a C++ file without its comments."""
    return re.sub(r"//[^\n]*|/\*.*?\*/", "", path.read_text(), flags=re.DOTALL)


def includes(path: Path) -> list[str]:
    """Return what a file includes, quotes or brackets kept."""
    return re.findall(r'#\s*include\s*(["<][^">]+[">])', path.read_text())


def files_with(pattern: str) -> set[str]:
    """Return the C++ files, relative to cpp/, whose code matches."""
    return {str(path.relative_to(CPP)) for path in sources(".") if re.search(pattern, code(path))}


@needs_sources
@pytest.mark.parametrize(
    ("folder", "allowed"),
    [
        ("core", r'"core/|<(?!pybind11|Python|numpy)'),
        ("simd", r'"simd/|<(cstdint|cstddef|immintrin\.h|arm_neon\.h)>'),
        ("kernels", r'"(core|simd|kernels)/|<(cstdint|cstddef)>'),
        ("bindings", r'"(core|bindings)/|<'),
    ],
)
def test_a_folder_includes_only_what_it_may(folder: str, allowed: str) -> None:
    wrong = [
        f"{path.name}: {name}" for path in sources(folder) for name in includes(path) if not re.match(allowed, name)
    ]
    assert wrong == []


@needs_sources
def test_only_the_bindings_know_python() -> None:
    outside = {name for name in files_with(r"pybind11|\bPy[A-Z]\w+_|Python\.h") if not name.startswith("bindings/")}
    assert outside == set()


@needs_sources
def test_one_file_says_omp_and_one_includes_it() -> None:
    assert files_with(r"\bomp_|#\s*pragma\s+omp|<omp\.h>") == {"core/parallel.hpp"}
    assert files_with(r'#\s*include\s*"core/parallel\.hpp"') == {"core/threads.cpp"}


@needs_sources
def test_intrinsics_stand_in_simd() -> None:
    assert files_with(r"\b_mm\d*_|\b_tile_|\b__m\d+|immintrin|arm_neon|\bv\w+q_f32\b") == {
        "simd/simd.hpp",
        "simd/tiles.hpp",
        "simd/tiles_emulated.hpp",
    }


@needs_sources
def test_kernels_use_no_standard_library() -> None:
    assert {name for name in files_with(r"\bstd::") if name.startswith(("kernels/", "simd/"))} == set()


# -- one name through all layers ---------------------------------------------------------------------------------------


@needs_sources
@pytest.mark.parametrize("stem", STEMS)
def test_a_stem_names_a_file_of_every_layer(stem: str) -> None:
    for path in (CPP / "kernels" / f"{stem}.cpp", CPP / "bindings" / f"{stem}.cpp", ROOT / f"tests/ops/test_{stem}.py"):
        assert path.is_file(), path.relative_to(ROOT)


@needs_sources
def test_the_table_has_no_hole() -> None:
    declared = set(re.findall(r"\(\*(\w+)\)\(", code(CPP / "core" / "kernels.hpp")))
    filled = re.findall(
        r"\bkernels\.(\w+) = ", "".join(code(path) for path in sources("kernels") if path.name != "table_amx.cpp")
    )
    assert declared
    assert sorted(filled) == sorted(declared | {"isa", "lanes"})


@needs_sources
def test_every_instruction_set_of_the_build_can_be_chosen() -> None:
    built = re.findall(r"fastcnn_isa\((\w+) ", (ROOT / "CMakeLists.txt").read_text())
    rows = re.findall(r'^\s*\{"(\w+)", (\w+)::table', code(CPP / "core" / "dispatch.cpp"), flags=re.MULTILINE)
    assert set(built) == {name for name, _ in rows}
    assert all(name == namespace for name, namespace in rows)


# -- the extension's stub ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Signature:
    """The parameters of a function: names in order, those by name only, those with a default."""

    positional: tuple[str, ...]
    keyword: tuple[str, ...]
    defaults: frozenset[str]

    @classmethod
    def of(cls, function: ast.FunctionDef) -> Signature:
        """Return the signature of a definition without its `self`."""
        arguments = function.args
        names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
        optional = set(names[len(names) - len(arguments.defaults) :])
        keyword = [argument.arg for argument in arguments.kwonlyargs]
        optional |= {name for name, value in zip(keyword, arguments.kw_defaults, strict=True) if value is not None}
        positional = tuple(name for name in names if name != "self")
        return cls(positional, tuple(keyword), frozenset(optional))

    @classmethod
    def of_binding(cls, function: Any) -> Signature:
        """Return the signature that pybind11 wrote into the first line of a docstring."""
        line = function.__doc__.splitlines()[0]
        definition = ast.parse(f"def {re.sub(r'<[^<>]*>', '...', line)}: ...").body[0]
        assert isinstance(definition, ast.FunctionDef)
        return cls.of(definition)


def definitions(body: list[ast.stmt]) -> dict[str, ast.FunctionDef]:
    """Return the functions of a module or class by name."""
    return {node.name: node for node in body if isinstance(node, ast.FunctionDef)}


@pytest.fixture(scope="module")
def core() -> ModuleType:
    from fastcnn import _core

    return _core


@pytest.fixture(scope="module")
def stub(core: ModuleType) -> ast.Module:
    return ast.parse((Path(core.__file__ or "").parent / "_core.pyi").read_text())


@pytest.fixture(scope="module")
def classes(stub: ast.Module) -> dict[str, ast.ClassDef]:
    return {node.name: node for node in stub.body if isinstance(node, ast.ClassDef)}


def test_the_stub_and_the_extension_have_the_same_names(
    core: ModuleType, stub: ast.Module, classes: dict[str, ast.ClassDef]
) -> None:
    public = {name for name in vars(core) if not name.startswith("_")}
    variables = {
        node.target.id for node in stub.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    stubbed = set(definitions(stub.body)) | set(classes) | variables
    assert {name for name in stubbed if not name.startswith("_")} == public
    for name, node in classes.items():
        if name.startswith("_"):
            continue
        bases = [base.id for base in node.bases if isinstance(base, ast.Name)]
        members = {member for owner in (node, *(classes[base] for base in bases)) for member in definitions(owner.body)}
        assert {m for m in members if not m.startswith("_")} == {
            m for m in vars(getattr(core, name)) if not m.startswith("_")
        }


def test_stubbed_functions_take_what_the_extension_takes(core: ModuleType, stub: ast.Module) -> None:
    functions = definitions(stub.body)
    assert functions
    stubbed = {name: Signature.of(node) for name, node in functions.items()}
    assert stubbed == {name: Signature.of_binding(getattr(core, name)) for name in functions}


def test_stubbed_methods_take_what_the_extension_takes(core: ModuleType, classes: dict[str, ast.ClassDef]) -> None:
    checked = 0
    for name, node in classes.items():
        owner = "Program" if name == "_Operations" else name
        for method, definition in definitions(node.body).items():
            bound = getattr(getattr(core, owner), method)
            overloaded = "Overloaded function" in (bound.__doc__ or "")
            if isinstance(bound, property) or overloaded or method == "__len__":
                continue
            assert Signature.of(definition) == Signature.of_binding(bound), f"{owner}.{method}"
            checked += 1
    assert checked


def test_an_operation_is_a_method_a_function_and_a_kernel(classes: dict[str, ast.ClassDef], stub: ast.Module) -> None:
    methods, functions = definitions(classes["_Operations"].body), definitions(stub.body)
    assert methods
    for name, method in methods.items():
        assert name in functions, f"_core.{name} is missing"
        without_self = ast.parse(ast.unparse(method)).body[0]
        assert isinstance(without_self, ast.FunctionDef)
        assert without_self.args.args.pop(0).arg == "self"
        assert ast.unparse(without_self) == ast.unparse(functions[name])
    if CPP.is_dir():
        assert set(methods) <= set(re.findall(r"\(\*(\w+)\)\(", code(CPP / "core" / "kernels.hpp")))


@needs_sources
@pytest.mark.parametrize(
    ("files", "call"), [("ops/test_*.py", r"\b{}\b"), ("driver/*.hpp", r"table->{}\(")], ids=["Python", "driver"]
)
def test_every_operation_is_tested(classes: dict[str, ast.ClassDef], files: str, call: str) -> None:
    text = "".join(path.read_text() for path in (ROOT / "tests").glob(files))
    operations = definitions(classes["_Operations"].body)
    assert [name for name in operations if not re.search(call.format(name), text)] == []


# -- Python: imports ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Import:
    """One module that a module imports when it runs: at once, or lazily inside a function."""

    importer: str
    imported: str
    lazy: bool


def module_name(path: Path) -> str:
    """Return the dotted name of a file of the package."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> Iterator[Import]:
    """Yield what a file imports, but for imports that only type checkers see."""
    importer = module_name(path)

    def walk(node: ast.AST, lazy: bool) -> Iterator[Import]:
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            return
        if isinstance(node, ast.Import):
            yield from (Import(importer, alias.name, lazy) for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{importer}: relative import"
            assert node.module is not None
            for alias in node.names:
                submodule = PACKAGE.parent.joinpath(*node.module.split("."), alias.name)
                is_module = submodule.is_dir() or any(submodule.with_suffix(end).exists() for end in (".py", ".pyi"))
                yield Import(importer, f"{node.module}.{alias.name}" if is_module else node.module, lazy)
        inside = lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            yield from walk(child, inside)

    yield from walk(ast.parse(path.read_text()), False)


def imports() -> list[Import]:
    """Return the imports of the whole package."""
    return [found for path in sorted(PACKAGE.rglob("*.py")) for found in imports_of(path)]


def within(name: str, modules: tuple[str, ...]) -> bool:
    """Return whether a dotted name is one of the modules or inside one."""
    return any(f"{name}.".startswith(f"{module}.") for module in modules)


def of(*names: str) -> tuple[str, ...]:
    """Return the full names of modules of the package."""
    return tuple(f"fastcnn.{name}" for name in names)


ABOVE = of("applications", "cli", "sklearn")
MODEL_SIDE = (*ABOVE, *of("models", "program", "fuse", "callbacks"))


@needs_sources
@pytest.mark.parametrize(
    ("importers", "forbidden"),
    [
        (of("graph", "plan", "liveness"), ("numpy", *of("_core", "layers", "parameters"), *MODEL_SIDE)),
        (of("layers"), (*MODEL_SIDE, *of("data", "formats"))),
        (of("losses", "metrics", "initializers", "optimizers"), (*MODEL_SIDE, *of("layers", "data", "formats"))),
        (of("fuse", "program"), (*ABOVE, *of("models", "data", "formats", "callbacks"))),
        (of("models", "callbacks"), ABOVE),
        (of("formats"), (*MODEL_SIDE, *of("_core", "layers", "data"), "pickle", "marshal", "shelve")),
        (of("data", "utils"), (*MODEL_SIDE, *of("_core", "layers", "formats"))),
        (of("applications"), of("_core", "program", "fuse", "plan", "liveness", "parameters", "cli", "data")),
        (of("applications", "callbacks", "cli", "metrics", "plots", "report"), of("_core")),
    ],
    ids=lambda modules: modules[0].removeprefix("fastcnn."),
)
def test_imports_point_one_way(importers: tuple[str, ...], forbidden: tuple[str, ...]) -> None:
    assert [i for i in imports() if within(i.importer, importers) and within(i.imported, forbidden)] == []


@needs_sources
def test_the_reference_stands_alone() -> None:
    reference = of("reference")
    may = (*reference, *of("selftest", "benchmark"))  # a test, and what is checked before it is timed
    inward = [i for i in imports() if within(i.imported, reference) and not within(i.importer, may)]
    outward = [
        i
        for i in imports()
        if within(i.importer, reference) and within(i.imported, ("fastcnn",)) and not within(i.imported, reference)
    ]
    assert inward == outward == []


@needs_sources
def test_third_parties_but_numpy_are_declared_and_imported_lazily() -> None:
    known = {*sys.stdlib_module_names, "numpy", "fastcnn"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = [
        *project["dependencies"],
        *(r for extra in project["optional-dependencies"].values() for r in extra),
    ]
    declared = {re.split(r"[^\w-]", requirement)[0].lower() for requirement in requirements}
    module_to_distribution = {"PIL": "pillow"}
    for found in imports():
        top = found.imported.split(".")[0]
        if top in known:
            continue
        assert found.lazy, f"{found.importer} imports {found.imported} at once"
        assert module_to_distribution.get(top, top) in declared, (
            f"{found.importer}: {top} is in no list of pyproject.toml"
        )


@needs_sources
def test_no_code_comes_out_of_files() -> None:
    wrong = [
        f"{module_name(path)}:{node.lineno}"
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("eval", "exec", "compile", "__import__")
    ]
    assert wrong == []


def run_python(program: str) -> str:
    """Return what a program prints in a fresh interpreter."""
    return subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout


EXTRAS = ("PIL", "tqdm", "safetensors", "matplotlib", "h5py", "onnx", "mpi4py", "huggingface_hub", "sklearn", "torch")


def test_import_loads_neither_numpy_nor_the_engine_nor_extras() -> None:
    loaded = run_python("import sys, fastcnn; print(*sys.modules)").split()
    assert "fastcnn" in loaded
    assert {"numpy", "fastcnn._core", *EXTRAS} & set(loaded) == set()


def test_no_module_loads_extras_at_import() -> None:
    program = """
import importlib, pkgutil, sys
import fastcnn
for module in pkgutil.walk_packages(fastcnn.__path__, "fastcnn."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print(*sys.modules)
"""
    loaded = run_python(program).split()
    assert "fastcnn.models.training" in loaded
    assert set(EXTRAS) & set(loaded) == set()


# -- tools -------------------------------------------------------------------------------------------------------------


@needs_sources
def test_the_hooks_and_the_extra_dev_pin_the_same_tools() -> None:
    hooks = ROOT / ".pre-commit-config.yaml"
    if not hooks.exists():
        pytest.skip("no .pre-commit-config.yaml here")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = dict(r.split("==") for r in project["optional-dependencies"]["dev"] if "==" in r)
    hooked = dict(re.findall(r"([\w-]+)==([\w.]+)", hooks.read_text()))
    hooked.pop("pre-commit-hooks")
    assert set(hooked) == {"ruff", "mypy", "clang-format"}
    assert {name: pinned.get(name) for name in hooked} == hooked
