"""HDF5, the container of Keras' .h5 files, through h5py (pip install "fastcnn[keras]").

Here a file is groups with text and lists of names as attributes, and arrays of floats and integers; what the names mean
is said in `fastcnn.models.keras_h5`. Nothing else of HDF5 is followed or read: no link that leads elsewhere, no data
outside the file, no virtual arrays, no filters but deflate, shuffle and checksums, no references or compound types.

An array's type, shape and size are checked before it is read: all arrays read from a file together are no larger than
the file, or a hundred times as large where they are compressed. The container itself is parsed by the HDF5 library.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from fastcnn.formats import FilePath, ModelFileError, open_regular
from fastcnn.formats.atomic import atomic_open

SIGNATURE = b"\x89HDF\r\n\x1a\n"
MAX_TEXT_BYTES = 8 << 20
MAX_NAMES = 32_768
_HEADER_LIMIT = 64_512  # bytes that Keras puts into one attribute before it begins another
_MAX_RATIO = 100  # of compressed arrays
_MAX_RANK = 8
_TEXT_KINDS = "SO"  # NumPy's kinds of strings of fixed and of any length


def sniff(head: bytes) -> bool:
    """Tell from a file's first bytes whether it is HDF5."""
    return head.startswith(SIGNATURE)


def _h5py() -> ModuleType:
    try:
        import h5py
    except ImportError as error:
        raise ImportError('Keras .h5 files need h5py: pip install "fastcnn[keras]"') from error
    module: ModuleType = h5py
    return module


