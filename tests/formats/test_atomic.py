"""Atomic writes: the old file or the new one, whatever fails and whenever the process dies."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import random
import resource
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fastcnn.formats.atomic import atomic_open, atomic_write, check_writable

OLD = b"old content"
STALE = "model.bin.0123456789abcdef.tmp"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "model.bin"
    path.write_bytes(OLD)
    return path


def assert_untouched(target: Path) -> None:
    assert target.read_bytes() == OLD
    assert os.listdir(target.parent) == [target.name]


# ---- content and permissions


def test_writes_chunks_and_leaves_only_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    atomic_write(path, iter([b"one ", memoryview(b"two "), b"", b"x" * 100_000]))
    assert path.read_bytes() == b"one two " + b"x" * 100_000
    assert os.listdir(tmp_path) == ["a.bin"]
    atomic_write(str(path), [])
    assert path.read_bytes() == b""


def test_the_open_file_can_seek(tmp_path: Path) -> None:
    with atomic_open(tmp_path / "a") as file:
        file.write(b"0123456789")
        file.seek(2)
        file.write(b"ab")
    assert (tmp_path / "a").read_bytes() == b"01ab456789"


def test_nothing_is_visible_before_the_end(target: Path) -> None:
    with atomic_open(target) as file:
        file.write(b"new" * 100_000)
        file.flush()
        assert target.read_bytes() == OLD
    assert target.read_bytes() == b"new" * 100_000


def test_a_reader_keeps_the_file_it_opened(target: Path) -> None:
    with target.open("rb") as reader:
        atomic_write(target, [b"new"])
        assert reader.read() == OLD


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664), (0o000, 0o666)])
def test_a_new_file_follows_the_umask(tmp_path: Path, mask: int, mode: int) -> None:
    with umask(mask):
        atomic_write(tmp_path / "a", [b"x"])
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == mode


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666, 0o755])
def test_a_replaced_file_keeps_its_permissions(target: Path, mode: int) -> None:
    target.chmod(mode)
    with umask(0o077), atomic_open(target) as file:
        assert stat.S_IMODE(os.fstat(file.fileno()).st_mode) == mode
        file.write(b"new")
    assert stat.S_IMODE(target.stat().st_mode) == mode
    assert target.read_bytes() == b"new"


def test_follows_symbolic_links(target: Path) -> None:
    link = target.parent / "latest"
    link.symlink_to("model.bin")
    atomic_write(link, [b"new"])
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    target.unlink()
    atomic_write(link, [b"newer"])
    assert link.is_symlink()
    assert target.read_bytes() == b"newer"


@pytest.mark.parametrize("name", ["n" * 255, "é" * 127, "a" + "é" * 127, "\udcff" * 255, ".hidden", "a b\n*[x]"])
def test_any_legal_name(tmp_path: Path, name: str) -> None:
    for content in (b"first", b"second"):
        atomic_write(tmp_path / name, [content])
        assert (tmp_path / name).read_bytes() == content
    assert os.listdir(tmp_path) == [name]


def test_a_name_that_is_too_long_names_itself(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="n" * 256) as caught:
        atomic_write(tmp_path / ("n" * 256), [b"x"])
    assert caught.value.errno == errno.ENAMETOOLONG


# ---- failures


class Disk(io.FileIO):
    """A file that takes at most step bytes a call and has room for so many in all."""

    step = 1000
    room = 1 << 60
    error = errno.ENOSPC

    def write(self, data: Any) -> int:
        taken = min(len(data), self.step, self.room - self.tell())
        if len(data) and not taken:
            raise OSError(self.error, os.strerror(self.error))
        return super().write(memoryview(data)[:taken]) or 0


def use_disk(monkeypatch: pytest.MonkeyPatch, disk: type[Disk]) -> None:
    monkeypatch.setattr(os, "fdopen", lambda descriptor, mode: io.BufferedWriter(disk(descriptor, mode), 512))


def test_short_writes_are_completed(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_disk(monkeypatch, Disk)
    atomic_write(target, [bytes([i]) * 3000 for i in range(5)])
    assert target.read_bytes() == b"".join(bytes([i]) * 3000 for i in range(5))


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
@pytest.mark.parametrize("room", [0, 1, 500, 512, 1000, 5500, 9999])
def test_a_failing_write_leaves_the_old_file(
    target: Path, monkeypatch: pytest.MonkeyPatch, room: int, error: int
) -> None:
    use_disk(monkeypatch, type("Full", (Disk,), {"room": room, "error": error}))
    descriptors = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match=r"model\.bin") as caught:
        atomic_write(target, [b"x" * 1000] * 10)
    assert (caught.value.errno, caught.value.filename) == (error, str(target))
    assert_untouched(target)
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_a_close_that_fails_after_the_rename_is_no_failure(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Unclosable(Disk):
        def close(self) -> None:
            super().close()
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    use_disk(monkeypatch, Unclosable)
    atomic_write(target, [b"new"])
    assert target.read_bytes() == b"new"


def test_the_file_size_limit_leaves_the_old_file(target: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OSError, match=r"model\.bin") as caught:
            atomic_write(target, [b"x" * 30_000] * 10)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(target))
    assert_untouched(target)


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_a_failing_call_leaves_the_old_file(
    target: Path, monkeypatch: pytest.MonkeyPatch, call: str, error: int
) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(error, os.strerror(error), *arguments[:1] if call == "replace" else ())

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match=f"{os.strerror(error)}: '.*model.bin'") as caught:
        atomic_write(target, [b"new"])
    assert (caught.value.errno, caught.value.filename) == (error, str(target))
    assert_untouched(target)


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), OSError("no number")])
def test_an_exception_of_the_block_leaves_the_old_file(target: Path, error: BaseException) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"half"
        raise error

    with pytest.raises(type(error)) as caught:
        atomic_write(target, chunks())
    assert caught.value is error
    assert_untouched(target)


def test_errors_about_another_file_keep_its_name(target: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught, atomic_open(target):
        (target.parent / "other").read_bytes()
    assert caught.value.filename == str(target.parent / "other")
    assert_untouched(target)


def test_synced_before_and_after_the_rename(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    fsync, replace = os.fsync, os.replace

    def logged_fsync(descriptor: int) -> None:
        status = os.fstat(descriptor)
        log.append("sync directory" if stat.S_ISDIR(status.st_mode) else f"sync file of {status.st_size} bytes")
        fsync(descriptor)

    def logged_replace(source: str, destination: str) -> None:
        log.append(f"rename to {os.path.basename(destination)}")
        replace(source, destination)

    monkeypatch.setattr(os, "fsync", logged_fsync)
    monkeypatch.setattr(os, "replace", logged_replace)
    atomic_write(target, [b"12345"])
    assert log == ["sync file of 5 bytes", "rename to model.bin", "sync directory"]


@pytest.mark.parametrize(("error", "tolerated"), [(errno.EINVAL, True), (errno.ENOTSUP, True), (errno.EIO, False)])
def test_a_directory_that_cannot_be_synced(
    target: Path, monkeypatch: pytest.MonkeyPatch, error: int, tolerated: bool
) -> None:
    fsync = os.fsync

    def fail_for_directories(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(error, os.strerror(error))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fail_for_directories)
    if tolerated:
        atomic_write(target, [b"new"])
    else:
        with pytest.raises(OSError, match=r"model\.bin") as caught:
            atomic_write(target, [b"new"])
        assert caught.value.errno == error
    assert target.read_bytes() == b"new"
    assert os.listdir(target.parent) == ["model.bin"]


# ---- leftovers and other writers


def test_removes_the_stale_files_of_this_target_only(target: Path) -> None:
    keep = [
        "other.bin.0123456789abcdef.tmp",
        "model.bin.0123456789abcde.tmp",
        "model.bin.0123456789ABCDEF.tmp",
        "xmodel.bin.0123456789abcdef.tmp",
        "modelxbin.0123456789abcdef.tmp",
        "model.bin.tmp",
    ]
    for name in [*keep, STALE, "model.bin.fedcba9876543210.tmp"]:
        (target.parent / name).write_bytes(b"half")
    (target.parent / "model.bin.00000000000000dd.tmp").mkdir()
    (target.parent / "model.bin.00000000000000ee.tmp").symlink_to("other")
    atomic_write(target, [b"new"])
    expected = {*keep, "model.bin", "model.bin.00000000000000dd.tmp", "model.bin.00000000000000ee.tmp"}
    assert set(os.listdir(target.parent)) == expected


def test_two_writers_do_not_disturb_each_other(target: Path) -> None:
    with atomic_open(target) as outer:
        outer.write(b"outer")
        atomic_write(target, [b"inner"])
        assert target.read_bytes() == b"inner"
    assert target.read_bytes() == b"outer"
    assert os.listdir(target.parent) == ["model.bin"]


def test_many_writers_of_one_file(target: Path) -> None:
    failures: list[BaseException] = []

    def save(value: int) -> None:
        try:
            for _ in range(15):
                atomic_write(target, [bytes([value]) * 5000] * 4)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=save, args=(value,)) for value in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    content = target.read_bytes()
    assert content == content[:1] * 20_000
    assert os.listdir(target.parent) == ["model.bin"]


def test_works_without_locks(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    (target.parent / STALE).write_bytes(b"perhaps in use")
    atomic_write(target, [b"new"])
    assert target.read_bytes() == b"new"
    assert (target.parent / STALE).exists()


@pytest.mark.parametrize("held", [True, False])
def test_a_new_file_taken_for_a_stale_one_is_made_again(
    target: Path, monkeypatch: pytest.MonkeyPatch, held: bool
) -> None:
    flock = fcntl.flock
    calls = []

    def remove_first(descriptor: int, operation: int) -> None:
        calls.append(descriptor)
        if len(calls) == 1:
            (temporary,) = (name for name in os.listdir(target.parent) if name.endswith(".tmp"))
            os.unlink(target.parent / temporary)
            if held:
                raise BlockingIOError(errno.EWOULDBLOCK, "held")
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", remove_first)
    atomic_write(target, [b"new"])
    assert len(calls) == 2
    assert target.read_bytes() == b"new"
    assert os.listdir(target.parent) == ["model.bin"]


# ---- check_writable


def test_check_writable_leaves_no_trace(target: Path) -> None:
    check_writable(target)
    assert_untouched(target)
    check_writable(target.parent / "new.bin", nbytes=1000)
    assert os.listdir(target.parent) == ["model.bin"]


@pytest.mark.parametrize("function", [check_writable, lambda path: atomic_write(path, [b"x"])])
def test_unsuitable_targets(target: Path, function: Any) -> None:
    directory = target.parent
    with pytest.raises(FileNotFoundError, match=r"the directory .*/absent does not exist: '.*absent/a'"):
        function(directory / "absent" / "a")
    with pytest.raises(FileNotFoundError, match=r"the directory .*/model\.bin does not exist"):
        function(target / "a")
    with pytest.raises(IsADirectoryError, match="a file name is needed, not a directory"):
        function(directory)
    for path in ("", f"{directory}/new/"):
        with pytest.raises(IsADirectoryError, match="a file name is needed"):
            function(path)
    os.mkfifo(directory / "fifo")
    for path in (directory / "fifo", Path("/dev/null")):
        with pytest.raises(OSError, match="exists and is not a regular file"):
            function(path)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    (directory / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="loop"):
        function(directory / "loop")
    assert sorted(os.listdir(directory)) == ["fifo", "loop", "model.bin"]


def test_too_little_space(target: Path) -> None:
    free = shutil.disk_usage(target.parent).free
    with pytest.raises(OSError, match=r"bytes are needed and .* are free: '.*model\.bin'") as caught:
        check_writable(target, nbytes=2 * free + 1)
    assert caught.value.errno == errno.ENOSPC


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A directory of an ordinary user: the superuser may write everywhere."""
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o777)
    superuser = os.geteuid() == 0
    if superuser:
        os.seteuid(65534)
    yield directory
    if superuser:
        os.seteuid(0)
    directory.chmod(0o777)
    shutil.rmtree(directory)


