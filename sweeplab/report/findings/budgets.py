"""What quality costs: the Pareto front, the best setting under a budget, and forgetting beside learning."""

import numpy as np

from sweeplab.records.items import Items
from sweeplab.records.metrics import METRICS
from sweeplab.records.record import StudyFacts
from sweeplab.report.evidence.costs import list_cost_metrics, mean_by_setting
from sweeplab.report.evidence.estimates import Evidence, gather_evidence
from sweeplab.report.evidence.formatting import DASH, format_interval, format_metric, label_metric
from sweeplab.report.evidence.settings import Setting, collect_records, first_objective, pick_headline_scores
from sweeplab.report.findings.table import Cell, Column, Table
from sweeplab.statistics.selection import find_best_under, find_pareto_front


def _sign_other_objectives(facts: StudyFacts, evidence: Evidence) -> dict[str, int]:
    """The other objectives that are no costs and were measured: -1 where more is better, else 1."""
    known = (evidence.metric, *list_cost_metrics(evidence.settings))
    return {
        name: 1 if direction == "minimize" else -1
        for name, direction in facts.objectives.items()
        if name not in known and not np.isnan(mean_by_setting(evidence.settings, name)).all()
    }


def build_pareto_table(facts: StudyFacts, evidence: Evidence) -> Table | None:
    """Settings that no other beats in quality, the other objectives, memory and time at once, by their means.

    None without any beside quality.
    """
    signs = _sign_other_objectives(facts, evidence) | dict.fromkeys(list_cost_metrics(evidence.settings), 1)
    if not signs or len(evidence.settings) < 2:
        return None
    badness_K = -evidence.sign * evidence.table.values_KS.mean(axis=1)
    badnesses = [sign * mean_by_setting(evidence.settings, name) for name, sign in signs.items()]
    rows_KM = np.stack([badness_K, *badnesses], axis=1)
    columns = [Column("setting", numeric=False), *(Column(label_metric(name)) for name in (evidence.metric, *signs))]
    rows = []
    for index in find_pareto_front(rows_KM):
        setting = evidence.settings[index]
        cells = [_cost_cell(setting, name) for name in signs]
        rows.append([Cell(setting.label), _quality_cell(evidence, index), *cells])
    return Table(columns, rows)


def _cost_cell(setting: Setting, name: str) -> Cell:
    mean = setting.spreads[name].mean
    return Cell(format_metric(name, mean), size=mean)


def _quality_cell(evidence: Evidence, index: int | None) -> Cell:
    """A mean with its interval in small print; a dash for a setting that is not in `evidence`."""
    if index is None:
        return Cell(DASH)
    estimate = evidence.estimates[index]
    return Cell(format_metric(evidence.metric, estimate.value), format_interval(evidence.metric, estimate))


def build_budget_tables(evidence: Evidence) -> list[tuple[str, Table]]:
    """(title, table) for memory and for time: from what budget on another setting is the best, by the means."""
    tables = []
    scores_K = evidence.sign * evidence.table.values_KS.mean(axis=1)
    for name in list_cost_metrics(evidence.settings):
        indices = find_best_under(mean_by_setting(evidence.settings, name), scores_K)
        columns = [Column("from"), Column("the best is", numeric=False), Column(label_metric(evidence.metric))]
        rows = [
            [
                _cost_cell(evidence.settings[index], name),
                Cell(evidence.settings[index].label),
                _quality_cell(evidence, index),
            ]
            for index in indices
        ]
        if len(evidence.settings) > 1:
            tables.append((f"Best within a budget of {METRICS[name].label}", Table(columns, rows)))
    return tables


def build_forgetting_table(facts: StudyFacts, settings: list[Setting], items: Items | None) -> Table | None:
    """What was learned beside what should have been kept, by setting; None where no retained task was scored."""
    objective, _ = first_objective(facts)
    kept = [
        f"scores.{task}.{metric}"
        for task, metric in pick_headline_scores(collect_records(settings), facts.objectives)
        if task in facts.retained_tasks
    ]
    sides = [
        evidence
        for name in (objective, *kept)
        if (evidence := gather_evidence(facts, settings, name, items)) is not None
    ]
    if len(sides) < 2 or sides[0].metric != objective:
        return None
    titles = [Column(label_metric(one.metric), "kept" if index else "learned") for index, one in enumerate(sides)]
    rows = []
    for setting in sides[0].settings:
        rows.append([Cell(setting.label), *(_quality_cell(side, side.index_of(setting)) for side in sides)])
    return Table([Column("setting", numeric=False), *titles], rows)
