"""Every metric against the varied key: one dot per trial, a line or a bar through the means."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from sweeplab.records.items import Items
from sweeplab.records.metrics import METRICS, is_share, score_parts
from sweeplab.records.record import BaseScore, StudyFacts
from sweeplab.report.charts.axes import Axis, choose_axis
from sweeplab.report.charts.chart import Chart, Dot, Level, Line
from sweeplab.report.charts.reach import say_cut
from sweeplab.report.colors import PALETTE
from sweeplab.report.evidence.bases import find_base_value
from sweeplab.report.evidence.costs import (
    STEP_SECONDS,
    WHOLE_TRAINING,
    choose_memory_metric,
    choose_time_metric,
    read_stand_in,
    stand_in_mean,
)
from sweeplab.report.evidence.estimates import estimate_settings
from sweeplab.report.evidence.formatting import (
    choose_memory_unit,
    choose_time_unit,
    format_number,
    label_metric,
    label_score,
    name_score,
    unit_of_metric,
)
from sweeplab.report.evidence.settings import (
    LOSS,
    Setting,
    collect_records,
    first_objective,
    label_setting,
    list_varied_keys,
    pick_headline_scores,
    read_number,
)
from sweeplab.report.findings.claims_table import PublishedValue
from sweeplab.statistics.intervals import Estimate

_MAX_STRETCH: Final = 1.0  # of the range of the trials, for the base to be drawn too
_MAX_LINES: Final = 6  # of the other axes; more become one cloud, since nobody could tell the lines apart


class _Curve(NamedTuple):
    """A metric to draw against the varied axis; values are divided by `divisor`."""

    name: str
    label: str
    divisor: float = 1.0


def build_metric_charts(
    facts: StudyFacts,
    settings: list[Setting],
    published: Sequence[PublishedValue] = (),
    bases: Sequence[BaseScore] = (),
    items: Items | None = None,
) -> list[Chart]:
    """Every metric against the first varied key, scores first; with published values and the base's own."""
    axis = choose_axis(facts, collect_records(settings))
    loss = _Curve(LOSS, "loss")
    drawn = [
        *_build_score_charts(facts, settings, axis, published, items),
        _build_chart(
            "heldout-loss", "Held-out loss", "held-out loss (nats/target)", facts, settings, axis, [loss], items=items
        ),
        _build_time_chart(facts, settings, axis),
        _build_memory_chart(facts, settings, axis),
    ]
    return [_finish(chart, bases) for chart in drawn if chart is not None]


def build_objective_chart(
    facts: StudyFacts, settings: list[Setting], bases: Sequence[BaseScore] = (), items: Items | None = None
) -> Chart | None:
    """The first objective against the varied key that moves it most, on its own scale, one line for each value of the
    others; None where these are too many for lines, or the key has names and no numbers."""
    axis, (metric, direction) = choose_axis(facts, collect_records(settings)), first_objective(facts)
    if axis.scale == "category" or len(_group_by_other_axes(facts, settings, axis)) > _MAX_LINES:
        return None
    label, unit = label_metric(metric), unit_of_metric(metric)
    short = name_score(score_parts(metric)[1]) if metric.startswith("scores.") else label
    y_title, title = f"{short}{f' ({unit})' if unit else ''}", f"{label[0].upper()}{label[1:]}"
    drawn = _build_chart("lead", title, y_title, facts, settings, axis, [_Curve(metric, short)], items=items)
    if drawn is None:
        return None
    better = "lower" if direction == "minimize" else "higher"
    return _finish(replace(drawn, note=f"{better.capitalize()} is better. {drawn.note}"), bases)


def _finish(chart: Chart, bases: Sequence[BaseScore]) -> Chart:
    """With the bases' own values, and said where an interval is cut off."""
    whole = _add_bases(chart, bases)
    return replace(whole, note=whole.note + say_cut(whole))


