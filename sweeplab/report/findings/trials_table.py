"""The table of the trials one by one, and that of the time they spent in each phase."""

import statistics

from sweeplab.records.record import StudyFacts, TrialRecord, metric_value
from sweeplab.report.evidence.costs import TRAIN_SECONDS, any_shared
from sweeplab.report.evidence.formatting import DASH, duration, number, score_label, short_key
from sweeplab.report.evidence.settings import LOSS, headline_scores, numbers, varied_keys
from sweeplab.report.findings.settings_table import param_cell
from sweeplab.report.findings.table import Cell, Column, Table


def trials_table(facts: StudyFacts, records: list[TrialRecord]) -> Table:
    """One row per trial, failed ones with their reasons."""
    keys = varied_keys(facts, records)
    scores = headline_scores(records)
    shared = any_shared(records)
    columns = [
        Column("trial"),
        *(Column(short_key(key, keys), numeric=False) for key in keys),
        Column("seed"),
        Column("status", numeric=False),
        Column("held-out loss", "nats/target"),
        *(Column(score_label(task, metric)) for task, metric in scores),
        *([Column("trained among", "trials, with itself")] if shared else []),
        Column("time in training" if shared else "training time"),
        Column("reason", numeric=False),
    ]
    rows = []
    for record in records:
        found = numbers(record)
        rows.append(
            [
                Cell(str(record.number)),
                *(param_cell(facts, key, record.params) for key in keys),
                Cell(str(record.seed)),
                Cell(record.status.value.replace("_", " ")),
                Cell(number(found.get(LOSS))),
                *(Cell(number(found.get(f"scores.{task}.{metric}"))) for task, metric in scores),
                *([Cell(str(len(record.cohort) or DASH))] if shared else []),
                seconds_cell(metric_value(record, TRAIN_SECONDS)),
                reason_cell(record),
            ]
        )
    return Table(columns, rows)


def seconds_cell(seconds: float | None) -> Cell:
    return Cell(duration(seconds), size=seconds)


def reason_cell(record: TrialRecord) -> Cell:
    """Why a trial ended early, and where."""
    place = [] if record.phase is None else [f"in {record.phase}"]
    if record.reason is None and not place:
        return Cell(DASH)
    if record.step is not None:
        place.append(f"at step {record.step}")
    return Cell(record.reason or DASH, ", ".join(place))


def phases_table(records: list[TrialRecord]) -> Table:
    """Time per phase over all trials, failed ones too; without a sum where trials spent the same time together."""
    names = dict.fromkeys(name for record in records for name in record.phases)
    shared = any_shared(records)
    rows = []
    for name in names:
        spent = [record.phases[name].seconds for record in records if name in record.phases]
        each = (min, statistics.median, max) if shared else (sum, statistics.fmean)
        rows.append([Cell(name), Cell(str(len(spent))), *(seconds_cell(summary(spent)) for summary in each)])
    titles = ["shortest", "median", "longest"] if shared else ["in total", "per trial"]
    return Table([Column("phase", numeric=False), Column("trials"), *map(Column, titles)], rows)


def phases_title(records: list[TrialRecord]) -> str:
    if any_shared(records):
        return "Time a trial was in each phase, failed ones included; shared with others, so it does not add up"
    return "Time spent, failed trials included"
