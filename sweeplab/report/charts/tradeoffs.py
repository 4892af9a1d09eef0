"""Charts of what quality costs and of where memory goes: against a cost, and by phase."""

import statistics
from dataclasses import replace
from typing import Final

import numpy as np

from sweeplab.records.metrics import METRICS
from sweeplab.records.record import TrialRecord
from sweeplab.report.charts.axes import Axis
from sweeplab.report.charts.chart import Chart, Dot, Line
from sweeplab.report.charts.ticks import Tick, round_ticks
from sweeplab.report.colors import PALETTE
from sweeplab.report.evidence.costs import cost_metrics, means
from sweeplab.report.evidence.estimates import Evidence, is_share
from sweeplab.report.evidence.formatting import (
    amount,
    memory,
    memory_scale,
    metric_label,
    metric_text,
    metric_unit,
    time_scale,
)
from sweeplab.report.evidence.provenance import ranges
from sweeplab.statistics.selection import find_pareto_front

MANY_BEATEN: Final = 40  # settings, whose intervals would hide each other
PHASE_MEMORY: Final = ("peak_allocated_bytes", "peak_resident_bytes")


def tradeoff_charts(found: Evidence, label: str = "") -> list[Chart]:
    """Quality against each cost, one dot per setting, a line through those that no other beats in both.

    `label`: which settings they are, where there are others.
    """
    if len(found.settings) < 2:
        return []
    made = [tradeoff_chart(found, cost, place) for place, cost in enumerate(cost_metrics(found.settings))]
    if not label:
        return made
    return [replace(one, ident=f"{one.ident}-{label}", title=f"{one.title}, {label}") for one in made]


def tradeoff_chart(found: Evidence, cost: str, index: int) -> Chart:
    costs_K = means(found.settings, cost)
    rows_KM = np.stack([-found.sign * found.table.values_KS.mean(axis=1), costs_K], axis=1)
    known = [place for place in range(len(costs_K)) if not np.isnan(costs_K[place])]
    best = {known[place] for place in find_pareto_front(rows_KM[known])}
    divisor, unit = cost_scale(cost, float(np.nanmax(costs_K)))
    dots = {place: setting_dot(found, place, cost, costs_K[place], divisor) for place in known}
    front = sorted(dots[place] for place in best)
    others = [dot for place, dot in dots.items() if place not in best]
    crowded = len(others) > MANY_BEATEN
    if crowded:
        others = [dot._replace(low=None, high=None) for dot in others]
    label = METRICS[cost].label
    low, high = min(dot.x for dot in dots.values()), max(dot.x for dot in dots.values())
    axis = Axis(None, f"{label} ({unit})", "linear", round_ticks(low, high))
    lines = [
        Line("beaten", len(PALETTE) - 1, 0 if crowded else 1, others, []),
        Line("not beaten in both", 0, 0, front, [dot._replace(low=None, high=None) for dot in front]),
    ]
    quality = metric_label(found.metric)
    y_unit = f" ({metric_unit(found.metric)})" if metric_unit(found.metric) else ""
    which = ", drawn on the line only, where they are many" if crowded else ""
    note = (
        f"One dot per setting: its mean with the 95 % interval{which}. The line joins the settings that no other beats "
        "in both."
    )
    level = is_share(found.metric) and len({dot.y for dot in dots.values()}) == 1  # no range of its own
    title = f"{quality[0].upper()}{quality[1:]} against {label.partition(',')[0]}"
    return Chart(
        f"tradeoff-{index}", title, note, f"{quality}{y_unit}", axis, [line for line in lines if line.dots], level
    )


def cost_scale(cost: str, highest: float) -> tuple[float, str]:
    """What costs are divided by, and the unit that is left."""
    if metric_unit(cost) == "bytes":
        return memory_scale(highest)
    return time_scale(highest)


def setting_dot(found: Evidence, place: int, cost: str, value: float, divisor: float) -> Dot:
    estimate = found.estimates[place]
    text = f"{found.settings[place].label}: {amount(found.metric, estimate)} at {metric_text(cost, value)}"
    return Dot(float(value) / divisor, estimate.value, text, estimate.low, estimate.high)


def phase_memory_chart(records: list[TrialRecord]) -> Chart | None:
    """Peak memory in each phase, one dot for each trial, or for each cohort whose trials shared it."""
    name = next((one for one in PHASE_MEMORY if any(phase_bytes(record, one) for record in records)), None)
    if name is None:
        return None
    cohorts: dict[tuple[int, ...], TrialRecord] = {}
    for record in records:
        cohorts.setdefault(tuple(record.cohort) if record.trained_among_others else (record.number,), record)
    phases = list(dict.fromkeys(phase for record in records for phase in record.phases))
    highest = max(value for record in records for value in phase_bytes(record, name).values())
    divisor, unit = memory_scale(highest)
    dots, bars = [], []
    for place, phase in enumerate(phases):
        found = {who: phase_bytes(one, name)[phase] for who, one in cohorts.items() if phase in phase_bytes(one, name)}
        for who, value in found.items():
            several = "trial" if len(who) == 1 else "trials"
            dots.append(Dot(float(place), value / divisor, f"{several} {ranges(who)}, {phase}: {memory(value)}"))
        if found:
            middle = statistics.median(found.values())
            bars.append(Dot(float(place), middle / divisor, f"median of {phase}: {memory(middle)}"))
    axis = Axis(None, "phase", "category", [Tick(float(place), phase) for place, phase in enumerate(phases)])
    kind = "GPU memory, allocated" if name == "peak_allocated_bytes" else "resident memory of the process"
    together = any(len(who) > 1 for who in cohorts)
    note = f"One dot per {'cohort, whose trials share its memory' if together else 'trial'}; a bar at the median."
    line = Line("memory", 0, 0, dots, bars)
    return Chart("phase-memory", f"Peak {kind}, by phase", note, f"peak memory ({unit})", axis, [line])


def phase_bytes(record: TrialRecord, name: str) -> dict[str, int]:
    """Bytes by phase, as far as they were measured."""
    return {phase: value for phase, one in record.phases.items() if (value := getattr(one, name)) is not None}
