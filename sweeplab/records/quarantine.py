"""Files of a study that are not what their names say are named and set aside; the study goes on without them."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from sweeplab.records.asked import SEARCH_FILE, TRIAL_FILE, AskedTrial, read_asked, read_search_facts
from sweeplab.records.items import read_trial_items
from sweeplab.records.record import TrialRecord
from sweeplab.records.store import StoreError, read_base_score, read_facts, read_record, set_aside, trial_folder
from sweeplab.runtime.errors import describe_error

PARTIAL: Final = re.compile(r"\..+\.\d+")  # what a write that was cut off leaves, by `store.write_bytes`


class StudyFiles(NamedTuple):
    """What a study's folder holds, as far as it can be read."""

    asked: list[AskedTrial]  # by number
    records: list[TrialRecord]  # by number
    sentences: list[str]  # one for each file that was set aside


def remove_partial_files(study_folder: Path) -> None:
    """Removes what killed processes had begun to write."""
    for pattern in (".*", "trials/*/.*", "base/.*"):
        for path in study_folder.glob(pattern):
            if PARTIAL.fullmatch(path.name):
                path.unlink(missing_ok=True)


def _check_facts(path: Path) -> None:
    read_facts(path.parent)


def _check_search_facts(path: Path) -> None:
    read_search_facts(path.parent)


def _check_record(path: Path) -> TrialRecord:
    """Raises `StoreError` also where the record is another trial's."""
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
    """Reads what was asked and what came of it, and renames every file that is not what its name says.

    Raises `StoreError` where it cannot be renamed.
    """
    files = StudyFiles([], [], [])
    for pattern, what, check in _CHECKS:
        for path in sorted(study_folder.glob(pattern)):
            try:
                content = check(path)
            except StoreError as error:
                why = describe_error(error.__cause__ or error)
                files.sentences.append(f"{path} is no {what} ({why}), and is kept as {set_aside(path).name}")
                continue
            if isinstance(content, AskedTrial):
                files.asked.append(content)
            elif isinstance(content, TrialRecord):
                files.records.append(content)
    return files
