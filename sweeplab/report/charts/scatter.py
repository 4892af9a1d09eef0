"""Every metric against the varied key: one dot per trial, a line or a bar through the means."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from sweeplab.records.metrics import METRICS
from sweeplab.records.record import BaseScore, StudyFacts
from sweeplab.report.charts.axes import Axis, main_axis
from sweeplab.report.charts.chart import Chart, Dot, Level, Line
from sweeplab.report.colors import PALETTE
from sweeplab.report.evidence.bases import base_value
from sweeplab.report.evidence.costs import STEP_SECONDS, memory_metric, time_metric
from sweeplab.report.evidence.estimates import setting_estimates
from sweeplab.report.evidence.formatting import memory_scale, metric_label, number, score_label, time_scale
from sweeplab.report.evidence.settings import (
    LOSS,
    SHARES,
    Setting,
    all_records,
    headline_scores,
    number_of,
    setting_label,
    varied_keys,
)
from sweeplab.report.findings.claims_table import Published
from sweeplab.statistics.intervals import Estimate

MAX_STRETCH: Final = 1.0  # of the range of the trials, for the base to be drawn too
MAX_LINES: Final = 6  # of the other axes; more become one cloud, since nobody could tell the lines apart


class Curve(NamedTuple):
    """A metric to draw against the varied axis; values are divided by `divisor`."""

    name: str
    label: str
    divisor: float = 1.0


def charts(
    facts: StudyFacts,
    settings: list[Setting],
    published: Sequence[Published] = (),
    bases: Sequence[BaseScore] = (),
) -> list[Chart]:
    """Every metric against the first varied key, scores first; with published values and the base's own."""
    axis = main_axis(facts, all_records(settings))
    loss = Curve(LOSS, "loss")
    drawn = [
        *score_charts(facts, settings, axis, published),
        against_axis("heldout-loss", "Held-out loss", "held-out loss (nats/target)", facts, settings, axis, [loss]),
        time_chart(facts, settings, axis),
        memory_chart(facts, settings, axis),
    ]
    return [with_bases(chart, bases) for chart in drawn if chart is not None]


def score_charts(
    facts: StudyFacts, settings: list[Setting], axis: Axis, published: Sequence[Published]
) -> list[Chart | None]:
    """Shares share one figure, so that learning stands beside forgetting; any other metric has its own."""
    panels: dict[str, list[Curve]] = {}
    for task, metric in headline_scores(all_records(settings)):
        panel = "share" if metric.split(",")[0] in SHARES else metric
        panels.setdefault(panel, []).append(Curve(f"scores.{task}.{metric}", score_label(task, metric)))
    num_families = len(other_axes(facts, settings, axis))
    made: list[Chart | None] = []
    for panel, curves in panels.items():
        split = num_families > 1 and len(curves) * num_families > MAX_LINES
        for members in [[curve] for curve in curves] if split else [curves]:
            title = f"Score: {members[0].label}" if len(members) == 1 else "Scores"
            y_title, ident = "score (share right)" if panel == "share" else panel, f"score-{len(made)}"
            drawn = against_axis(ident, title, y_title, facts, settings, axis, members, panel == "share")
            made.append(drawn and with_published(drawn, members, published))
    return made


def time_chart(facts: StudyFacts, settings: list[Setting], axis: Axis) -> Chart | None:
    name = time_metric(all_records(settings))
    found = [value for one in settings for record in one.finished if (value := number_of(record, name)) is not None]
    if not found:
        return None
    divisor, unit = time_scale(max(found))
    curve = Curve(name, "time", divisor)
    if name == STEP_SECONDS:
        title = "Time of a step alone, longest batch"
        return against_axis("step-time", title, f"step alone ({unit})", facts, settings, axis, [curve])
    return against_axis("train-time", "Training time", f"training time ({unit})", facts, settings, axis, [curve])


def memory_chart(facts: StudyFacts, settings: list[Setting], axis: Axis) -> Chart | None:
    records = [record for setting in settings for record in setting.finished]
    name = memory_metric(all_records(settings))
    found = [value for record in records if name is not None and (value := number_of(record, name)) is not None]
    if name is None or not found:
        return None
    divisor, unit = memory_scale(max(found))
    label = METRICS[name].label
    if label.endswith(", training"):
        label = f"{label.removesuffix(', training')} in training"
    title = f"{label[0].upper()}{label[1:]}"
    curve = Curve(name, "memory", divisor)
    return against_axis("peak-memory", title, f"peak memory ({unit})", facts, settings, axis, [curve])


