"""Charts of what quality costs and of where memory goes: against a cost, and by phase."""

import statistics
from dataclasses import replace
from typing import Final

import numpy as np

from sweeplab.records.metrics import METRICS, is_share
from sweeplab.records.record import TrialRecord
from sweeplab.report.charts.axes import Axis
from sweeplab.report.charts.chart import Chart, Dot, Line
from sweeplab.report.charts.reach import find_reach, say_cut
from sweeplab.report.charts.ticks import Tick, list_round_ticks
from sweeplab.report.colors import PALETTE
from sweeplab.report.evidence.costs import list_cost_metrics
from sweeplab.report.evidence.estimates import Evidence
from sweeplab.report.evidence.formatting import (
    choose_memory_unit,
    choose_time_unit,
    format_estimate,
    format_memory,
    label_metric,
    unit_of_metric,
)
from sweeplab.report.evidence.fronts import MARGIN, Cost, find_beaten, gather_cost
from sweeplab.report.evidence.provenance import format_ranges
from sweeplab.statistics.selection import find_pareto_front

_MANY_SETTINGS: Final = 40  # whose intervals would hide each other
_PHASE_MEMORY: Final = ("peak_allocated_bytes", "peak_resident_bytes")


def build_tradeoff_charts(evidence: Evidence, label: str = "") -> list[Chart]:
    """Quality against each cost, one dot per setting; a line through the best by the means.

    `label`: which settings they are, where there are others.
    """
    if len(evidence.settings) < 2:
        return []
    costs = list_cost_metrics(evidence.settings)
    drawn = [_build_tradeoff_chart(evidence, cost, index) for index, cost in enumerate(costs)]
    if not label:
        return drawn
    return [replace(one, ident=f"{one.ident}-{label}", title=f"{one.title}, {label}") for one in drawn]


def _build_tradeoff_chart(evidence: Evidence, metric: str, index: int) -> Chart:
    cost = gather_cost(evidence.settings, metric)
    beaten_K = find_beaten([evidence], [cost])
    known = [order for order in range(len(beaten_K)) if not np.isnan(cost.means_K[order])]
    divisor, unit = _choose_cost_unit(metric, float(np.nanmax(cost.means_K)))
    dots = {order: _build_dot(evidence, order, cost, divisor) for order in known}
    if len(dots) > _MANY_SETTINGS:
        dots = {order: dot._replace(low=None, high=None, left=None, right=None) for order, dot in dots.items()}
    rows_KM = np.stack([-evidence.sign * evidence.table.effects_K, cost.means_K], axis=1)
    path = sorted(dots[order]._replace(low=None, high=None) for order in find_pareto_front(rows_KM))
    label = METRICS[metric].label
    ends = [end for dot in dots.values() for end in (dot.left, dot.right)]
    reach = find_reach([dot.x for dot in dots.values()], ends)
    axis = Axis(None, f"{label} ({unit})", "linear", list_round_ticks(*reach))
    beaten = [dot for order, dot in dots.items() if beaten_K[order]]
    left = sorted(dot for order, dot in dots.items() if not beaten_K[order])
    lines = [
        Line("dominated", len(PALETTE) - 1, 1, beaten, [], is_pale=True),
        Line("best trade-offs", 0, 0, left, path),
    ]
    quality = label_metric(evidence.metric)
    y_unit = f" ({unit_of_metric(evidence.metric)})" if unit_of_metric(evidence.metric) else ""
    level = is_share(evidence.metric) and len({dot.y for dot in dots.values()}) == 1  # no range of its own
    title = f"{quality[0].upper()}{quality[1:]} against {label.partition(',')[0]}"
    note = _describe_tradeoff(evidence, cost, len(dots) > _MANY_SETTINGS)
    drawn = [line for line in lines if line.dots]
    chart = Chart(f"tradeoff-{index}", title, note, f"{quality}{y_unit}", axis, drawn, level)
    return replace(chart, note=chart.note + say_cut(chart))


def _describe_tradeoff(evidence: Evidence, cost: Cost, is_crowded: bool) -> str:
    ends = "its mean; intervals are in the tables" if is_crowded else "its mean with 95 % intervals where there are any"
    line = "The line joins what no other beats by the means, noise included."
    if evidence.table.num_seeds == 1:
        return f"One dot per setting: {ends}. {line} With one seed no setting is called dominated."
    dearer = "dearer" if cost.is_counted else f"more than {100 * MARGIN:.0f} % dearer"
    return f"One dot per setting: {ends}. Dominated: another is clearly better and not {dearer}. {line}"


def _choose_cost_unit(cost: str, highest: float) -> tuple[float, str]:
    """What costs are divided by, and the unit that is left."""
    if unit_of_metric(cost) == "bytes":
        return choose_memory_unit(highest)
    return choose_time_unit(highest)


def _build_dot(evidence: Evidence, index: int, cost: Cost, divisor: float) -> Dot:
    quality, price = evidence.estimates[index], cost.estimates[index]
    assert price is not None
    shown = price if price.has_spread and not cost.is_counted else replace(price, low=None, high=None)
    text = (
        f"{evidence.settings[index].label}: {format_estimate(evidence.metric, quality)} at "
        f"{format_estimate(cost.metric, shown)}"
    )
    left, right = (None if end is None else end / divisor for end in (shown.low, shown.high))
    return Dot(price.value / divisor, quality.value, text, quality.low, quality.high, left=left, right=right)


def build_phase_memory_chart(records: list[TrialRecord]) -> Chart | None:
    """Peak memory in each phase, one dot for each trial, or for each cohort whose trials shared it."""
    name = next((one for one in _PHASE_MEMORY if any(_read_phase_bytes(record, one) for record in records)), None)
    if name is None:
        return None
    cohorts: dict[tuple[int, ...], TrialRecord] = {}
    for record in records:
        cohorts.setdefault(tuple(record.cohort) if record.trained_among_others else (record.number,), record)
    phases = list(dict.fromkeys(phase for record in records for phase in record.phases))
    highest = max(value for record in records for value in _read_phase_bytes(record, name).values())
    divisor, unit = choose_memory_unit(highest)
    dots, bars = [], []
    for index, phase in enumerate(phases):
        by_cohort = {
            who: _read_phase_bytes(one, name)[phase]
            for who, one in cohorts.items()
            if phase in _read_phase_bytes(one, name)
        }
        for who, value in by_cohort.items():
            several = "trial" if len(who) == 1 else "trials"
            dots.append(
                Dot(float(index), value / divisor, f"{several} {format_ranges(who)}, {phase}: {format_memory(value)}")
            )
        if by_cohort:
            middle = statistics.median(by_cohort.values())
            bars.append(Dot(float(index), middle / divisor, f"median of {phase}: {format_memory(middle)}"))
    axis = Axis(None, "phase", "category", [Tick(float(index), phase) for index, phase in enumerate(phases)])
    kind = "GPU memory, allocated" if name == "peak_allocated_bytes" else "resident memory of the process"
    together = any(len(who) > 1 for who in cohorts)
    note = f"One dot per {'cohort, whose trials share its memory' if together else 'trial'}; a bar at the median."
    line = Line("memory", 0, 0, dots, bars)
    return Chart("phase-memory", f"Peak {kind}, by phase", note, f"peak memory ({unit})", axis, [line])


def _read_phase_bytes(record: TrialRecord, name: str) -> dict[str, int]:
    """Bytes by phase, as far as they were measured."""
    return {phase: value for phase, one in record.phases.items() if (value := getattr(one, name)) is not None}
