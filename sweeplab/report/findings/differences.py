"""What differs between the studies of a comparison: what may, and what makes it one of two things at once."""

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from sweeplab.records.record import StudyFacts, TrialRecord
from sweeplab.records.typed import value_at
from sweeplab.report.evidence.formatting import DASH, value_text
from sweeplab.report.evidence.provenance import flatten
from sweeplab.report.findings.table import Cell, Column, Table

STUDY: Final = "study"  # the key by which a comparison's trials tell where they come from
BATCH: Final = "examples per optimizer step"
SEEDS: Final = "seeds, and with them the order of the data"
CONTROLLED: Final = ("model.", "data.", "evaluation.", "training.max_", "training.epochs", "training.precision")
CONTROLLED_NAMES: Final = (BATCH, SEEDS, "data_fingerprint")
UNTOLD: Final = ("training.micro_batch_size", "training.accumulation", "training.heldout_interval")
OF_SOURCE: Final = ("data_fingerprint", "commit", "device.type", "device.processor")  # of the provenance


class Difference(NamedTuple):
    key: str
    values: list[str]  # by study
    controlled: bool  # has to be alike for a difference in scores to mean what was varied


def differences(facts: StudyFacts, records: list[TrialRecord]) -> list[Difference]:
    """By key, what has to be alike first; a key that a study varied has all its values."""
    names = [str(name) for name in facts.space[STUDY]["choices"]]
    said = [values_of([one for one in records if one.params.get(STUDY) == name]) for name in names]
    keys = dict.fromkeys(key for by_key in said for key in by_key)
    found = []
    for key in keys:
        values = [by_key.get(key, DASH) for by_key in said]
        if len(set(values)) > 1 and key not in UNTOLD:
            found.append(Difference(key, values, key.startswith(CONTROLLED) or key in CONTROLLED_NAMES))
    return sorted(found, key=lambda one: not one.controlled)


def values_of(records: list[TrialRecord]) -> dict[str, str]:
    """Every value that a study's trials have of each key, as one text."""
    found: dict[str, dict[Any, None]] = {}
    for record in records:
        rows = {one.key: one.value for one in flatten(record.config)}
        sources = {one.key: one.value for one in flatten(record.provenance) if one.key in OF_SOURCE}
        for key, value in (rows | sources).items():
            found.setdefault(key, {})[value] = None
        parts = [value_at(record.config, f"training.{name}") for name in ("micro_batch_size", "accumulation")]
        if all(isinstance(part, int) for part in parts):
            found.setdefault(BATCH, {})[value_text(parts[0] * parts[1])] = None
    found[SEEDS] = dict.fromkeys(value_text(seed) for seed in sorted({record.seed for record in records}))
    return {key: joined(values) for key, values in found.items()}


def joined(values: Iterable[str]) -> str:
    return ", ".join(sorted(values))


def differences_table(facts: StudyFacts, records: list[TrialRecord]) -> Table | None:
    """None for a single study, and for studies that do not differ."""
    if "choices" not in facts.space.get(STUDY, {}):
        return None
    names = [str(name) for name in facts.space[STUDY]["choices"]]
    titles = ["what", *names, "has to be alike"]
    rows = [
        [Cell(one.key), *(Cell(value) for value in one.values), Cell("yes" if one.controlled else "no")]
        for one in differences(facts, records)
    ]
    return Table([Column(title, numeric=False) for title in titles], rows) if rows else None
