"""What quality costs: the Pareto front, the best setting under a budget, and forgetting beside learning."""

import numpy as np

from sweeplab.records.items import Items
from sweeplab.records.metrics import METRICS
from sweeplab.records.record import StudyFacts
from sweeplab.report.evidence.costs import cost_metrics, means
from sweeplab.report.evidence.estimates import Evidence, evidence
from sweeplab.report.evidence.formatting import DASH, interval_text, metric_label, metric_text
from sweeplab.report.evidence.settings import Setting, all_records, first_objective, headline_scores
from sweeplab.report.findings.table import Cell, Column, Table
from sweeplab.statistics.selection import find_best_under, find_pareto_front


def other_objectives(facts: StudyFacts, found: Evidence) -> dict[str, int]:
    """The objectives that are neither `found`'s nor a cost, as far as they were measured: -1 where more is better."""
    known = (found.metric, *cost_metrics(found.settings))
    return {
        name: 1 if direction == "minimize" else -1
        for name, direction in facts.objectives.items()
        if name not in known and not np.isnan(means(found.settings, name)).all()
    }


def pareto_table(facts: StudyFacts, found: Evidence) -> Table | None:
    """Settings that no other beats in quality, the other objectives, memory and time at once, by their means.

    None without any beside quality.
    """
    signs = other_objectives(facts, found) | dict.fromkeys(cost_metrics(found.settings), 1)
    if not signs or len(found.settings) < 2:
        return None
    badness_K = -found.sign * found.table.values_KS.mean(axis=1)
    badnesses = [sign * means(found.settings, name) for name, sign in signs.items()]
    rows_KM = np.stack([badness_K, *badnesses], axis=1)
    columns = [Column("setting", numeric=False), *(Column(metric_label(name)) for name in (found.metric, *signs))]
    rows = []
    for place in find_pareto_front(rows_KM):
        setting = found.settings[place]
        cells = [cost_cell(setting, name) for name in signs]
        rows.append([Cell(setting.label), quality_cell(found, place), *cells])
    return Table(columns, rows)


def cost_cell(setting: Setting, name: str) -> Cell:
    mean = setting.spreads[name].mean
    return Cell(metric_text(name, mean), size=mean)


def quality_cell(found: Evidence, place: int | None) -> Cell:
    """A mean with its interval in small print; a dash for a setting that has no place in `found`."""
    if place is None:
        return Cell(DASH)
    estimate = found.estimates[place]
    return Cell(metric_text(found.metric, estimate.value), interval_text(found.metric, estimate))


def budget_tables(found: Evidence) -> list[tuple[str, Table]]:
    """(title, table) for memory and for time: from what budget on another setting is the best, by the means."""
    made = []
    scores_K = found.sign * found.table.values_KS.mean(axis=1)
    for name in cost_metrics(found.settings):
        places = find_best_under(means(found.settings, name), scores_K)
        columns = [Column("from"), Column("the best is", numeric=False), Column(metric_label(found.metric))]
        rows = [
            [
                cost_cell(found.settings[place], name),
                Cell(found.settings[place].label),
                quality_cell(found, place),
            ]
            for place in places
        ]
        if len(found.settings) > 1:
            made.append((f"Best within a budget of {METRICS[name].label}", Table(columns, rows)))
    return made


def forgetting_table(facts: StudyFacts, settings: list[Setting], items: Items | None) -> Table | None:
    """What was learned beside what should have been kept, by setting; None where no retained task was scored."""
    objective, _ = first_objective(facts)
    kept = [
        f"scores.{task}.{metric}"
        for task, metric in headline_scores(all_records(settings))
        if task in facts.retained_tasks
    ]
    sides = [found for name in (objective, *kept) if (found := evidence(facts, settings, name, items)) is not None]
    if len(sides) < 2 or sides[0].metric != objective:
        return None
    titles = [Column(metric_label(one.metric), "kept" if place else "learned") for place, one in enumerate(sides)]
    rows = []
    for setting in sides[0].settings:
        rows.append([Cell(setting.label), *(quality_cell(side, side.place(setting)) for side in sides)])
    return Table([Column("setting", numeric=False), *titles], rows)
