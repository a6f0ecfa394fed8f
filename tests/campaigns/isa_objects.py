"""Check the objects of a CMake build: no instruction set may leak into code that runs on another processor.

    python tests/campaigns/isa_objects.py BUILD

A linker keeps one copy of an inline function that several objects hold, perhaps the AVX2 copy for everybody, and a
static initialiser runs at load on every processor. So the objects of an instruction set may define symbols in their own
namespace only, call nothing but the engine's plain functions and the C library, and hold no initialiser; and objects
that run everywhere may not touch a register wider than SSE's. Needs nm and objdump. Prints one line per finding; the
exit code is then 1.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

BASELINE = (
    "_core",
    "fastcnn_core",
    "fastcnn_base",
    "fastcnn_neon",
)  # targets that run on every processor of their kind
# registers that a set must use
WIDE = {"fastcnn_avx2": "ymm", "fastcnn_avx2x16": "ymm", "fastcnn_avx512": "zmm", "fastcnn_amx": "tmm"}
CALLED = re.compile(r"fastcnn::(avx512::table|\w+)\(")  # plain functions of core/, and the table that amx extends
INITIALISER = re.compile(r"_GLOBAL__sub_I_|__cxx_global_var_init")


def output(*command: str) -> str:
    """Return what a command prints; raises CalledProcessError when it fails."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def symbols(path: Path, *options: str) -> list[tuple[str, str]]:
    """Return the (type letter, demangled name) of each symbol of an object."""
    lines = output("nm", *options, str(path)).splitlines()
    return [(match[1], match[2]) for line in lines if (match := re.match(r"[0-9a-f ]*\s(\w) (.+)", line))]


def isa_findings(path: Path, isa: str) -> list[str]:
    """Return what is wrong with an object of the kernels of one instruction set."""
    own = f"fastcnn::{isa}::"
    found = []
    for kind, name in symbols(path, "-C"):
        # "guard variable for fastcnn::isa::f()::x" and "void fastcnn::isa::f<1>(...)" are its own too
        inside = re.search(rf"(?:^|[ (]){re.escape(own)}", name) is not None
        if kind in "WVu" and not inside:
            found.append(f"weak symbol {name}")
        elif kind in "TDBRG" and not inside:
            found.append(f"symbol {name} outside {own.rstrip(':')}")
        elif kind == "U" and "::" in name and not inside and not CALLED.match(name):
            found.append(f"call of {name}")
    for _, name in symbols(path):
        if INITIALISER.search(name):
            found.append(f"static initialiser {name}")
    return found


def registers(path: Path) -> set[str]:
    """Return which of the registers xmm, ymm, zmm, tmm an object's code names."""
    return set(re.findall(r"%([xyzt]mm)\d", output("objdump", "-d", "--no-show-raw-insn", str(path))))


def findings(build: Path) -> list[str]:
    """Return a line for each finding in the objects of a build folder; raises ValueError when it holds none."""
    found, seen = [], 0
    for folder in sorted(build.glob("CMakeFiles/*.dir")):
        target = folder.name.removesuffix(".dir")
        used: set[str] = set()
        paths = sorted(folder.rglob("*.o"))
        if target == "fastcnn_driver" or not (target == "_core" or target.startswith("fastcnn_")):
            continue
        for path in paths:
            seen += 1
            wrong = []
            if target not in ("_core", "fastcnn_core"):
                wrong += isa_findings(path, target.removeprefix("fastcnn_"))
            used_here = registers(path)
            used |= used_here
            if target in BASELINE and used_here & {"ymm", "zmm", "tmm"}:
                wrong.append(f"baseline code uses {', '.join(sorted(used_here & {'ymm', 'zmm', 'tmm'}))} registers")
            found += [f"{path.relative_to(build)}: {sentence}" for sentence in wrong]
        if paths and target in WIDE and WIDE[target] not in used:
            found.append(f"{target}: no object uses {WIDE[target]} registers")
    if not seen:
        raise ValueError(f"isa_objects: {build} holds no objects of fastcnn")
    print(f"{seen} objects, {len(found)} findings")
    return found


def main(arguments: list[str]) -> int:
    """Run the command line."""
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    found = findings(Path(arguments[0]))
    print("\n".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