def _build_score_charts(
    facts: StudyFacts,
    settings: list[Setting],
    axis: Axis,
    published: Sequence[PublishedValue],
    items: Items | None,
) -> list[Chart | None]:
    """Shares share one figure, so that learning stands beside forgetting; any other metric has its own."""
    panels: dict[str, list[_Curve]] = {}
    for task, metric in pick_headline_scores(collect_records(settings), facts.objectives):
        panel = "share" if is_share(f"scores.{task}.{metric}") else metric
        panels.setdefault(panel, []).append(_Curve(f"scores.{task}.{metric}", label_score(task, metric)))
    num_families = len(_group_by_other_axes(facts, settings, axis))
    charts: list[Chart | None] = []
    for panel, curves in panels.items():
        split = num_families > 1 and len(curves) * num_families > _MAX_LINES
        for members in [[curve] for curve in curves] if split else [curves]:
            title = f"Score: {members[0].label}" if len(members) == 1 else "Scores"
            y_title, ident = "score (share right)" if panel == "share" else panel, f"score-{len(charts)}"
            drawn = _build_chart(ident, title, y_title, facts, settings, axis, members, panel == "share", items)
            charts.append(drawn and _add_published(drawn, members, published))
    return charts


def _build_time_chart(facts: StudyFacts, settings: list[Setting], axis: Axis) -> Chart | None:
    name = choose_time_metric(collect_records(settings))
    values = [value for one in settings for record in one.finished if (value := read_number(record, name)) is not None]
    if not values:
        return None
    divisor, unit = choose_time_unit(max(values))
    curve = _Curve(name, "time", divisor)
    if name == STEP_SECONDS:
        title = "Time per step, longest batch"
        return _build_chart("step-time", title, f"time per step ({unit})", facts, settings, axis, [curve])
    return _build_chart("train-time", "Training time", f"training time ({unit})", facts, settings, axis, [curve])


def _build_memory_chart(facts: StudyFacts, settings: list[Setting], axis: Axis) -> Chart | None:
    records = [record for setting in settings for record in setting.finished]
    name = choose_memory_metric(collect_records(settings))
    values = [value for record in records if name is not None and (value := read_number(record, name)) is not None]
    if name is None or not values:
        return None
    divisor, unit = choose_memory_unit(max(values))
    label = METRICS[name].label
    if label.endswith(", training"):
        label = f"{label.removesuffix(', training')} in training"
    title = f"{label[0].upper()}{label[1:]}"
    curve = _Curve(name, "memory", divisor)
    return _build_chart("peak-memory", title, f"peak memory ({unit})", facts, settings, axis, [curve])


def _build_chart(
    ident: str,
    title: str,
    y_title: str,
    facts: StudyFacts,
    settings: list[Setting],
    axis: Axis,
    curves: list[_Curve],
    unit_range: bool = False,
    items: Items | None = None,
) -> Chart | None:
    """Every finished trial as a dot and the mean over seeds, one line per metric and per value of the other axes."""
    families = _group_by_other_axes(facts, settings, axis)
    clouded = len(families) > _MAX_LINES
    if clouded:
        families = {"": settings}
    lines = []
    estimates = {curve.name: estimate_settings(facts, settings, curve.name, items) for curve in curves}
    for order, curve in enumerate(curves):
        for index, (family, members) in enumerate(families.items()):
            label = ", ".join(part for part in (curve.label if len(curves) > 1 or not family else "", family) if part)
            color, dash = (order, index) if len(curves) > 1 else (index, 0)
            path = [] if clouded else _build_mean_path(members, axis, curve, estimates[curve.name])
            lines.append(Line(label, color, dash, _build_dots(members, axis, curve), path))
    lines = [line for line in lines if line.dots]
    if axis.scale == "category":
        lines = [_shift_line(line, order, len(lines)) for order, line in enumerate(lines)]
    if not lines:
        return None
    fits = unit_range and all(0 <= dot.y <= 1 for line in lines for dot in line.dots)
    note = "One dot per trial; the other axes vary too, so no line is drawn." if clouded else _describe_means(axis)
    if any(curve.name.startswith("solo.") for curve in curves) and _has_unprobed(settings):
        note += f" Trials that need the base for themselves were not probed: theirs is {WHOLE_TRAINING}, if known."
    metrics = tuple(curve.name for curve in curves)
    return Chart(ident, title, note, y_title, axis, lines, fits, metrics=metrics)


def _has_unprobed(settings: list[Setting]) -> bool:
    return any(record.solo is None for setting in settings for record in setting.finished)


