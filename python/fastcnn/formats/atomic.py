"""One way to write a file: completely, or not at all.

A temporary file beside the target is written, synced and renamed over it, then the directory is synced: a reader, or
whoever comes after a crash, sees the old file or the new one. The writer holds a lock (flock) on its temporary file
until the rename; one that nobody has locked was left by a killed process, and the next save to the same target removes
it. On file systems without flock such leftovers stay.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

from fastcnn.formats import FilePath

_NAME_MAX = 255  # bytes in a file name, the limit of the usual file systems
_TOKEN_DIGITS = 16  # a temporary file is <name>.<token>.tmp
_SUFFIX_BYTES = len(".") + _TOKEN_DIGITS + len(".tmp")
# Some network file systems; a directory without read permission.
_NO_DIRECTORY_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EACCES)


@contextmanager
def atomic_open(path: FilePath) -> Iterator[BinaryIO]:
    """Yield a binary file that replaces path when the block ends; after any exception path is as it was.

    It can be read too. A new file gets the permissions of the umask, a replaced one keeps its own; a symbolic link is
    followed. Raises OSError with path. Only the last step, syncing the directory, can fail with the new file already in
    place.
    """
    target, permissions = _check_target(path)
    _remove_stale(target)
    temporary, file = _create_temporary(path, target, permissions)
    try:
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            with suppress(OSError):  # flushes once more, which fails again
                file.close()
            raise
        with suppress(OSError):  # the content is synced and in place
            file.close()
        _sync_directory(os.path.dirname(target))
    except OSError as error:
        if error.errno is None or error.filename not in (None, temporary):
            raise  # an error of the block about some other file
        raise _error(error.errno, error.strerror or "cannot write", path) from error


def atomic_write(path: FilePath, chunks: Iterable[bytes | memoryview]) -> None:
    """Write the chunks to path, completely or not at all; raises OSError with path."""
    with atomic_open(path) as file:
        for chunk in chunks:
            file.write(chunk)


def check_writable(path: FilePath, nbytes: int = 0) -> None:
    """Raise OSError if a later save of nbytes to path would fail for want of a directory, permission or space."""
    target, permissions = _check_target(path)
    temporary, file = _create_temporary(path, target, permissions)
    os.unlink(temporary)
    file.close()
    free = shutil.disk_usage(os.path.dirname(target)).free
    if free < nbytes:
        raise _error(errno.ENOSPC, f"{nbytes:,} bytes are needed and {free:,} are free", path)


def _error(number: int | None, reason: str, path: FilePath) -> OSError:
    return OSError(number, reason, os.fspath(path))


def _check_target(path: FilePath) -> tuple[str, int | None]:
    """Return what path resolves to and the permission bits of the file there, if any; raise OSError if unsuitable."""
    if not os.path.basename(path):
        raise _error(errno.EISDIR, "a file name is needed, not a directory", path)
    target = os.path.realpath(path)
    directory = os.path.dirname(target)
    if not os.path.isdir(directory):
        raise _error(errno.ENOENT, f"the directory {directory} does not exist", path)
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        return target, None
    if stat.S_ISDIR(mode):
        raise _error(errno.EISDIR, "a file name is needed, not a directory", path)
    if not stat.S_ISREG(mode):  # renaming over /dev/null would destroy it
        raise _error(errno.EINVAL, "exists and is not a regular file", path)
    try:
        os.close(os.open(target, os.O_WRONLY | os.O_NONBLOCK))  # a rename would also replace a write-protected file
    except OSError as error:
        raise _error(error.errno, error.strerror or "cannot write", path) from error
    return target, stat.S_IMODE(mode) & 0o777


def _temporary_prefix(name: str) -> str:
    """Return what a target's temporary files start with: its name, cut to leave room for the rest."""
    return os.fsencode(name)[: _NAME_MAX - _SUFFIX_BYTES].decode(errors="ignore")


def _create_temporary(path: FilePath, target: str, permissions: int | None) -> tuple[str, BinaryIO]:
    """Create and lock an empty file beside target, what path resolves to; return its name and the open file."""
    directory, name = os.path.split(target)
    while True:
        temporary = os.path.join(directory, f"{_temporary_prefix(name)}.{secrets.token_hex(_TOKEN_DIGITS // 2)}.tmp")
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        try:
            descriptor = os.open(temporary, flags, 0o666 if permissions is None else permissions)
        except OSError as error:
            raise _error(error.errno, f"no file can be made in {directory}: {error.strerror}", path) from error
        file = os.fdopen(descriptor, "w+b")
        if permissions is not None:
            os.fchmod(descriptor, permissions)  # the umask may have taken bits away
        if _lock(descriptor) is not False and os.fstat(descriptor).st_nlink > 0:
            return temporary, file
        file.close()  # another process took the new file for a stale one before the lock was held


def _lock(descriptor: int) -> bool | None:
    """Lock a file without waiting: True if locked now, False if somebody else holds it, None if there are no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _remove_stale(target: str) -> None:
    """Remove the temporary files of target whose writer is gone; what cannot be removed stays."""
    directory, name = os.path.split(target)
    pattern = re.compile(re.escape(_temporary_prefix(name)) + rf"\.[0-9a-f]{{{_TOKEN_DIGITS}}}\.tmp")
    with suppress(OSError):
        for entry in os.listdir(directory):
            if pattern.fullmatch(entry):
                _remove_if_unlocked(os.path.join(directory, entry))


def _remove_if_unlocked(temporary: str) -> None:
    with suppress(OSError):
        descriptor = os.open(temporary, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            if stat.S_ISREG(os.fstat(descriptor).st_mode) and _lock(descriptor):
                os.unlink(temporary)
        finally:
            os.close(descriptor)


def _sync_directory(directory: str) -> None:
    """Make a rename in the directory durable where the file system can."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _NO_DIRECTORY_SYNC:
            raise OSError(
                error.errno, error.strerror
            ) from error  # without the directory's name: the caller adds the target's
