"""Plants faults in the kernels, one at a time, and asks the tests of the operations to catch each.

    python tests/campaigns/planted_faults.py --output planted_faults.md

Sources and tests are copied and built once for each instruction set that gets faults, with it alone (amx with avx512,
which it extends), by the compiler and flags that CMake chooses. For each fault of `faults.py` one place of the copy is
changed, the objects that include it are compiled again, and `pytest tests/ops` runs with a copy of the package around
the faulty engine. Needs CMake, a compiler and pybind11; faults of sets that the CPU lacks are named and left out. A
minute a fault.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from fault import Fault
from faults import FAULTS

ROOT = Path(__file__).resolve().parents[2]
BUILDS = {"avx2": ("avx2",), "avx512": ("avx512",), "amx": ("avx512", "amx")}


class Build:
    """A copy of sources and tests, the objects, and a copy of the package for the engine linked from them."""

    def __init__(self, work: Path, isas: Sequence[str]) -> None:
        self.isas = isas
        self.source, self.package = work / "source", work / "package" / "fastcnn"
        self.objects, self.faulty = work / "objects", work / "faulty"
        for folder in (self.objects, self.faulty):
            folder.mkdir(parents=True)
        for part in ("cpp", "tests"):
            shutil.copytree(ROOT / part, self.source / part, ignore=shutil.ignore_patterns("__pycache__"))
        for file in ("CMakeLists.txt", "pyproject.toml"):
            shutil.copy(ROOT / file, self.source / file)
        generated = shutil.ignore_patterns("_core.*.so", "_core.so", "__pycache__", ".mypy_cache")
        shutil.copytree(ROOT / "python" / "fastcnn", self.package, ignore=generated)
        self.commands = self._commands(work / "cmake")

    def _commands(self, build: Path) -> dict[str, list[str]]:
        """Return CMake's compiler command for each object that an engine for these sets alone needs, by its name."""
        pybind11 = subprocess.run(
            [sys.executable, "-m", "pybind11", "--cmakedir"], capture_output=True, text=True, check=True
        ).stdout.strip()
        options = [f"-DPython_EXECUTABLE={sys.executable}", f"-Dpybind11_DIR={pybind11}"]
        cmake = ["cmake", "-S", self.source, "-B", build, "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON", *options]
        subprocess.run(cmake, check=True, stdout=subprocess.DEVNULL)
        commands = {}
        for entry in json.loads((build / "compile_commands.json").read_text()):
            command, path = shlex.split(entry["command"]), Path(entry["file"])
            if not path.is_relative_to(self.source / "cpp"):
                continue  # the driver
            file = path.relative_to(self.source / "cpp")
            own = [isa for isa in self.isas if f"-DFASTCNN_ISA={isa}" in command]
            if file.parts[0] == "kernels" and not own:
                continue
            other = re.compile(rf"-DFASTCNN_HAS_(?!(?:{'|'.join(self.isas).upper()})$)")
            command = [word for word in command if not other.match(word)]
            output = command.index("-o")
            del command[output : output + 2]
            commands["_".join((*own, *file.with_suffix(".o").parts))] = command
        return commands

    def compile(self, names: Sequence[str], folder: Path) -> None:
        for name in names:
            subprocess.run([*self.commands[name], "-MMD", "-o", folder / name], check=True, capture_output=True)

    def link(self, faulty: Sequence[str] = ()) -> None:
        """Link the engine, with the faulty objects in place of the sound ones, into the package."""
        objects = [(self.faulty if name in faulty else self.objects) / name for name in self.commands]
        compiler = self.commands["core_threads.o"][0]
        library = self.package / f"_core{sysconfig.get_config_var('EXT_SUFFIX')}"
        subprocess.run([compiler, "-shared", "-fopenmp", "-o", library, *objects], check=True, capture_output=True)

    def sound(self) -> None:
        self.compile(list(self.commands), self.objects)
        self.link()

    def plant(self, fault: Fault) -> int:
        """Build the engine with one fault and return its line; the source is sound again afterwards."""
        path = self.source / "cpp" / fault.file
        text = path.read_text()
        including = [name for name in self.commands if f"cpp/{fault.file}" in self._dependencies(name)]
        path.write_text(fault.apply(text))
        try:
            self.compile(including, self.faulty)
        finally:
            path.write_text(text)
        self.link(including)
        return fault.line(text)

    def _dependencies(self, name: str) -> str:
        return (self.objects / name).with_suffix(".d").read_text()

    def test(self, first: str, limit: float) -> str:
        """Run the tests of the operations, those of the file `first` before the others; return what caught the fault.

        Empty: nothing did. A test that crashes or does not end within limit seconds has caught it too.
        """
        tests = self.source / "tests" / "ops"
        own = tests / f"test_{Path(first).stem.split('_')[0]}.py"
        command = [sys.executable, "-m", "pytest", "-x", "-v", "--tb=line", "-p", "no:cacheprovider"]
        command += ["-c", str(self.source / "pyproject.toml"), *([str(own)] if own.exists() else []), str(tests)]
        environment = {**os.environ, "PYTHONPATH": str(self.package.parent), "PYTHONDONTWRITEBYTECODE": "1"}
        with tempfile.TemporaryFile("w+") as log:
            try:
                status = subprocess.run(
                    command, cwd=self.source, env=environment, stdout=log, stderr=subprocess.STDOUT, timeout=limit
                ).returncode
            except subprocess.TimeoutExpired:
                status = None
            log.seek(0)
            output = log.read()
        if status == 0:
            return ""
        started = re.findall(r"^(?:\S*/)?(test_\w+\.py::\S+)", output, re.MULTILINE)
        if status is None or status < 0:
            how = "does not end" if status is None else f"signal {-status}"
            return f"{started[-1] if started else 'start'} ({how})"
        failed = re.search(r"^(?:FAILED|ERROR) (?:\S*/)?(test_\w+\.py::\S+)", output, re.MULTILINE)
        if not failed:
            raise RuntimeError(f"pytest ended with status {status}:\n{output[-4000:]}")
        return failed[1]

    def isas_here(self) -> list[str]:
        """Return the sets that the engine can run here; raise RuntimeError if Python finds another package."""
        code = "from fastcnn import _core; print(_core.__file__, *_core.isas())"
        environment = {**os.environ, "PYTHONPATH": str(self.package.parent)}
        result = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        )
        file, *isas = result.stdout.split()
        if Path(file).parent.resolve() != self.package.resolve():
            raise RuntimeError(f"Python imports {file}, not {self.package}")
        return isas


