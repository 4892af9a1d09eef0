"""The provenance of the records as a list; a value that all trials share is listed once."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from sweeplab.records.record import TrialRecord
from sweeplab.report.evidence.formatting import DASH, format_value


class Fact(NamedTuple):
    """A dotted key with its value, and the trials that have it; '' for all."""

    key: str
    value: str
    trials: str = ""


def flatten_values(values: dict[str, Any], prefix: str = "") -> list[Fact]:
    """Nested values as dotted keys, in their order."""
    facts = []
    for key, value in values.items():
        if isinstance(value, dict) and value:
            facts += flatten_values(value, f"{prefix}{key}.")
        else:
            facts.append(Fact(f"{prefix}{key}", format_value(value)))
    return facts


def list_provenance(records: list[TrialRecord]) -> list[Fact]:
    """Every key of the records' provenance, once for each distinct value, with its trials where there are several."""
    rows = {record.number: {fact.key: fact.value for fact in flatten_values(record.provenance)} for record in records}
    keys = dict.fromkeys(key for row in rows.values() for key in row)
    facts = []
    for key in keys:
        holders: dict[str, list[int]] = {}
        for trial, row in rows.items():
            holders.setdefault(row.get(key, DASH), []).append(trial)
        for value, trials in holders.items():
            facts.append(Fact(key, value, format_ranges(trials) if len(holders) > 1 else ""))
    return facts


def format_ranges(trials: Iterable[int]) -> str:
    """'0 to 3, 7' for 0, 1, 2, 3, 7."""
    runs: list[list[int]] = []
    for trial in sorted(trials):
        if runs and trial == runs[-1][1] + 1:
            runs[-1][1] = trial
        else:
            runs.append([trial, trial])
    return ", ".join(str(low) if low == high else f"{low} to {high}" for low, high in runs)
