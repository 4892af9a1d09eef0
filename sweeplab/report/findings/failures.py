"""Lists trials that did not finish, and batches that did not fit into memory, each with its reason."""

from typing import Final

from sweeplab.records.record import Status, TrialRecord
from sweeplab.report.evidence.formatting import DASH, count_noun
from sweeplab.report.evidence.provenance import format_ranges
from sweeplab.report.findings.table import Cell, Column, Table

_SMALLER: Final = "went on with smaller batches"


def build_failures_table(records: list[TrialRecord]) -> Table | None:
    """One row for each outcome and reason, with all its trials; None where every trial finished."""
    groups: dict[tuple[str, str, str], list[TrialRecord]] = {}
    for record in records:
        if record.status is not Status.FINISHED:
            what = record.status.value.replace("_", " ")
            groups.setdefault((what, record.phase or DASH, _describe_cause(record)), []).append(record)
        for tried in record.larger_batches:
            size = f"{count_noun(tried.micro_batch_size, 'example')} at a time"
            size += f", {count_noun(tried.accumulation, 'time')} a step"
            groups.setdefault((_SMALLER, "train", f"{size}: {tried.reason}"), []).append(record)
    rows = [
        [
            Cell(what),
            Cell(str(len(members))),
            Cell(format_ranges({record.number for record in members})),
            Cell(phase, "" if what == _SMALLER else _describe_steps(members)),
            Cell(reason),
        ]
        for (what, phase, reason), members in groups.items()
    ]
    titles = [
        Column("what happened", numeric=False),
        Column("how often"),
        Column("trials", numeric=False),
        Column("in", numeric=False),
        Column("reason", numeric=False),
    ]
    return Table(titles, rows) if rows else None


def build_notes_table(records: list[TrialRecord]) -> Table | None:
    """One row for each note of a trial, such as how its data were read, or a faster way of computing that was not used;
    None where there was none."""
    groups: dict[str, set[int]] = {}
    for record in records:
        for note in record.notes:
            groups.setdefault(note, set()).add(record.number)
    rows = [[Cell(note), Cell(format_ranges(numbers))] for note, numbers in groups.items()]
    return Table([Column("note", numeric=False), Column("trials", numeric=False)], rows) if rows else None


def _describe_cause(record: TrialRecord) -> str:
    """The reason of a record; that of a pruner without its last part, which is the loss of the trial."""
    reason = record.reason or DASH
    return reason.rpartition(": ")[0] or reason if record.status is Status.PRUNED else reason


def _describe_steps(records: list[TrialRecord]) -> str:
    """'at step 7', or 'at steps 5 to 20' where trials ended at several steps; '' where no step is known."""
    steps = sorted({record.step for record in records if record.step is not None})
    if not steps:
        return ""
    return f"at step {steps[0]}" if len(steps) == 1 else f"at steps {steps[0]} to {steps[-1]}"
