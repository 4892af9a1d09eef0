"""Lists what differs between compared studies, and which of it should be equal for a fair comparison."""

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from sweeplab.records.record import StudyFacts, TrialRecord
from sweeplab.records.stored import value_at
from sweeplab.report.evidence.formatting import DASH, format_value
from sweeplab.report.evidence.provenance import flatten_values
from sweeplab.report.findings.table import Cell, Column, Table

STUDY: Final = "study"  # the key of a comparison's trials that names their study
_BATCH: Final = "examples per optimizer step"
_SEEDS: Final = "seeds, and with them the order of the data"
_CONTROLLED: Final = ("model.", "data.", "evaluation.", "training.max_", "training.epochs", "training.precision")
_CONTROLLED_NAMES: Final = (_BATCH, _SEEDS, "data_fingerprint")
_UNLISTED: Final = ("training.micro_batch_size", "training.accumulation", "training.heldout_interval")
_EMPTY: Final = ("null", "{}")  # what an earlier record, of before there was the key, says by not having it
_OF_SOURCE: Final = ("data_fingerprint", "commit", "device.type", "device.processor")  # keys of the provenance


class Difference(NamedTuple):
    """A key whose values differ between studies."""

    key: str
    values: list[str]  # by study
    controlled: bool  # should be equal; otherwise scores may differ for another reason than what was varied


def list_differences(facts: StudyFacts, records: list[TrialRecord]) -> list[Difference]:
    """The differences by key, those that should be equal first. A key that a study varied has all its values."""
    names = [str(name) for name in facts.space[STUDY]["choices"]]
    by_study = [_collect_values([one for one in records if one.params.get(STUDY) == name]) for name in names]
    keys = dict.fromkeys(key for by_key in by_study for key in by_key)
    differences = []
    for key in keys:
        values = [by_key.get(key, DASH) for by_key in by_study]
        if len({DASH if value in _EMPTY else value for value in values}) > 1 and key not in _UNLISTED:
            differences.append(Difference(key, values, key.startswith(_CONTROLLED) or key in _CONTROLLED_NAMES))
    return sorted(differences, key=lambda one: not one.controlled)


def _collect_values(records: list[TrialRecord]) -> dict[str, str]:
    """All values of each key in the records of a study, as one text."""
    by_key: dict[str, dict[Any, None]] = {}
    for record in records:
        rows = {one.key: one.value for one in flatten_values(record.config)}
        sources = {one.key: one.value for one in flatten_values(record.provenance) if one.key in _OF_SOURCE}
        for key, value in (rows | sources).items():
            by_key.setdefault(key, {})[value] = None
        parts = [value_at(record.config, f"training.{name}") for name in ("micro_batch_size", "accumulation")]
        if all(isinstance(part, int) for part in parts):
            by_key.setdefault(_BATCH, {})[format_value(parts[0] * parts[1])] = None
    by_key[_SEEDS] = dict.fromkeys(format_value(seed) for seed in sorted({record.seed for record in records}))
    return {key: _join_values(values) for key, values in by_key.items()}


def _join_values(values: Iterable[str]) -> str:
    return ", ".join(sorted(values))


def build_differences_table(facts: StudyFacts, records: list[TrialRecord]) -> Table | None:
    """The table of differences; None for a single study, and for studies that do not differ."""
    if "choices" not in facts.space.get(STUDY, {}):
        return None
    names = [str(name) for name in facts.space[STUDY]["choices"]]
    titles = ["what", *names, "has to be alike"]
    rows = [
        [Cell(one.key), *(Cell(value) for value in one.values), Cell("yes" if one.controlled else "no")]
        for one in list_differences(facts, records)
    ]
    return Table([Column(title, numeric=False) for title in titles], rows) if rows else None
