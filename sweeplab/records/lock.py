"""One driver a study: a lock of the system's, and a file with a heartbeat for where those locks do not work; and work
that one of several workers does."""

import errno
import fcntl
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple, NoReturn, TextIO

from sweeplab.records.store import StoreError, partial_of

_LOCK: Final = ".lock"
_OWNER: Final = ".lock-owner"
_BEAT_SECONDS: Final = 5.0
_STALE_SECONDS: Final = 30.0  # without a beat for so long, a driver of another machine has ended
_WITHOUT_LOCKS: Final = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)
_ATTEMPTS: Final = 10


class _Owner(NamedTuple):
    """Who holds a folder."""

    host: str
    process: int
    started: str  # of the process, in the system's own count; tells processes of one number apart
    since: str
    token: str  # unique

    def __str__(self) -> str:
        return f"process {self.process} on {self.host} since {self.since}"


@contextmanager
def only_writer(folder: Path) -> Iterator[str]:
    """Holds `folder` against other processes; the system lets go when this one ends, however it ends. Gives the token
    that `read_driver` reads.

    Some file systems refuse locks (NFS without its daemon) or grant one to everybody, and some know them on one machine
    only. So the lock is tried a second time from this process, which must be refused, and whatever comes of that a file
    is created that only one process can create, with a heartbeat, by which drivers of other machines are seen.

    Raises `StoreError` where another process holds it, saying which, or the folder cannot be written.
    """
    path = folder / _LOCK
    try:
        stream = path.open("a+", encoding="utf-8")
    except OSError as error:
        _refuse_unwritable(path, error, "choose another folder (study.runs_dir)")
    with stream:
        is_proven = _lock(stream, folder) and _is_exclusive(path)
        owner = _describe_own_process()
        with _own(folder, owner, is_proven):
            try:
                stream.truncate(0)
                os.write(stream.fileno(), f"{owner}\n".encode())  # past the buffer, which would try again as it closes
            except OSError as error:
                _refuse_unwritable(path, error, "free space or choose another folder (study.runs_dir)")
            yield owner.token


def read_driver(folder: Path) -> str | None:
    """The token of the process that holds `folder`, or that held it when it was killed; None where there is none."""
    owner = _read_owner(folder / _OWNER)
    return owner.token if owner is not None and owner.token.isalnum() else None


@contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Within it no other process that asks has `path`; False where one has it now, which is not waited for.

    For work that need not be done twice: where the file system has no locks, everybody gets it. The file is removed, so
    who gets it must look whether the work was done meanwhile. Raises `StoreError` where it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("a+", encoding="utf-8")
    except OSError as error:
        _refuse_unwritable(path, error, "free space or choose another folder (study.runs_dir)")
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        except OSError as error:
            if error.errno not in _WITHOUT_LOCKS:
                raise
        try:
            yield True
        finally:
            path.unlink(missing_ok=True)


def _refuse_unwritable(path: Path, error: OSError, remedy: str) -> NoReturn:
    raise StoreError(f"{path} cannot be written: {error.strerror}; {remedy}") from error


def _refuse_used(folder: Path, holder: object) -> NoReturn:
    raise StoreError(f"{folder} is in use by {holder}; wait for its end or choose another name")


def _lock(stream: TextIO, folder: Path) -> bool:
    """Locks an open file; false where the file system has no locks. Raises `StoreError` where it is locked."""
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        stream.seek(0)
        _refuse_used(folder, stream.read().strip() or "another run")
    except OSError as error:
        if error.errno not in _WITHOUT_LOCKS:
            raise
        return False
    return True


def _is_exclusive(path: Path) -> bool:
    """True where a locked file, opened once more, cannot be locked again."""
    with path.open("a+", encoding="utf-8") as second:
        try:
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return isinstance(error, BlockingIOError)
    return False


def _describe_own_process() -> _Owner:
    process = os.getpid()
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    return _Owner(socket.gethostname(), process, _read_start(process) or "", since, secrets.token_hex(8))


def _read_start(process: int) -> str | None:
    """When a process of this machine began; None where there is none, or the system does not say."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return "ended" if fields[0] in "ZX" else fields[19]  # a zombie writes nothing any more


@contextmanager
def _own(folder: Path, owner: _Owner, is_locked: bool) -> Iterator[None]:
    """Creates the owner's file, keeps its heartbeat and removes it. Raises `StoreError` where another one is alive."""
    path = folder / _OWNER
    for _ in range(_ATTEMPTS):
        if _create(path, owner):
            break
        other = _read_owner(path)
        if other is not None and _is_alive(other, path, is_locked):
            _refuse_used(folder, other)
        _remove(path, other)
    else:
        _refuse_used(folder, "several other runs that begin now")
    ended = threading.Event()
    threading.Thread(target=_beat, args=(path, ended), daemon=True).start()
    try:
        yield
    finally:
        ended.set()
        _remove(path, owner)


def _create(path: Path, owner: _Owner) -> bool:
    """Creates the file whole, or not at all where it exists: a link is made in one step, over a network too."""
    partial = partial_of(path)
    try:
        partial.write_text(json.dumps(owner._asdict()), encoding="utf-8")
        try:
            os.link(partial, path)
        except FileExistsError:
            return False
        except OSError:  # a file system without links
            with path.open("x", encoding="utf-8") as stream:
                stream.write(json.dumps(owner._asdict()))
    except FileExistsError:
        return False
    except OSError as error:
        _refuse_unwritable(path, error, "free space or choose another folder (study.runs_dir)")
    finally:
        partial.unlink(missing_ok=True)
    return True


def _read_owner(path: Path) -> _Owner | None:
    """Whom the file names; None where it is gone or damaged."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return _Owner(**values) if isinstance(values, dict) else None
    except (OSError, ValueError, TypeError):
        return None


def _is_alive(other: _Owner, path: Path, is_locked: bool) -> bool:
    """Whether the owner that a file names is at work. One of this machine would hold the lock that this process has,
    where locks work; one of another machine is waited for until it beats, or has not done so for long enough."""
    if other.host == socket.gethostname():
        return not is_locked and _is_running(other)
    last = _read_time(path)
    if last is None or _measure_age(path, last) > _STALE_SECONDS:
        return False
    end = time.monotonic() + _STALE_SECONDS
    while time.monotonic() < end:
        time.sleep(_BEAT_SECONDS / 5)
        now = _read_time(path)
        if now != last:
            return now is not None
    return False


def _is_running(other: _Owner) -> bool:
    try:
        os.kill(other.process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # another user's
        return True
    return _read_start(other.process) in (other.started, None) or not other.started


def _read_time(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None


def _measure_age(path: Path, last: float) -> float:
    """Seconds since `last` by the clock of the file system, which may be another machine's."""
    probe = partial_of(path)
    try:
        probe.touch()
        return probe.stat().st_mtime - last
    except OSError:
        return 0.0
    finally:
        probe.unlink(missing_ok=True)


def _remove(path: Path, owner: _Owner | None) -> None:
    """Removes the file of this owner. It is renamed first, which only one process can do, and put back if it turns out
    to be another's, who came in between."""
    aside = partial_of(path)
    with suppress(OSError):
        path.rename(aside)
        found = _read_owner(aside)
        if found != owner and found is not None:
            with suppress(OSError):
                os.link(aside, path)
        aside.unlink(missing_ok=True)


def _beat(path: Path, ended: threading.Event) -> None:
    while not ended.wait(_BEAT_SECONDS):
        with suppress(OSError):  # the next beat may reach it
            os.utime(path)
