"""What quality costs: the Pareto front, the best setting under a budget, and forgetting beside learning."""

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sweeplab.records.items import Items
from sweeplab.records.metrics import METRICS
from sweeplab.records.record import StudyFacts
from sweeplab.report.evidence.costs import (
    STEP_PROCESSOR_SECONDS,
    STEP_SECONDS,
    TRAIN_SECONDS,
    list_cost_metrics,
    mean_by_setting,
)
from sweeplab.report.evidence.estimates import Evidence, gather_evidence, is_seed_dependent
from sweeplab.report.evidence.formatting import (
    DASH,
    count_noun,
    format_interval,
    format_mean,
    format_metric,
    label_metric,
)
from sweeplab.report.evidence.fronts import MARGIN, MOST_TIMES, Cost, find_beaten, find_surely_better, gather_cost
from sweeplab.report.evidence.settings import Setting, collect_records, first_objective, pick_headline_scores
from sweeplab.report.findings.table import Cell, Column, Table, merge_equal_rows
from sweeplab.statistics.selection import find_best_under, find_pareto_front

_LONGEST_FRONT: Final = 30  # rows
_MOST_NAMED: Final = 4  # settings in a cell
EXPLAINED_FRONT: Final = (
    "Dominated: another setting is clearly better (95 % for all pairs at once), is by its means no worse in any other "
    f"objective, needs no more counted memory, and at most {100 * MARGIN:.0f} % more measured memory and time. The "
    "others are the best trade-offs as far as is known. 'By its means, too': it would be one if all means were exact, "
    "noise included."
)
_CLOCKS: Final = {
    TRAIN_SECONDS: "Time is that of whole trainings by the wall clock, which other work on the machine lengthens",
    STEP_SECONDS: "Time is that of a step by the wall clock, which other work on the machine lengthens",
    STEP_PROCESSOR_SECONDS: "Time is the processor's for a step, of all threads; waiting for a core is not in it",
}


def describe_pareto(facts: StudyFacts, evidence: Evidence) -> str:
    """How many settings are dominated, and what is left out."""
    front = _find_front(facts, evidence)
    num_settings, num_left = len(evidence.settings), len(front.indices)
    if evidence.table.num_seeds == 1:
        return (
            "With one seed no setting is called dominated: another seed may turn the order round. No budget of a "
            "measured time or size is shown: one run does not say how far it spreads."
        )
    beaten = f"{num_settings - num_left} of {count_noun(num_settings, 'setting')}"
    cut = (
        f" Shown: those that no other beats by the means, of {num_left} that are not dominated." if front.is_cut else ""
    )
    verb = "is" if num_settings - num_left == 1 else "are"
    after = _describe_clock(front.costs) + _describe_vague(evidence, front.costs)
    return f"{beaten} {verb} dominated: dearer or worse than another.{cut}{after}"


def _describe_clock(costs: list[Cost]) -> str:
    """By which clock settings are compared, and whether each was timed more than once; nothing without a time."""
    timed = next((one for one in costs if one.metric in _CLOCKS), None)
    if timed is None:
        return ""
    num_timed = sum(one is not None for one in timed.estimates)
    num_repeated = sum(one is not None and one.low is not None for one in timed.estimates)
    repeated = "with each seed, among the other settings" if num_repeated else "once only: it has no interval"
    if 0 < num_repeated < num_timed:
        repeated += f", {num_timed - num_repeated} of {num_timed} once only"
    return f" {_CLOCKS[timed.metric]}; each setting was timed {repeated}. None is called faster."


class _Front(NamedTuple):
    qualities: list[Evidence]  # the first one is of the first objective
    costs: list[Cost]
    indices: list[int]  # of the settings that are not surely beaten
    by_means: set[int]  # of those on the front if all means were exact

    @property
    def is_cut(self) -> bool:
        """True where the front is too long for a table of all of it."""
        return len(self.indices) > _LONGEST_FRONT


def _find_front(facts: StudyFacts, evidence: Evidence) -> _Front:
    """The settings that are not surely beaten in the objectives, memory and time."""
    qualities, costs = (
        [evidence],
        [gather_cost(evidence.settings, name) for name in list_cost_metrics(evidence.settings)],
    )
    for name, direction in facts.objectives.items():
        if name == evidence.metric or name in [one.metric for one in costs]:
            continue
        other = gather_evidence(facts, evidence.settings, name, None)
        if other is None:
            continue
        if is_seed_dependent(name) or direction == "maximize":
            qualities.append(other)
        else:
            costs.append(gather_cost(evidence.settings, name))
    badnesses = [-one.sign * mean_by_setting(evidence.settings, one.metric) for one in qualities]
    by_means = find_pareto_front(np.stack([*badnesses, *(one.means_K for one in costs)], axis=1))
    beaten_K = find_beaten(qualities, costs)
    return _Front(qualities, costs, np.flatnonzero(~beaten_K).tolist(), set(by_means))


def build_pareto_table(facts: StudyFacts, evidence: Evidence) -> Table | None:
    """Settings that no other surely beats in the objectives, memory and time. None without any beside quality."""
    front = _find_front(facts, evidence)
    names = [*(one.metric for one in front.qualities[1:]), *(one.metric for one in front.costs)]
    last = list_cost_metrics(evidence.settings)
    names = [*(name for name in facts.objectives if name in names and name not in last), *last]
    if not names or len(evidence.settings) < 2:
        return None
    columns = [Column("setting", numeric=False), *(Column(label_metric(name)) for name in (evidence.metric, *names))]
    costs = {one.metric: one for one in front.costs}
    rows = []
    effects = (evidence.sign * evidence.table.effects_K).tolist()
    for index in sorted(front.indices, key=lambda index: -effects[index]):
        if front.is_cut and index not in front.by_means:
            continue
        label = Cell(evidence.settings[index].label, "by its means, too" if index in front.by_means else "")
        cells = [
            _cost_cell(costs[name], index) if name in costs else _value_cell(evidence.settings[index], name)
            for name in names
        ]
        rows.append([label, _quality_cell(evidence, index), *cells])
    return Table(columns, merge_equal_rows(rows))