def against_axis(
    ident: str,
    title: str,
    y_title: str,
    facts: StudyFacts,
    settings: list[Setting],
    axis: Axis,
    curves: list[Curve],
    unit_range: bool = False,
) -> Chart | None:
    """Every finished trial as a dot and the mean over seeds, one line per metric and per value of the other axes."""
    families = other_axes(facts, settings, axis)
    clouded = len(families) > MAX_LINES
    if clouded:
        families = {"": settings}
    lines = []
    estimates = {curve.name: setting_estimates(facts, settings, curve.name) for curve in curves}
    for place, curve in enumerate(curves):
        for index, (family, members) in enumerate(families.items()):
            label = ", ".join(part for part in (curve.label if len(curves) > 1 or not family else "", family) if part)
            color, dash = (place, index) if len(curves) > 1 else (index, 0)
            path = [] if clouded else mean_path(members, axis, curve, estimates[curve.name])
            lines.append(Line(label, color, dash, trial_dots(members, axis, curve), path))
    lines = [line for line in lines if line.dots]
    if axis.scale == "category":
        lines = [side_by_side(line, place, len(lines)) for place, line in enumerate(lines)]
    if not lines:
        return None
    fits = unit_range and all(0 <= dot.y <= 1 for line in lines for dot in line.dots)
    note = "One dot per trial; the other axes vary too, so no line is drawn." if clouded else mean_note(axis)
    if any(curve.name.startswith("solo.") for curve in curves) and has_unprobed(settings):
        note += " Trials that need the base for themselves were not probed, and are not drawn."
    metrics = tuple(curve.name for curve in curves)
    return Chart(ident, title, note, y_title, axis, lines, fits, metrics=metrics)


def has_unprobed(settings: list[Setting]) -> bool:
    return any(record.solo is None for setting in settings for record in setting.finished)


def side_by_side(line: Line, place: int, num_lines: int) -> Line:
    """`line` moved within its category, so that equal values of several lines do not hide each other."""
    shift = 0.7 * ((place + 0.5) / num_lines - 0.5)
    return replace(
        line,
        dots=[dot._replace(x=dot.x + shift) for dot in line.dots],
        path=[dot._replace(x=dot.x + shift) for dot in line.path],
    )


def mean_note(axis: Axis) -> str:
    mark = "a bar" if axis.scale == "category" else "a line"
    return f"One dot per trial, {mark} at the mean over seeds with its 95 % interval, where there is one."


def other_axes(facts: StudyFacts, settings: list[Setting], axis: Axis) -> dict[str, list[Setting]]:
    """Settings that differ on the main axis only, by the label of the rest."""
    records = all_records(settings)
    keys = [key for key in varied_keys(facts, records) if key != axis.key]
    families: dict[str, list[Setting]] = {}
    for setting in settings:
        rest = {key: value for key, value in setting.params.items() if key in keys}
        families.setdefault(setting_label(facts, rest, keys) if rest else "", []).append(setting)
    return families


def trial_dots(settings: list[Setting], axis: Axis, curve: Curve) -> list[Dot]:
    dots = []
    for setting in settings:
        for record in setting.finished:
            value = number_of(record, curve.name)
            if value is not None:
                shown = value / curve.divisor
                text = f"trial {record.number}, {setting.label}, seed {record.seed}: {number(shown)}"
                dots.append(Dot(axis.find_position(setting.params), shown, text))
    return dots


def mean_path(settings: list[Setting], axis: Axis, curve: Curve, estimates: dict[int, Estimate]) -> list[Dot]:
    path = []
    for setting in settings:
        spread = setting.spreads.get(curve.name)
        if spread is not None:
            mean = spread.mean / curve.divisor
            estimate = estimates.get(setting.records[0].number)
            ends = (None, None) if estimate is None else (estimate.low, estimate.high)
            low, high = (None if end is None else end / curve.divisor for end in ends)
            known = "" if low is None or high is None else f" [{number(low)}, {number(high)}]"
            text = f"mean of {spread.num_seeds}, {setting.label}: {number(mean)}{known}"
            path.append(Dot(axis.find_position(setting.params), mean, text, low, high))
    return sorted(path, key=lambda dot: dot[:3])


def with_published(chart: Chart, curves: list[Curve], published: Sequence[Published]) -> Chart:
    """`chart` with the sources' own values as one more line of dots, where it has a place for them."""
    axis = chart.axis
    names = {curve.name: curve.label for curve in curves}
    dots = [
        Dot(axis.find_position(one.params), one.value, f"{one.source}, {names[one.metric]}: {number(one.value)}")
        for one in published
        if axis.key in one.params and axis.has(one.params) and one.metric in names
    ]
    line = Line("published", len(PALETTE) - 1, 0, dots, [], diamond=True)
    return replace(chart, lines=[*chart.lines, line]) if dots else chart


def with_bases(chart: Chart, bases: Sequence[BaseScore]) -> Chart:
    """`chart` with what the base itself has of its metrics, equal values once; one far off is in the note only."""
    several = len(chart.metrics) > 1
    ys = [dot.y for line in chart.lines for dot in line.dots]
    room = math.inf if chart.unit_range else MAX_STRETCH * (max(ys) - min(ys))
    found: dict[tuple[float, int], str] = {}
    for color, metric in enumerate(chart.metrics):
        for base in bases:
            value = base_value(base, metric)
            if value is not None:
                about = f", {metric_label(metric)}" if several else ""
                shade = color if several else len(PALETTE) - 1
                found.setdefault((value, shade), f"base model without adapter{about}: {number(value)}")
    levels = [Level(y, color, text) for (y, color), text in found.items()]
    near = tuple(one for one in levels if min(ys) - room <= one.y <= max(ys) + room)
    far = "".join(f" Outside of the drawing: {one.text}." for one in levels if one not in near)
    return replace(chart, levels=near, note=chart.note + far)
