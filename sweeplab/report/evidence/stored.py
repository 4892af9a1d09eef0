"""Reads the data of a report from a study's folder of runs, or from an earlier report."""

from pathlib import Path
from typing import Any, NamedTuple

from sweeplab.records.items import Items, items_from_dict, read_items
from sweeplab.records.record import BaseScore, StudyFacts, TrialRecord
from sweeplab.records.store import StoreError, read_base_scores, read_facts, read_json, read_records


class StoredStudy(NamedTuple):
    """All data from which a report is written."""

    facts: StudyFacts
    records: list[TrialRecord]
    items: Items | None
    bases: list[BaseScore]


def read_stored_study(folder: Path) -> StoredStudy:
    """Reads a folder of runs or of a report. Raises `StoreError` that names the file and the cause."""
    facts = read_facts(folder)
    if facts is not None:
        return StoredStudy(facts, read_records(folder), read_items(folder) or None, read_base_scores(folder))
    return _read_report(folder)


def _read_report(folder: Path) -> StoredStudy:
    path, items_path = folder / "records.json", folder / "items.json"
    stored: Any = read_json(path)
    try:
        facts = StudyFacts.from_dict(stored["study"])
        records = [TrialRecord.from_dict(values) for values in stored["records"]]
        bases = [BaseScore.from_dict(values) for values in stored.get("bases", [])]  # earlier reports have none
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise StoreError(
            f"{path} does not have the records of a report: {error}; name a folder of runs or of a report"
        ) from error
    try:
        items = items_from_dict(read_json(items_path)) if items_path.exists() else None
    except ValueError as error:
        raise StoreError(f"{items_path} cannot be read: {error}; remove it to report without items") from error
    return StoredStudy(facts, records, items, bases)
