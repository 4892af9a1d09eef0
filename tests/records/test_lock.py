"""One driver a folder, also where the file system's locks do not work; what a killed one has left holds nobody up."""

import errno
import fcntl
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from sweeplab.records import lock as module
from sweeplab.records.lock import _OWNER, claimed, only_writer
from sweeplab.records.store import StoreError

USED = r"is in use by process \d+ on .* since .*; wait for its end or choose another name"


def no_locks(*_: object) -> None:
    raise OSError(errno.ENOLCK, "No locks available")


def locks_for_everybody(*_: object) -> None:
    pass


FILE_SYSTEMS = [fcntl.flock, no_locks, locks_for_everybody]


@pytest.mark.parametrize("flock", FILE_SYSTEMS, ids=["locks", "no locks", "locks for everybody"])
def test_a_second_driver_is_refused_until_the_first_ends(
    flock: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", flock)
    with only_writer(tmp_path):
        with pytest.raises(StoreError, match=USED), only_writer(tmp_path):
            pytest.fail("two hold one folder")
        with pytest.raises(StoreError, match=USED), only_writer(tmp_path):
            pytest.fail("the refused one let it go")
    with only_writer(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


@pytest.mark.parametrize("flock", FILE_SYSTEMS, ids=["locks", "no locks", "locks for everybody"])
def test_of_many_that_begin_at_once_one_holds_it(
    flock: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", flock)
    monkeypatch.setattr(module, "_ATTEMPTS", 1000)
    begin, end = threading.Barrier(8), threading.Barrier(8)
    inside: list[int] = []
    at_once: list[int] = []

    def drive(number: int) -> None:
        begin.wait()
        try:
            with only_writer(tmp_path):
                inside.append(number)
                at_once.append(len(inside))
                end.wait()
                inside.remove(number)
        except StoreError:
            end.wait()

    threads = [threading.Thread(target=drive, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert at_once == [1]


LEAVE = """
import fcntl, os, sys
from pathlib import Path
from sweeplab.records.lock import only_writer
fcntl.flock = lambda *_: None
with only_writer(Path(sys.argv[1])):
    os._exit(0)
"""


@pytest.mark.parametrize("flock", FILE_SYSTEMS, ids=["locks", "no locks", "locks for everybody"])
def test_what_a_killed_driver_leaves_is_taken_over(
    flock: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run([sys.executable, "-c", LEAVE, str(tmp_path)], check=True)
    assert (tmp_path / _OWNER).exists()
    monkeypatch.setattr(fcntl, "flock", flock)
    with only_writer(tmp_path):
        assert json.loads((tmp_path / _OWNER).read_text())["process"] == os.getpid()


def leave_elsewhere(folder: Path) -> Path:
    """The file of a driver on another machine, where this one's lock is not seen."""
    path = folder / _OWNER
    other = {"host": f"not-{socket.gethostname()}", "process": 1, "started": "1", "since": "now", "token": "t"}
    path.write_text(json.dumps(other))
    return path


def test_a_driver_elsewhere_is_seen_by_its_heartbeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = leave_elsewhere(tmp_path)
    monkeypatch.setattr(module, "_BEAT_SECONDS", 0.05)
    ended = threading.Event()
    beating = threading.Thread(target=module._beat, args=(path, ended))
    beating.start()
    with pytest.raises(StoreError, match=USED), only_writer(tmp_path):
        pytest.fail("two hold one folder")
    ended.set()
    beating.join()


def test_a_driver_elsewhere_that_beats_no_more_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = leave_elsewhere(tmp_path)
    os.utime(path, (0, 0))
    with only_writer(tmp_path):
        assert json.loads(path.read_text())["process"] == os.getpid()
    leave_elsewhere(tmp_path)
    monkeypatch.setattr(module, "_STALE_SECONDS", 0.1)
    monkeypatch.setattr(module, "_BEAT_SECONDS", 0.1)
    monkeypatch.setattr(module, "_measure_age", lambda *_: 0.0)
    with only_writer(tmp_path):
        pass


@pytest.mark.parametrize("text", ["", "{", "[]", '{"host": 1}'])
def test_a_damaged_owner_file_holds_nobody_up(text: str, tmp_path: Path) -> None:
    (tmp_path / _OWNER).write_text(text)
    with only_writer(tmp_path):
        pass


def test_work_is_claimed_by_one_and_free_again_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "base" / "key.lock"
    with claimed(path) as first, claimed(path) as second:
        assert (first, second) == (True, False)
    with claimed(path) as again:
        assert again
    assert list(path.parent.iterdir()) == []


def test_work_is_everybodys_where_there_are_no_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", no_locks)
    with claimed(tmp_path / "key.lock") as first, claimed(tmp_path / "key.lock") as second:
        assert (first, second) == (True, True)


def test_a_folder_that_cannot_be_written_claims_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"key\.lock cannot be written"), claimed(tmp_path / "file" / "key.lock"):
        pass