def row(number: int, fault: Fault, line: int, caught: str, seconds: float) -> str:
    found = f"`{caught}`" if caught else "**nothing**"
    return f"| {number} | {Path(fault.file).name}:{line} | {fault.why} | {found} | {seconds:.0f} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="numbers of faults, such as 3,7 (default: all)")
    parser.add_argument("--limit", type=float, default=600, help="seconds of testing a fault (%(default)s)")
    parser.add_argument("--output", type=Path, help="Markdown file for the table")
    arguments = parser.parse_args()
    numbers = [int(n) for n in arguments.only.split(",")] if arguments.only else list(range(1, len(FAULTS) + 1))
    for number in numbers:
        FAULTS[number - 1].line((ROOT / "cpp" / FAULTS[number - 1].file).read_text())
    lines = ["| # | line | fault | caught by | s |", "|---|---|---|---|---|"]
    print(*lines, sep="\n", flush=True)
    caught = planted = 0
    for isa, isas in BUILDS.items():
        mine = [number for number in numbers if FAULTS[number - 1].isa == isa]
        if not mine:
            continue
        with tempfile.TemporaryDirectory() as folder:
            build = Build(Path(folder), isas)
            build.sound()
            if build.isas_here() != list(isas):
                print(f"this CPU lacks {isa}: {len(mine)} faults left out", flush=True)
                continue
            if failure := build.test("", 3600):
                raise RuntimeError(f"{failure} fails without any fault")
            for number in mine:
                fault, start = FAULTS[number - 1], time.monotonic()
                line = build.plant(fault)
                found = build.test(fault.file, arguments.limit)
                planted, caught = planted + 1, caught + bool(found)
                lines.append(row(number, fault, line, found, time.monotonic() - start))
                print(lines[-1], flush=True)
                if arguments.output:  # after each fault: an interrupted campaign keeps what it has
                    arguments.output.write_text("\n".join([*lines, "", f"{caught} of {planted} caught."]) + "\n")
    print(f"\n{caught} of {planted} caught.")
    return 0 if caught == planted else 1


if __name__ == "__main__":
    sys.exit(main())
