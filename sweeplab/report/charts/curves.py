"""Losses over optimizer steps, one line per trial, and scores, one per setting; coloured by the first varied key."""

import statistics
from typing import Any, Final, NamedTuple

from sweeplab.records.metrics import is_share
from sweeplab.records.record import HeldoutPoint, RungScores, Status, StudyFacts, TrainPoint, TrialRecord
from sweeplab.report.charts.axes import Axis, choose_axis
from sweeplab.report.charts.chart import Chart, Dot, Line
from sweeplab.report.charts.ticks import list_round_ticks
from sweeplab.report.colors import PALETTE
from sweeplab.report.evidence.formatting import DASH, count_noun, format_number, format_value, label_score, name_score
from sweeplab.report.evidence.settings import (
    Setting,
    collect_records,
    format_varied,
    is_usable,
    list_axis_values,
    pick_headline_scores,
)

NUM_SHADES: Final = 9  # of the ramp from a low to a high value
_MAX_LISTED: Final = 8  # values in a legend
_MAX_CURVES: Final = 200  # more hide each other


class _Shade(NamedTuple):
    color: int
    dash: int
    listed: bool


def build_curve_charts(facts: StudyFacts, settings: list[Setting]) -> list[Chart]:
    """Held-out and training loss, without one where no trial has two points; scores at rungs where there are any."""
    drawn = [
        _build_loss_chart(facts, settings, "loss-curves", "held-out loss"),
        _build_loss_chart(facts, settings, "training-curves", "training loss"),
    ]
    rungs = [rung for record in collect_records(settings) for rung in record.rung_scores]
    scores = [
        _build_score_chart(facts, settings, *pair, index)
        for index, pair in enumerate(pick_headline_scores(rungs, facts.objectives))
    ]
    return [chart for chart in [*drawn, *scores] if chart is not None]


