"""Charts of what quality costs and of where memory goes: against a cost, and by phase."""

import statistics
from dataclasses import replace
from typing import Final

import numpy as np

from sweeplab.records.metrics import METRICS
from sweeplab.records.record import TrialRecord
from sweeplab.report.charts.axes import Axis
from sweeplab.report.charts.chart import Chart, Dot, Line
from sweeplab.report.charts.ticks import Tick, list_round_ticks
from sweeplab.report.colors import PALETTE
from sweeplab.report.evidence.costs import list_cost_metrics, mean_by_setting
from sweeplab.report.evidence.estimates import Evidence, is_share
from sweeplab.report.evidence.formatting import (
    choose_memory_unit,
    choose_time_unit,
    format_estimate,
    format_memory,
    format_metric,
    label_metric,
    unit_of_metric,
)
from sweeplab.report.evidence.provenance import format_ranges
from sweeplab.statistics.selection import find_pareto_front

_MANY_BEATEN: Final = 40  # settings, whose intervals would hide each other
_PHASE_MEMORY: Final = ("peak_allocated_bytes", "peak_resident_bytes")


def build_tradeoff_charts(evidence: Evidence, label: str = "") -> list[Chart]:
    """Quality against each cost, one dot per setting, a line through those that no other beats in both.

    `label`: which settings they are, where there are others.
    """
    if len(evidence.settings) < 2:
        return []
    costs = list_cost_metrics(evidence.settings)
    drawn = [_build_tradeoff_chart(evidence, cost, index) for index, cost in enumerate(costs)]
    if not label:
        return drawn
    return [replace(one, ident=f"{one.ident}-{label}", title=f"{one.title}, {label}") for one in drawn]


def _build_tradeoff_chart(evidence: Evidence, cost: str, index: int) -> Chart:
    costs_K = mean_by_setting(evidence.settings, cost)
    rows_KM = np.stack([-evidence.sign * evidence.table.values_KS.mean(axis=1), costs_K], axis=1)
    known = [order for order in range(len(costs_K)) if not np.isnan(costs_K[order])]
    best = {known[order] for order in find_pareto_front(rows_KM[known])}
    divisor, unit = _choose_cost_unit(cost, float(np.nanmax(costs_K)))
    dots = {order: _build_dot(evidence, order, cost, costs_K[order], divisor) for order in known}
    front = sorted(dots[order] for order in best)
    others = [dot for order, dot in dots.items() if order not in best]
    crowded = len(others) > _MANY_BEATEN
    if crowded:
        others = [dot._replace(low=None, high=None) for dot in others]
    label = METRICS[cost].label
    low, high = min(dot.x for dot in dots.values()), max(dot.x for dot in dots.values())
    axis = Axis(None, f"{label} ({unit})", "linear", list_round_ticks(low, high))
    lines = [
        Line("beaten", len(PALETTE) - 1, 0 if crowded else 1, others, []),
        Line("not beaten in both", 0, 0, front, [dot._replace(low=None, high=None) for dot in front]),
    ]
    quality = label_metric(evidence.metric)
    y_unit = f" ({unit_of_metric(evidence.metric)})" if unit_of_metric(evidence.metric) else ""
    which = ", drawn on the line only, where they are many" if crowded else ""
    note = (
        f"One dot per setting: its mean with the 95 % interval{which}. The line joins the settings that no other beats "
        "in both."
    )
    level = is_share(evidence.metric) and len({dot.y for dot in dots.values()}) == 1  # no range of its own
    title = f"{quality[0].upper()}{quality[1:]} against {label.partition(',')[0]}"
    return Chart(
        f"tradeoff-{index}", title, note, f"{quality}{y_unit}", axis, [line for line in lines if line.dots], level
    )


def _choose_cost_unit(cost: str, highest: float) -> tuple[float, str]:
    """What costs are divided by, and the unit that is left."""
    if unit_of_metric(cost) == "bytes":
        return choose_memory_unit(highest)
    return choose_time_unit(highest)


def _build_dot(evidence: Evidence, index: int, cost: str, value: float, divisor: float) -> Dot:
    estimate = evidence.estimates[index]
    quality = format_estimate(evidence.metric, estimate)
    text = f"{evidence.settings[index].label}: {quality} at {format_metric(cost, value)}"
    return Dot(float(value) / divisor, estimate.value, text, estimate.low, estimate.high)


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
