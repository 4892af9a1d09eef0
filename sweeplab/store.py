"""Records to files and back: a file is written whole or not at all."""

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from sweeplab.records import StudyFacts, TrialRecord


class StoreError(Exception):
    """A record that cannot be written or read; the message names the file and the cause."""


def make_folder(folder: Path) -> None:
    """Raises `StoreError` naming the folder and the cause."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder} cannot be made: {error.strerror}; choose another folder") from error


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Holds `folder` against other processes; the system lets go when this one ends, however it ends.

    Raises `StoreError` where another process holds it, saying which, or the folder cannot be written.
    """
    path = folder / ".lock"
    try:
        stream = path.open("a+")
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}; choose another folder") from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            stream.seek(0)
            holder = stream.read().strip() or "another run"
            raise StoreError(f"{folder} is in use by {holder}; wait for its end or choose another name") from error
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP):  # a file system without locks, as some NFS
                raise
        stream.truncate(0)
        stream.write(f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}\n")
        stream.flush()
        yield


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Within it a library writes into `folder`: its errors become `StoreError`, naming the folder and the cause."""
    make_folder(folder)
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise StoreError(f"{folder} cannot be written: {error}; free space or choose another folder") from error


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of the text in UTF-8."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, data: bytes) -> None:
    """Replaces `path` by `data` in one step: a reader sees the old file or the new one, also after a power cut.

    Raises `StoreError` naming the file where the disk is full or the folder is not writable.
    """
    make_folder(path.parent)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise StoreError(f"{path} cannot be written: {error.strerror}; free space or choose another folder") from error


def write_json(path: Path, value: Any) -> None:
    """`write_text` of `value` as strict JSON: a NaN or an infinity is an error, since JSON has none."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_json_lines(path: Path, rows: Iterable[Any]) -> None:
    write_text(path, "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows))


def read_json(path: Path) -> Any:
    """Raises `StoreError` naming the file where it is missing or no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read: {error}") from error


def trial_folder(study_folder: Path, number: int) -> Path:
    return study_folder / "trials" / f"{number:05d}"


def write_record(study_folder: Path, record: TrialRecord) -> None:
    write_json(trial_folder(study_folder, record.number) / "record.json", record.to_dict())


def read_record(path: Path) -> TrialRecord:
    """Raises `StoreError` naming the file that is no record."""
    try:
        return TrialRecord.from_dict(read_json(path))
    except ValueError as error:
        raise StoreError(f"{path} is no record: {error}; move it out of the way") from error


def read_records(study_folder: Path) -> list[TrialRecord]:
    """All records of a study by number. Raises `StoreError` as `read_record` does."""
    return [read_record(path) for path in sorted(study_folder.glob("trials/*/record.json"))]


def set_aside(path: Path) -> Path:
    """Renames a file that is not what it should be, so that nothing is lost and nothing trips over it again."""
    aside = path.with_name(f"{path.name}.set-aside")
    number = 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.set-aside-{number}")
    path.rename(aside)
    return aside


def set_aside_unreadable(study_folder: Path) -> list[str]:
    """Renames what stands in a record's place and is none, or is another trial's; a sentence for each."""
    said = []
    for path in sorted(study_folder.glob("trials/*/record.json")):
        try:
            found = read_record(path).number
            why = None if path.parent == trial_folder(study_folder, found) else f"it is trial {found}'s"
        except StoreError as error:
            why = str(error.__cause__)
        if why is not None:
            said.append(f"{path} is no record of this trial ({why}), and is kept as {set_aside(path).name}")
    return said


def write_facts(study_folder: Path, facts: StudyFacts) -> None:
    write_json(study_folder / "study.json", facts.to_dict())


def read_facts(study_folder: Path) -> StudyFacts | None:
    """What an earlier run stored of the study, or None for a new one. Raises `StoreError` for a damaged file."""
    path = study_folder / "study.json"
    if not path.exists():
        return None
    try:
        return StudyFacts(**read_json(path))
    except TypeError as error:
        raise StoreError(f"{path} is no study: {error}; move it out of the way") from error