def _build_score_chart(facts: StudyFacts, settings: list[Setting], task: str, metric: str, index: int) -> Chart | None:
    """A score against the step, one line per setting, at most `_MAX_CURVES` of them, which the note then says."""
    records = collect_records(settings)
    axis = choose_axis(facts, records)
    shades = _choose_shades(axis, facts, records)
    paths = [(setting, _mean_scores(setting, task, metric)) for setting in settings]
    whole = [(setting, path) for setting, path in paths if path]
    every = -(-len(whole) // _MAX_CURVES)
    few = len(whole) <= _MAX_LISTED  # each setting is named
    lines: list[Line] = []
    listed = set()
    for setting, path in whole[::every] if whole else []:
        shade = shades[_axis_text(axis, setting.records[0])]
        text = setting.label if few else f"{axis.name}={_format_axis_value(facts, axis, setting.records[0])}"
        is_new = text not in listed and (few or shade.listed)
        listed.add(text)
        dash = sum(line.color == shade.color for line in lines) if few else shade.dash
        lines.append(Line(text, shade.color, dash, [], path, is_new))
    if not lines:
        return None
    sample = f" {len(lines)} of {len(whole)} settings are drawn, one in {every}." if every > 1 else ""
    note = (
        "One line per setting, the mean over its trials as far as all of them came; a finished trial's last point is "
        f"its score.{sample}"
    )
    steps = Axis(
        None, "optimizer step", "linear", list_round_ticks(0, max(dot.x for line in lines for dot in line.path))
    )
    fits = is_share(f"scores.{task}.{metric}") and all(0 <= dot.y <= 1 for line in lines for dot in line.path)
    title = f"{label_score(task, metric)} over training"
    ramped = axis.scale != "category"
    return Chart(f"rungs-{index}", title, note, name_score(metric), steps, lines, fits, thin=True, ramped=ramped)


def _mean_scores(setting: Setting, task: str, metric: str) -> list[Dot]:
    """By step, of the trials with scores at rungs; steps that not all of them came to are left out."""
    curves = [curve for record in setting.records if (curve := _read_score_curve(record, task, metric))]
    steps = sorted(set.intersection(*map(set, curves))) if curves else []
    who = f"{setting.label}, mean of {count_noun(len(curves), 'trial')}"
    means = {step: statistics.fmean(curve[step] for curve in curves) for step in steps}
    return [Dot(step, mean, f"{who}, step {step}: {format_number(mean)}") for step, mean in means.items()]


def _read_score_curve(record: TrialRecord, task: str, metric: str) -> dict[int, float]:
    """Values by step, the end's too; empty for a trial without rungs."""
    rungs = [*record.rung_scores]
    end = record.step if record.kept_step is None else record.kept_step
    if rungs and end is not None and record.scores:
        rungs.append(RungScores(end, record.scores))
    scores = {rung.step: rung.scores[task][metric].value for rung in rungs if metric in rung.scores.get(task, {})}
    return {step: value for step, value in scores.items() if is_usable(value)}


def _read_points(record: TrialRecord, name: str) -> list[HeldoutPoint] | list[TrainPoint]:
    return record.heldout_losses if name == "held-out loss" else record.losses


def _build_loss_chart(facts: StudyFacts, settings: list[Setting], ident: str, name: str) -> Chart | None:
    """Every trial on its own, failed ones too, at most `_MAX_CURVES` of them, which the note then says."""
    records = collect_records(settings)
    labels = {one.number: setting.label for setting in settings for one in setting.records}
    axis = choose_axis(facts, records)
    shades = _choose_shades(axis, facts, records)
    whole = [record for record in records if sum(is_usable(point.loss) for point in _read_points(record, name)) > 1]
    every = -(-len(whole) // _MAX_CURVES)
    drawn = [(_axis_text(axis, record), record) for record in whole[::every]] if whole else []
    order = list(shades)
    lines, listed = [], set()
    for text, record in sorted(drawn, key=lambda pair: order.index(pair[0])):
        shade = shades[text]
        first = text not in listed and shade.listed and axis.key is not None
        listed.add(text)
        path = _build_path(record, labels[record.number], name)
        lines.append(
            Line(f"{axis.name}={_format_axis_value(facts, axis, record)}", shade.color, shade.dash, [], path, first)
        )
    if not lines:
        return None
    losses = [dot.y for line in lines for dot in line.path]
    log_y = min(losses) > 0 and max(losses) > 50 * min(losses)
    y_title = f"{name} (nats/target{', log scale' if log_y else ''})"
    steps = Axis(
        None, "optimizer step", "linear", list_round_ticks(0, max(dot.x for line in lines for dot in line.path))
    )
    sample = f" {len(lines)} of {len(whole)} trials are drawn, one in {every} by their numbers." if every > 1 else ""
    by = "" if axis.key is None else f", coloured by {axis.name}"
    note = f"One line per trial{by}; trials that did not finish are drawn as far as they came.{sample}"
    title = f"{name[0].upper()}{name[1:]} over training"
    ramped = axis.scale != "category"
    return Chart(ident, title, note, y_title, steps, lines, False, log_y, thin=True, ramped=ramped)


def _format_axis_value(facts: StudyFacts, axis: Axis, record: TrialRecord) -> str:
    return format_varied(facts, axis.key, record.params[axis.key]) if axis.key in record.params else DASH


def _axis_text(axis: Axis, record: TrialRecord) -> str:
    return format_value(record.params[axis.key]) if axis.key in record.params else DASH


def _choose_shades(axis: Axis, facts: StudyFacts, records: list[TrialRecord]) -> dict[str, _Shade]:
    """A colour for every value of the axis: ordered for numbers, of the palette for names; a few go in the legend."""
    values: list[Any] = [] if axis.key is None else list_axis_values(facts, records, axis.key)
    texts = [format_value(value) for value in values]
    every = -(-len(texts) // _MAX_LISTED)
    if axis.scale == "category":
        size = len(PALETTE)
        return {
            text: _Shade(index % size, index // size, index < 2 * size) for index, text in enumerate([*texts, DASH])
        }
    return {text: _Shade(_pick_shade(index, len(texts)), 0, index % every == 0) for index, text in enumerate(texts)}


def _pick_shade(index: int, size: int) -> int:
    """Of `NUM_SHADES`, spread evenly over `size` places in order."""
    return round((NUM_SHADES - 1) * index / (size - 1)) if size > 1 else NUM_SHADES // 2


def _build_path(record: TrialRecord, label: str, name: str) -> list[Dot]:
    ended = "" if record.status is Status.FINISHED else f" ({record.status.value.replace('_', ' ')})"
    who = f"trial {record.number}, {label}, seed {record.seed}{ended}"
    points = [point for point in _read_points(record, name) if is_usable(point.loss)]
    return [Dot(point.step, point.loss, f"{who}, step {point.step}: {format_number(point.loss)}") for point in points]