@pytest.mark.parametrize("function", [check_writable, lambda path: atomic_write(path, [b"x"])])
def test_missing_permission(unprivileged: Path, function: Any) -> None:
    protected = unprivileged / "protected"
    protected.write_bytes(OLD)
    protected.chmod(0o444)
    with pytest.raises(PermissionError, match="protected"):
        function(protected)
    assert protected.read_bytes() == OLD
    closed = unprivileged / "closed"
    closed.mkdir()
    closed.chmod(0o555)
    with pytest.raises(PermissionError, match=r"no file can be made in .*closed: Permission denied: '.*closed/a'"):
        function(closed / "a")
    write_only = unprivileged / "write-only"
    write_only.mkdir()
    write_only.chmod(0o333)
    function(write_only / "a")  # the directory can neither be listed nor synced


# ---- killed at any moment

SAVER = """
import os, signal, sys
from fastcnn.formats.atomic import atomic_write

path, victim, moment = sys.argv[1:]
if victim:
    call, calls = getattr(os, victim), []

    def deadly(*arguments):
        calls.append(1)
        last = len(calls) == int(moment[1:])
        if last and moment[0] == "<":
            os.kill(os.getpid(), signal.SIGKILL)
        result = call(*arguments)
        if last:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(os, victim, deadly)
value = 1
while True:
    atomic_write(path, (bytes([value]) * 10_000 for _ in range(100)))
    if value == 1:
        print("saved", flush=True)
    value = value % 255 + 1
"""


