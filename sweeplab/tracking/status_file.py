"""`progress.json`: the progress of a running study, for action=watch in another terminal."""

import json
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from sweeplab.records.store import StoreError, partial_of, read_json
from sweeplab.records.stored import from_plain

_FILE: Final = "progress.json"


@dataclass
class TrialProgress:
    """The progress of a running trial."""

    number: int
    label: str
    since: float  # Unix time of its start
    fraction: float  # of its steps
    loss: float | None  # the last training loss that was reported


@dataclass
class StudyStatus:
    """The progress of a study at the Unix time `written`."""

    written: float
    num_planned: int
    num_done: int
    seconds_left: float | None  # None until something has been measured
    ended: bool  # the driver asked for no more trials
    running: list[TrialProgress] = field(default_factory=list)
    doing: list[str] = field(default_factory=list)  # what each worker does


def write_status(folder: Path, now: StudyStatus) -> None:
    """Replaces progress.json in one step, without a sync. A full disk is ignored: writing records will report it."""
    path = folder / _FILE
    partial = partial_of(path)
    with suppress(OSError):
        partial.write_text(json.dumps(asdict(now)), encoding="utf-8")
        partial.replace(path)


def read_status(folder: Path) -> StudyStatus | None:
    """The progress of a study; None where it has not been written yet. Raises `StoreError` for a damaged file."""
    path = folder / _FILE
    if not path.exists():
        return None
    values = read_json(path)
    try:
        return from_plain(StudyStatus, values, "progress")
    except ValueError as error:
        raise StoreError(f"{path} is not the progress of a study: {error}; remove it") from error


def to_unix_time(since: float) -> float:
    """The Unix time of `since`, a value of `time.monotonic`."""
    return time.time() - (time.monotonic() - since)
