"""`fastcnn selftest`: whether this installation computes what it should on this machine."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

HELP = "check this installation: every instruction set against float64, threads, files (a few seconds)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments: none."""


def run(options: argparse.Namespace) -> int:
    """Print a line per check; return 1 if any fails."""
    from fastcnn import selftest

    failed = count = 0
    for check in selftest.run():
        count += 1
        failed += not check.passed
        if options.json:
            print(json.dumps(asdict(check)), flush=True)
        else:
            print(f"{'ok    ' if check.passed else 'FAILED'} {check.name}: {check.detail}", flush=True)
    if not options.json:
        print(f"{failed} of {count} checks failed" if failed else f"all {count} checks passed")
    return 1 if failed else 0