def _shift_line(line: Line, index: int, num_lines: int) -> Line:
    """`line` moved within its category, so that equal values of several lines do not hide each other."""
    shift = 0.7 * ((index + 0.5) / num_lines - 0.5)
    return replace(
        line,
        dots=[dot._replace(x=dot.x + shift) for dot in line.dots],
        path=[dot._replace(x=dot.x + shift) for dot in line.path],
    )


def _describe_means(axis: Axis) -> str:
    mark = "a bar" if axis.scale == "category" else "a line"
    return f"One dot per trial, {mark} at the mean over seeds with its 95 % interval, where there is one."


def _group_by_other_axes(facts: StudyFacts, settings: list[Setting], axis: Axis) -> dict[str, list[Setting]]:
    """Settings that differ on the main axis only, by the label of their other values."""
    records = collect_records(settings)
    keys = [key for key in list_varied_keys(facts, records) if key != axis.key]
    families: dict[str, list[Setting]] = {}
    for setting in settings:
        others = {key: value for key, value in setting.params.items() if key in keys}
        families.setdefault(label_setting(facts, others, keys) if others else "", []).append(setting)
    return families


def _build_dots(settings: list[Setting], axis: Axis, curve: _Curve) -> list[Dot]:
    dots = []
    for setting in settings:
        for record in setting.finished:
            own = read_number(record, curve.name)
            value = read_stand_in(record, curve.name) if own is None else own
            if value is not None:
                shown = value / curve.divisor
                text = f"trial {record.number}, {setting.label}, seed {record.seed}: {format_number(shown)}"
                text += f", {WHOLE_TRAINING}" if own is None else ""
                dots.append(Dot(axis.find_position(setting.params), shown, text))
    return dots


def _build_mean_path(settings: list[Setting], axis: Axis, curve: _Curve, estimates: dict[int, Estimate]) -> list[Dot]:
    path = []
    for setting in settings:
        spread, estimate = setting.spreads.get(curve.name), estimates.get(setting.records[0].number)
        value = (
            stand_in_mean(setting, curve.name)
            if spread is None
            else spread.mean
            if estimate is None
            else estimate.value
        )
        if value is not None:
            mean = value / curve.divisor
            num_seeds = len(setting.finished) if spread is None else spread.num_seeds
            ends = (None, None) if estimate is None else (estimate.low, estimate.high)
            low, high = (None if end is None else end / curve.divisor for end in ends)
            known = "" if low is None or high is None else f" [{format_number(low)}, {format_number(high)}]"
            text = f"mean of {num_seeds}, {setting.label}: {format_number(mean)}{known}"
            path.append(Dot(axis.find_position(setting.params), mean, text, low, high))
    return sorted(path, key=lambda dot: dot[:3])


def _add_published(chart: Chart, curves: list[_Curve], published: Sequence[PublishedValue]) -> Chart:
    """`chart` with the sources' own values as one more line of dots, where it has a place for them."""
    axis = chart.axis
    names = {curve.name: curve.label for curve in curves}
    dots = [
        Dot(axis.find_position(one.params), one.value, f"{one.source}, {names[one.metric]}: {format_number(one.value)}")
        for one in published
        if axis.key in one.params and axis.has(one.params) and one.metric in names
    ]
    line = Line("published", len(PALETTE) - 1, 0, dots, [], diamond=True)
    return replace(chart, lines=[*chart.lines, line]) if dots else chart


def _add_bases(chart: Chart, bases: Sequence[BaseScore]) -> Chart:
    """`chart` with what the base itself has of its metrics, equal values once; one far off is in the note only."""
    several = len(chart.metrics) > 1
    ys = [dot.y for line in chart.lines for dot in line.dots]
    room = math.inf if chart.unit_range else _MAX_STRETCH * (max(ys) - min(ys))
    texts: dict[tuple[float, int], str] = {}
    for color, metric in enumerate(chart.metrics):
        for base in bases:
            value = find_base_value(base, metric)
            if value is not None:
                about = f", {label_metric(metric)}" if several else ""
                shade = color if several else len(PALETTE) - 1
                texts.setdefault((value, shade), f"base model without adapter{about}: {format_number(value)}")
    levels = [Level(y, color, text) for (y, color), text in texts.items()]
    near = tuple(one for one in levels if min(ys) - room <= one.y <= max(ys) + room)
    far = "".join(f" Outside of the drawing: {one.text}." for one in levels if one not in near)
    return replace(chart, levels=near, note=chart.note + far)
