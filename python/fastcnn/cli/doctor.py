"""`fastcnn doctor`: what runs here, and why so."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
from typing import Any

from fastcnn import config

HELP = "show versions, instruction sets and threads of this installation"

_PACKAGES = ("numpy", "pillow", "tqdm", "matplotlib")
_EXTRAS = {"matplotlib": "plot"}


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
    packages = {name: _version(name) for name in _PACKAGES}
    if options.json:
        found: dict[str, Any] = config.configuration() | {"isa": config.isa(), "isas": config.isas()}
        print(json.dumps(found | threads | {"packages": packages}))
        return 0
    config.show_config()
    print()
    print(
        f"{threads['threads']} threads: the least of {threads['usable_cpus']} CPUs that this process may use (of "
        f"{threads['cpus']}), its cgroup's CPU quota, and OMP_NUM_THREADS ({threads['omp_num_threads'] or 'not set'})"
    )
    for name, version in packages.items():
        hint = f'missing: pip install "fastcnn[{_EXTRAS[name]}]"' if name in _EXTRAS else "missing"
        print(f"{name} {version or hint}")
    return 0


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