def _value_cell(setting: Setting, name: str) -> Cell:
    spread = setting.spreads.get(name)
    return Cell(DASH) if spread is None else Cell(format_metric(name, spread.mean), size=spread.mean)


def _cost_cell(cost: Cost, index: int) -> Cell:
    """A mean with its interval in small print, where it has one and is not exact; a dash where it was not measured."""
    estimate = cost.estimates[index]
    if estimate is None:
        return Cell(DASH)
    note = "" if cost.is_counted or not estimate.has_spread else format_interval(cost.metric, estimate)
    return Cell(format_metric(cost.metric, estimate.value), note, size=estimate.value)


def _quality_cell(evidence: Evidence, index: int | None) -> Cell:
    """A mean with its interval in small print; a dash for a setting that is not in `evidence`."""
    if index is None:
        return Cell(DASH)
    estimate = evidence.estimates[index]
    return Cell(format_mean(evidence.metric, estimate), format_interval(evidence.metric, estimate))


def build_budget_tables(evidence: Evidence) -> list[tuple[str, Table]]:
    """(title, table) for memory and for time: the best that surely fits, what cannot be told from it, what may fit.

    A cost without an interval, of a study with one seed, has no table: nothing surely fits.
    """
    if len(evidence.settings) < 2:
        return []
    better_KK = find_surely_better(evidence)
    tables = []
    for name in list_cost_metrics(evidence.settings):
        cost = gather_cost(evidence.settings, name)
        table = _build_budget_table(evidence, cost, better_KK) if cost.has_intervals else None
        if table is not None:
            tables.append((f"Best within a budget of {METRICS[name].label}", table))
    return tables


def _build_budget_table(evidence: Evidence, cost: Cost, better_KK: NDArray[np.bool_]) -> Table | None:
    """One row for each budget from which on another setting has the best mean of those that surely fit.

    Of a setting whose cost is hardly known no budget is told: that of two runs of five minutes was eleven hours.
    """
    known = [(one.low, one.high) for one in cost.estimates if one is not None]
    low_K = np.array([math.nan if one is None or one.low is None else one.low for one in cost.estimates])
    high_K = np.array([math.nan if one is None or one.high is None else one.high for one in cost.estimates])
    scores_K = evidence.sign * evidence.table.effects_K
    has_noise = any(low != high for low, high in known)
    columns = [
        Column("from"),
        Column("the best that surely fits" if has_noise else "the best", numeric=False),
        Column(label_metric(evidence.metric)),
        Column("cannot be told from it", numeric=False),
        *([Column("may fit, and may be as good", numeric=False)] if has_noise else []),
    ]
    rows = []
    for index in find_best_under(np.where(cost.vague_K, math.nan, high_K), scores_K):
        budget = float(high_K[index])
        fits_K, may_fit_K = high_K <= budget, (low_K <= budget) & ~(high_K <= budget)
        as_good_K = ~better_KK[fits_K].any(axis=0)
        rows.append(
            [
                Cell(format_metric(cost.metric, budget), size=budget),
                Cell(evidence.settings[index].label),
                _quality_cell(evidence, index),
                _names_cell(evidence, [one for one in np.flatnonzero(fits_K & as_good_K).tolist() if one != index]),
                *([_names_cell(evidence, np.flatnonzero(may_fit_K & as_good_K).tolist())] if has_noise else []),
            ]
        )
    return Table(columns, rows) if rows else None


def _describe_vague(evidence: Evidence, costs: list[Cost]) -> str:
    """Which settings have no budget from which on they surely fit; nothing where all have one."""
    known = [cost for cost in costs if cost.has_intervals and cost.vague_K.any()]
    sentences = []
    for cost in known:
        names = [one.label for one, is_vague in zip(evidence.settings, cost.vague_K, strict=True) if is_vague]
        who = " and ".join(names) if len(names) <= _MOST_NAMED else count_noun(len(names), "setting")
        verb = "has" if len(names) == 1 else "have"
        sentences.append(
            f" {who} {verb} no budget of {label_metric(cost.metric)} below: by so few runs, it may as well be "
            f"{MOST_TIMES:g} times the mean, or more."
        )
    return "".join(sentences)


def _names_cell(evidence: Evidence, indices: list[int]) -> Cell:
    """The labels, the best mean first; of many the number."""
    scores_K = evidence.sign * evidence.table.effects_K
    names = [evidence.settings[index].label for index in sorted(indices, key=lambda index: -scores_K[index])]
    if len(names) > _MOST_NAMED:
        return Cell(f"{len(names)} settings", f"the best: {names[0]}")
    return Cell("; ".join(names) or DASH)


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
    effects = (sides[0].sign * sides[0].table.effects_K).tolist()
    for index in sorted(range(len(effects)), key=lambda index: -effects[index]):
        setting = sides[0].settings[index]
        rows.append([Cell(setting.label), *(_quality_cell(side, side.index_of(setting)) for side in sides)])
    return Table([Column("setting", numeric=False), *titles], merge_equal_rows(rows))
