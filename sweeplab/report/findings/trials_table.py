"""The table of the trials one by one, and that of the time they spent in each phase."""

import statistics

from sweeplab.records.record import StudyFacts, TrialRecord, metric_value
from sweeplab.report.evidence.costs import TRAIN_SECONDS, has_shared_training
from sweeplab.report.evidence.formatting import DASH, format_duration, format_number, label_score
from sweeplab.report.evidence.settings import LOSS, list_varied_keys, pick_headline_scores, read_numbers
from sweeplab.report.findings.names import build_name_columns
from sweeplab.report.findings.table import Cell, Column, Table


def build_trials_table(facts: StudyFacts, records: list[TrialRecord]) -> Table:
    """One row per trial, failed ones with their reasons."""
    named = build_name_columns(facts, list_varied_keys(facts, records))
    scores = pick_headline_scores(records, facts.objectives)
    shared = has_shared_training(records)
    chosen = any(record.kept_step is not None for record in records)
    columns = [
        Column("trial"),
        *(column for column, _ in named),
        Column("seed"),
        Column("status", numeric=False),
        Column("held-out loss", "nats/target"),
        *([Column("weights of step", "by held-out loss")] if chosen else []),
        *(Column(label_score(task, metric)) for task, metric in scores),
        *([Column("trained among", "trials, with itself")] if shared else []),
        Column("time in training" if shared else "training time"),
        Column("reason", numeric=False),
    ]
    rows = []
    for record in records:
        values = read_numbers(record)
        rows.append(
            [
                Cell(str(record.number)),
                *(make(record.params) for _, make in named),
                Cell(str(record.seed)),
                Cell(record.status.value.replace("_", " ")),
                Cell(format_number(values.get(LOSS))),
                *([Cell(str(record.kept_step or DASH))] if chosen else []),
                *(Cell(format_number(values.get(f"scores.{task}.{metric}"))) for task, metric in scores),
                *([Cell(str(len(record.cohort) or DASH))] if shared else []),
                _seconds_cell(metric_value(record, TRAIN_SECONDS)),
                _reason_cell(record),
            ]
        )
    return Table(columns, rows)


def _seconds_cell(seconds: float | None) -> Cell:
    return Cell(format_duration(seconds), size=seconds)


def _reason_cell(record: TrialRecord) -> Cell:
    """Why a trial ended early, and where."""
    index = [] if record.phase is None else [f"in {record.phase}"]
    if record.reason is None and not index:
        return Cell(DASH)
    if record.step is not None:
        index.append(f"at step {record.step}")
    return Cell(record.reason or DASH, ", ".join(index))


def build_phases_table(records: list[TrialRecord]) -> Table:
    """Time per phase over all trials, failed ones too; without a sum where trials spent the same time together."""
    names = dict.fromkeys(name for record in records for name in record.phases)
    shared = has_shared_training(records)
    rows = []
    for name in names:
        spent = [record.phases[name].seconds for record in records if name in record.phases]
        each = (min, statistics.median, max) if shared else (sum, statistics.fmean)
        rows.append([Cell(name), Cell(str(len(spent))), *(_seconds_cell(summary(spent)) for summary in each)])
    titles = ["shortest", "median", "longest"] if shared else ["in total", "per trial"]
    return Table([Column("phase", numeric=False), Column("trials"), *map(Column, titles)], rows)


def title_phases(records: list[TrialRecord]) -> str:
    if has_shared_training(records):
        return "Time a trial was in each phase, failed ones included; shared with others, so it does not add up"
    return "Time spent, failed trials included"