def start_saver(target: Path, victim: str = "", moment: str = "") -> subprocess.Popen[bytes]:
    arguments = [sys.executable, "-c", SAVER, str(target), victim, moment]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": ":".join(sys.path)})


def assert_whole(target: Path) -> None:
    content = target.read_bytes()
    assert content == OLD or content == content[:1] * 1_000_000


@pytest.mark.parametrize(
    ("victim", "moment", "new"),
    [
        ("fsync", "<1", False),  # of the file
        ("fsync", ">1", False),
        ("replace", "<1", False),
        ("replace", ">1", True),
        ("fsync", "<2", True),  # of the directory
        ("fsync", ">2", True),
    ],
)
def test_killed_at_each_step(target: Path, victim: str, moment: str, new: bool) -> None:
    with start_saver(target, victim, moment) as saver:
        assert saver.wait(60) == -9
    assert_whole(target)
    assert (target.read_bytes() != OLD) == new
    assert len(os.listdir(target.parent)) == (1 if new else 2)  # the killed writer's temporary file
    atomic_write(target, [b"next"])
    assert os.listdir(target.parent) == ["model.bin"]


def test_killed_at_random_moments(target: Path) -> None:
    rng = random.Random(1)
    for _ in range(6):
        with start_saver(target) as saver:
            assert saver.stdout is not None
            assert saver.stdout.readline() == b"saved\n"
            time.sleep(rng.uniform(0, 0.1))
            saver.kill()
        assert_whole(target)
        atomic_write(target, [b"z" * 1_000_000])
        assert os.listdir(target.parent) == ["model.bin"]
