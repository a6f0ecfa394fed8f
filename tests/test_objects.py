"""Objects of one instruction set define and run nothing that another processor could meet."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CAMPAIGN = ROOT / "tests" / "campaigns" / "isa_objects.py"
LISTS = ROOT / "CMakeLists.txt"

pytestmark = [
    pytest.mark.skipif(not LISTS.exists(), reason="the C++ sources are not here"),
    pytest.mark.skipif(not all(map(shutil.which, ("g++", "nm", "objdump"))), reason="needs g++, nm and objdump"),
]


def isa_flags() -> dict[str, list[str]]:
    """Return the compiler flags of each instruction set, as CMakeLists.txt has them."""
    text = LISTS.read_text()
    common = re.search(r"target_compile_options\(fastcnn_\$\{name\} PRIVATE ([^)]*)\)", text)
    assert common, "CMakeLists.txt: the flags of the kernels are not where they were"
    shared = [flag for flag in common[1].split() if not flag.startswith("$")]
    rows = re.findall(r'fastcnn_isa\((\w+) "([^"$]*)" (\d+) \$', text)
    return {
        name: [*flags.split(), *shared, f"-DFASTCNN_ISA={name}", f"-DFASTCNN_LANES={lanes}"]
        for name, flags, lanes in rows
    }


def compile_into(build: Path, target: str, source: Path, flags: list[str]) -> None:
    """Compile a source to where CMake would put its object."""
    path = build / "CMakeFiles" / f"{target}.dir" / f"{source.name}.o"
    path.parent.mkdir(parents=True, exist_ok=True)
    options = ["-std=gnu++20", "-fPIC", "-fvisibility=hidden", "-fvisibility-inlines-hidden", "-Wno-psabi"]
    subprocess.run(
        ["g++", *options, *flags, f"-I{ROOT / 'cpp'}", "-c", str(source), "-o", str(path)],
        check=True,
    )


def check(build: Path) -> tuple[int, str]:
    """Run the campaign on a build folder; return its exit code and what it printed."""
    ran = subprocess.run([sys.executable, str(CAMPAIGN), str(build)], capture_output=True, text=True)
    assert ran.stderr == ""
    return ran.returncode, ran.stdout


x86 = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="needs an x86-64 compiler")


@x86
def test_two_units_of_the_kernels_keep_to_themselves(tmp_path: Path) -> None:
    flags = isa_flags()
    for isa in ("base", "avx2"):
        for unit in ("pointwise", "table"):
            compile_into(tmp_path, f"fastcnn_{isa}", ROOT / "cpp" / "kernels" / f"{unit}.cpp", flags[isa])
    code, printed = check(tmp_path)
    assert printed.strip() == "4 objects, 0 findings"
    assert code == 0


@x86
@pytest.mark.parametrize(
    ("code", "finding"),
    [
        ("inline float twice(float a) { return a + a; } auto p = &twice;", "weak symbol twice"),
        ("float twice(float a) { return a + a; }", "symbol twice(float) outside fastcnn::avx2"),
        ("int make(); static int made = make(); int* p = &made;", "static initialiser _GLOBAL__sub_I_"),
        (
            "namespace std { float sqrt(float); } namespace fastcnn::avx2 { float f() { return std::sqrt(2); } }",
            "call of std::sqrt(float)",
        ),
    ],
    ids=["weak", "outside", "initialiser", "call"],
)
def test_a_unit_that_reaches_out_is_found(tmp_path: Path, code: str, finding: str) -> None:
    source = tmp_path / "unit.cpp"
    source.write_text(code)
    compile_into(tmp_path, "fastcnn_avx2", source, ["-O0", "-mavx2"])
    status, printed = check(tmp_path)
    assert status == 1
    assert f"unit.cpp.o: {finding}" in printed


@x86
@pytest.mark.parametrize("target", ["_core", "fastcnn_core", "fastcnn_base"])
def test_wide_registers_in_code_for_every_processor_are_found(tmp_path: Path, target: str) -> None:
    source = tmp_path / "unit.cpp"
    source.write_text(
        "namespace fastcnn::base { void f(float* a) { for (int i = 0; i < 64; ++i) a[i] = a[i] * a[i]; } }"
    )
    compile_into(tmp_path, target, source, ["-O3", "-mavx2"])
    status, printed = check(tmp_path)
    assert status == 1
    assert "baseline code uses ymm registers" in printed
