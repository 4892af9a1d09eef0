"""What a running study says of itself in `progress.json`, for whoever watches from another terminal."""

import json
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from sweeplab.records.store import StoreError, partial_of, read_json
from sweeplab.records.stored import from_plain

FILE: Final = "progress.json"


@dataclass
class RunningTrial:
    number: int
    label: str
    since: float  # Unix time of its start
    fraction: float  # of its steps
    loss: float | None  # of training, the last that was told


@dataclass
class StudyStatus:
    """How far a study was at `written`, a Unix time."""

    written: float
    num_planned: int
    num_done: int
    seconds_left: float | None  # None until something has been measured
    ended: bool  # the driver asked for no more trials
    running: list[RunningTrial] = field(default_factory=list)


def write_status(folder: Path, now: StudyStatus) -> None:
    """In one step, without waiting for the disk. A disk that is full is for the records to tell of."""
    path = folder / FILE
    partial = partial_of(path)
    with suppress(OSError):
        partial.write_text(json.dumps(asdict(now)), encoding="utf-8")
        partial.replace(path)


def read_status(folder: Path) -> StudyStatus | None:
    """None for a study that has said nothing yet. Raises `StoreError` for what is no such file."""
    path = folder / FILE
    if not path.exists():
        return None
    values = read_json(path)
    try:
        return from_plain(StudyStatus, values, "progress")
    except ValueError as error:
        raise StoreError(f"{path} is no progress of a study: {error}; remove it") from error


def to_unix_time(since: float) -> float:
    """The Unix time of what `time.monotonic` called `since`."""
    return time.time() - (time.monotonic() - since)
