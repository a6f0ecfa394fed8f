"""`fastcnn check-data`: what training would meet in a folder of pictures."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from fastcnn.data import FolderReport, check_folder

HELP = "read every picture of a folder and report what training would meet"

_SHOWN = 10  # paths per finding in the text
# Findings that training survives: field of FolderReport, and what it means.
_NOTES = {
    "wrong_extension": "named as another format than they are",
    "rotated": "marked by their camera as not upright; training ignores the mark",
    "transparent": "with transparency, which training drops",
    "animated": "animated; training takes the first frame",
    "sixteen_bit": "with 16 bits per pixel; training takes the upper 8",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("directory", metavar="DIR", help="the folder of class folders")


def run(options: argparse.Namespace) -> int:
    """Print the report; return 1, after a line on stderr, for what `fastcnn train` would refuse."""
    report = check_folder(options.directory)
    problems = _problems(report)
    if options.json:
        print(json.dumps(_as_json(report) | {"problems": problems}))
    else:
        _show(report)
    if problems:
        print(f"fastcnn check-data: {options.directory}: {'; '.join(problems)}", file=sys.stderr)
    return 1 if problems else 0


def _problems(report: FolderReport) -> list[str]:
    """Return what keeps a classifier from being trained on the folder."""
    problems = []
    if report.unreadable:
        problems.append(f"{len(report.unreadable)} of the files cannot be read")
    if report.empty_classes:
        problems.append(f"no pictures in {', '.join(report.empty_classes)}")
    if len(report.class_counts) < 2:
        problems.append(f"a classifier needs at least two class folders, found {len(report.class_counts)}")
    if not report.pictures:
        problems.append("no picture at all")
    return problems


def _as_json(report: FolderReport) -> dict[str, Any]:
    sizes = [{"height": h, "width": w, "count": count} for (h, w), count in report.sizes.most_common()]
    return vars(report) | {"sizes": sizes}


def _show(report: FolderReport) -> None:
    print(f"{report.directory}: {report.pictures} pictures, {len(report.class_counts)} classes")
    for name, count in report.class_counts.items():
        print(f"  {name} {count}")
    if report.pictures:
        print("formats: " + ", ".join(f"{name} {count}" for name, count in report.formats.most_common()))
        print(f"colour {report.colour}, gray {report.gray}")
        assert report.smallest is not None
        assert report.largest is not None
        low, high = ("{} x {}".format(*size) for size in (report.smallest, report.largest))
        print(f"sizes (height x width): {low} to {high}, {len(report.sizes)} different")
    if report.ignored:
        print("ignored: " + ", ".join(f"{count} {kind}" for kind, count in sorted(report.ignored.items())))
    for field, meaning in _NOTES.items():
        _list(f"{len(getattr(report, field))} {meaning}", getattr(report, field))
    _list(
        f"{len(report.duplicates)} pictures several times, byte by byte",
        [" = ".join(paths) for paths in report.duplicates],
    )
    _list(f"{len(report.unreadable)} cannot be read", [f"{path}: {why}" for path, why in report.unreadable.items()])


def _list(title: str, lines: list[str]) -> None:
    if not lines:
        return
    print(f"{title}:")
    for line in lines[:_SHOWN]:
        print(f"  {line}")
    if len(lines) > _SHOWN:
        print(f"  and {len(lines) - _SHOWN} more (--json lists all)")
