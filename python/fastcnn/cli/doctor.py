"""`fastcnn doctor`: what runs here, and why so."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import re
from collections.abc import Mapping
from typing import Any

from fastcnn import config

HELP = "show versions, instruction sets, threads and OpenMP runtime of this installation"

_PACKAGES = ("numpy", "pillow", "tqdm", "matplotlib")
_EXTRAS = {"matplotlib": "plot"}
_ISAS = ("base", "avx2", "avx512", "amx", "neon")  # of all builds
_OPENMP_LIBRARY = re.compile(r"/\S*lib(?:gomp|iomp5|omp)\b\S*\.so\S*")
_OPENMP_VARIABLES = re.compile(r"(OMP|GOMP|KMP)_\w+")
_MAPS = "/proc/self/maps"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments: none."""


def run(options: argparse.Namespace) -> int:
    """Print the report; return the exit code."""
    threads = {
        "threads": config.num_threads(),
        "cpus": os.cpu_count(),
        "usable_cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS"),
    }
    threads["threads_because"] = because = _because(threads)
    runtimes, variables = _openmp_runtimes(), _openmp_variables()
    packages = {name: _version(name) for name in _PACKAGES}
    refused = {name: reason for name in _ISAS if (reason := _refusal(name)) is not None}
    if options.json:
        found: dict[str, Any] = config.configuration() | {"isa": config.isa(), "isas": config.isas()}
        found |= threads | {"isas_refused": refused, "openmp": runtimes, "openmp_variables": variables}
        print(json.dumps(found | {"packages": packages}))
        return 0
    config.show_config()
    print()
    print(
        f"{threads['threads']} threads, because of {because}: the least of {threads['usable_cpus']} CPUs that this "
        f"process may use (of {threads['cpus']}), its cgroup's CPU quota, and OMP_NUM_THREADS "
        f"({threads['omp_num_threads'] or 'not set'})"
    )
    print(f"instruction sets that can be forced, FASTCNN_ISA=NAME or set_isa: {', '.join(config.isas())}")
    for name, reason in refused.items():
        print(f"  not {name}: {reason}")
    print(f"OpenMP: {', '.join(runtimes) or 'no runtime found among the loaded libraries'}")
    if len(runtimes) > 1:
        print("  several runtimes in one process compete for the CPUs")
    for name, value in variables.items():
        print(f"  {name}={value}")
    for name, version in packages.items():
        hint = f'missing: pip install "fastcnn[{_EXTRAS[name]}]"' if name in _EXTRAS else "missing"
        print(f"{name} {version or hint}")
    return 0


def _because(threads: Mapping[str, Any]) -> str:
    """Return which of the limits decides; the quota is what is left when the others allow more."""
    wanted = threads["omp_num_threads"]
    if threads["threads"] >= threads["usable_cpus"]:
        return "the CPUs"
    number = re.match(r"\s*(\d+)", wanted or "")
    if number and threads["threads"] == int(number[1]):
        return "OMP_NUM_THREADS"
    return "the cgroup's CPU quota"


def _refusal(isa: str) -> str | None:
    """Return why an instruction set cannot be chosen, None if it can."""
    if isa in config.isas():
        return None
    try:
        config.set_isa(isa)
    except ValueError as error:
        return str(error).partition(": ")[2].partition(";")[0]
    return None


def _openmp_runtimes() -> list[str]:
    """Return the OpenMP libraries that this process has loaded."""
    try:
        with open(_MAPS, encoding="utf-8", errors="replace") as maps:
            return sorted(set(_OPENMP_LIBRARY.findall(maps.read())))
    except OSError:  # no /proc
        return []


def _openmp_variables() -> dict[str, str]:
    return {name: value for name, value in sorted(os.environ.items()) if _OPENMP_VARIABLES.fullmatch(name)}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
