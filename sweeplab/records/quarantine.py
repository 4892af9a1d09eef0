"""Reads all files of a study. A damaged or foreign file is renamed and reported, and the study goes on without it."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from sweeplab.records.asked import SEARCH_FILE, TRIAL_FILE, AskedTrial, read_asked, read_search_facts
from sweeplab.records.items import read_trial_items
from sweeplab.records.record import TrialRecord
from sweeplab.records.store import StoreError, read_base_score, read_facts, read_record, set_aside, trial_folder
from sweeplab.runtime.errors import describe_error

_PARTIAL: Final = re.compile(r"\..+\.\d+")  # names of files that an interrupted `store.write_bytes` leaves


class StudyFiles(NamedTuple):
    """The readable files of a study."""

    asked: list[AskedTrial]  # by number
    records: list[TrialRecord]  # by number
    sentences: list[str]  # one for each file that was set aside


def remove_partial_files(study_folder: Path) -> None:
    """Removes incomplete files that killed processes have left."""
    for pattern in (".*", "trials/*/.*", "base/.*", "wishes/.*"):
        for path in study_folder.glob(pattern):
            if _PARTIAL.fullmatch(path.name):
                path.unlink(missing_ok=True)


def _check_facts(path: Path) -> None:
    read_facts(path.parent)


def _check_search_facts(path: Path) -> None:
    read_search_facts(path.parent)


def _check_record(path: Path) -> TrialRecord:
    """Reads a record. Raises `StoreError` also where it belongs to another trial."""
    record = read_record(path)
    if path.parent.name != trial_folder(path.parents[2], record.number).name:
        raise StoreError(f"it is trial {record.number}'s")
    return record


_CHECKS: Final[tuple[tuple[str, str, Callable[[Path], object]], ...]] = (
    ("study.json", "study", _check_facts),
    (SEARCH_FILE, "search", _check_search_facts),
    (f"trials/*/{TRIAL_FILE}", "trial that was asked for", read_asked),
    ("trials/*/record.json", "record of this trial", _check_record),
    ("trials/*/items.jsonl", "list of results", read_trial_items),
    ("base/*.json", "score of a base", read_base_score),
)


def read_study(study_folder: Path) -> StudyFiles:
    """Reads what was asked and the records, and renames every file that is damaged or has other contents than its name
    says.

    Raises `StoreError` where a file cannot be renamed.
    """
    files = StudyFiles([], [], [])
    for pattern, what, check in _CHECKS:
        for path in sorted(study_folder.glob(pattern)):
            try:
                content = check(path)
            except StoreError as error:
                reason = describe_error(error.__cause__ or error)
                files.sentences.append(f"{path} is no {what} ({reason}), and is kept as {set_aside(path).name}")
                continue
            if isinstance(content, AskedTrial):
                files.asked.append(content)
            elif isinstance(content, TrialRecord):
                files.records.append(content)
    return files
