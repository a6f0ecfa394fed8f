"""Which picture files the arguments of a command mean: files, folders and patterns."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable

from fastcnn.data.folder import EXTENSIONS, FORMATS, scan_flat

_ENDINGS = tuple(ending for name in FORMATS for ending in EXTENSIONS[name])


def find_pictures(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the pictures that files, folders and patterns mean, each once, and a line for each that means none.

    A folder stands for all pictures below it by the rules of `fastcnn.data`; a pattern, `**` for folders of any depth,
    for the pictures and folders that match it, both sorted. A file counts as a picture whatever its name.
    """
    pictures: dict[str, str] = {}
    problems: list[str] = []

    def add(paths: Iterable[str]) -> None:
        for path in paths:
            pictures.setdefault(os.path.realpath(path), path)

    for name in names:
        if os.path.isdir(name):
            paths, wrong = _below(name)
        elif not os.path.lexists(name) and glob.has_magic(name):
            paths, wrong = _matching(name)
        else:
            paths, wrong = [name], []
        add(paths)
        problems += wrong
    return list(pictures.values()), problems


def _below(folder: str) -> tuple[list[str], list[str]]:
    index = scan_flat(folder, follow_links=False, formats=FORMATS)
    problems = [f"picture {path!r}: {reason}" for path, reason in sorted(index.refused.items())]
    if not index.file_paths and not problems:
        problems = [f"folder {folder!r}: no picture in it"]
    return index.file_paths, problems


def _matching(pattern: str) -> tuple[list[str], list[str]]:
    paths: list[str] = []
    problems: list[str] = []
    for match in sorted(glob.glob(pattern, recursive=True)):
        if os.path.isdir(match):
            below, wrong = _below(match)
            # `**` also matches folders that hold nothing but folders without pictures
            problems += [line for line in wrong if below or not line.startswith("folder ")]
            paths += below
        elif match.lower().endswith(_ENDINGS):
            paths.append(match)
    if not paths and not problems:
        problems = [f"pattern {pattern!r}: no picture matches it"]
    return paths, problems