@dataclass(frozen=True)
class ArrayInfo:
    """Shape and type of an array that has not been read."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


@contextmanager
def read(path: FilePath) -> Iterator[Reader]:
    """Yield a Reader of the file at path.

    Raises ImportError without h5py, OSError for a file that cannot be opened, ModelFileError for one that is damaged or
    holds what is not read here; also for errors of h5py within the block.
    """
    h5py = _h5py()
    with open_regular(path) as raw, io.BufferedReader(raw) as file:
        try:
            with h5py.File(file, "r") as root:
                yield Reader(h5py, root, path, os.fstat(raw.fileno()).st_size)
        except ModelFileError:
            raise
        except (OSError, RuntimeError, KeyError) as error:
            raise ModelFileError(f"{os.fsdecode(path)}: is a damaged HDF5 file ({error})") from error


class Reader:
    """An open file; groups and arrays are named by their path from the root, such as "model_weights/conv1"."""

    def __init__(self, h5py: ModuleType, root: Any, path: FilePath, size: int) -> None:
        self._h5py = h5py
        self._root = root
        self.path = os.fsdecode(path)
        self._budget = size
        self._checked: set[str] = set()

    def fail(self, reason: str) -> NoReturn:
        """Raise ModelFileError with the file's name."""
        raise ModelFileError(f"{self.path}: {reason}")

    # -- groups and attributes -----------------------------------------------------------------------------------------

    def has_group(self, name: str) -> bool:
        """Return whether there is a group of that path."""
        return isinstance(self._find(name), self._h5py.Group)

    def children(self, group: str) -> list[str]:
        """Return the names in a group, in alphabetical order; raises ModelFileError if there are too many."""
        found = self._group(group)
        if len(found) > MAX_NAMES:
            self.fail(f"group {group!r} holds {len(found):,} names, the limit is {MAX_NAMES:,}")
        return list(found)

    def text(self, group: str, name: str) -> str | None:
        """Return a text attribute of a group, None if it has none of that name."""
        value = self._attribute(group, name, array=False)
        return None if value is None else self._decoded(group, name, value)

    def names(self, group: str, name: str) -> list[str] | None:
        """Return a list of names; Keras splits long ones into attributes `name`0, `name`1... None if there is none."""
        whole = self._attribute(group, name, array=True)
        parts = [] if whole is None else [whole]
        while whole is None:
            part = self._attribute(group, f"{name}{len(parts)}", array=True)
            if part is None:
                break
            parts.append(part)
            if sum(len(part) for part in parts) > MAX_NAMES:
                self.fail(f"attribute {name!r} of {group!r} holds more than {MAX_NAMES:,} names")
        return [self._decoded(group, name, value) for part in parts for value in part] if parts else None

    def _attribute(self, group: str, name: str, array: bool) -> Any:
        found = self._group(group)
        if name not in found.attrs:
            return None
        info = found.attrs.get_id(name)
        kind = info.dtype.kind
        if array and info.shape == (0,):
            return []
        if kind not in _TEXT_KINDS or len(info.shape) != int(array):
            self.fail(f"attribute {name!r} of {group!r} is {list(info.shape)} {info.dtype}, expected text")
        if kind == "O" and self._h5py.check_string_dtype(info.dtype) is None:
            self.fail(f"attribute {name!r} of {group!r} is no text")
        count = info.shape[0] if array else 1
        if count > MAX_NAMES or info.dtype.itemsize * count > MAX_TEXT_BYTES:
            self.fail(f"attribute {name!r} of {group!r} is too large ({count:,} x {info.dtype.itemsize:,} bytes)")
        return found.attrs[name]

    def _decoded(self, group: str, name: str, value: Any) -> str:
        try:
            text = value.decode("utf-8") if isinstance(value, bytes) else str(value)
            text.encode("utf-8")  # h5py has decoded what is not UTF-8 into surrogates
        except UnicodeError:
            self.fail(f"attribute {name!r} of {group!r} is not UTF-8")
        if len(text) > MAX_TEXT_BYTES:
            self.fail(f"attribute {name!r} of {group!r} holds {len(text):,} characters, too many")
        return text

    # -- arrays --------------------------------------------------------------------------------------------------------

    def info(self, name: str) -> ArrayInfo:
        """Return shape and type of an array; raises ModelFileError if there is none or it is not a plain one."""
        found = self._find(name)
        if not isinstance(found, self._h5py.Dataset):
            self.fail(f"{name!r} is not an array in the file")
        plist = found.id.get_create_plist()
        if plist.get_layout() == self._h5py.h5d.VIRTUAL or plist.get_external_count():
            self.fail(f"array {name!r} lies outside the file, such data are not read")
        known = (self._h5py.h5z.FILTER_DEFLATE, self._h5py.h5z.FILTER_SHUFFLE, self._h5py.h5z.FILTER_FLETCHER32)
        filters = [plist.get_filter(i)[0] for i in range(plist.get_nfilters())]
        if unknown := [number for number in filters if number not in known]:
            self.fail(f"array {name!r} uses the HDF5 filter {unknown[0]}; only deflate, shuffle and checksums are read")
        if found.shape is None or found.dtype.kind not in "fiu" or len(found.shape) > _MAX_RANK:
            self.fail(f"array {name!r} is {found.shape} {found.dtype}, expected floats or integers")
        return ArrayInfo(tuple(found.shape), found.dtype)

    def check(self, name: str, shape: Sequence[int]) -> None:
        """Raise ModelFileError unless an array has that shape and the file has its numbers, beside those of others."""
        info = self.info(name)
        if info.shape != tuple(shape):
            self.fail(f"array {name!r} is {list(info.shape)}, expected {list(shape)}")
        found = self._find(name)
        stored = found.id.get_storage_size()
        ratio = _MAX_RATIO if found.id.get_create_plist().get_nfilters() else 1
        if found.nbytes > stored * ratio:
            self.fail(f"array {name!r} takes {found.nbytes:,} bytes but the file has {stored:,} for it")
        self._budget -= -(-found.nbytes // ratio)
        if self._budget < 0:
            self.fail(f"its arrays up to {name!r} are said to be larger than the file")
        self._checked.add(name)

    def array(self, name: str, shape: Sequence[int]) -> NDArray[Any]:
        """Return an array, after `check` unless that has been done; raises ModelFileError."""
        if name not in self._checked:
            self.check(name, shape)
        found = self._find(name)
        values: NDArray[Any] = found[()] if found.shape == () else np.empty(found.shape, found.dtype)
        if found.shape and values.size:
            found.read_direct(values)
        return np.asarray(values)

    # -- links ---------------------------------------------------------------------------------------------------------

    def _group(self, name: str) -> Any:
        found = self._find(name)
        if not isinstance(found, self._h5py.Group):
            self.fail(f"has no group {name!r}")
        return found

    def _find(self, name: str) -> Any:
        """Return what lies at a path whose every step is a link within its own group, None if there is nothing."""
        found = self._root
        for part in name.split("/") if name else ():
            if part in ("", ".", "..") or not isinstance(found, self._h5py.Group):
                return None
            link = found.get(part, getlink=True)
            if link is None:
                return None
            if not isinstance(link, self._h5py.HardLink):
                self.fail(f"{name!r} is a link to somewhere else, which is not followed")
            found = found[part]
        return found


@contextmanager
def write(path: FilePath) -> Iterator[Writer]:
    """Yield a Writer to a file that replaces path when the block ends; after any exception path is as it was.

    Raises ImportError without h5py and OSError with path.
    """
    h5py = _h5py()
    with atomic_open(path) as file, h5py.File(file, "w") as root:
        yield Writer(root)


class Writer:
    """An open new file."""

    def __init__(self, root: Any) -> None:
        self._root = root

    def group(self, name: str) -> None:
        """Make a group unless there is one."""
        self._root.require_group(name)

    def text(self, group: str, name: str, value: str) -> None:
        """Write a text attribute of a group, the root by ""."""
        self._target(group).attrs[name] = value.encode("utf-8")

    def names(self, group: str, name: str, values: Sequence[str]) -> None:
        """Write a list of names, in several attributes if it is long; raises ValueError for one that fits in none."""
        encoded = [value.encode("utf-8") for value in values]
        longest = max(map(len, encoded), default=1)
        if longest > _HEADER_LIMIT:
            raise ValueError(f"the name {values[0][:60]}... of {longest:,} bytes is too long for an HDF5 attribute")
        per_part = max(1, _HEADER_LIMIT // max(1, longest))
        target = self._target(group)
        if len(encoded) <= per_part:
            target.attrs[name] = np.array(encoded, dtype=f"S{max(1, longest)}")
            return
        for number, begin in enumerate(range(0, len(encoded), per_part)):
            target.attrs[f"{name}{number}"] = np.array(encoded[begin : begin + per_part], dtype=f"S{longest}")

    def array(self, name: str, values: NDArray[Any]) -> None:
        """Write an array, contiguous and uncompressed."""
        self._root.create_dataset(name, data=values)

    def _target(self, group: str) -> Any:
        return self._root[group] if group else self._root
