"""Losses over optimizer steps, one line per trial, coloured by the first varied key."""

from typing import Any, Final, NamedTuple

from sweeplab.records import HeldoutPoint, Status, StudyFacts, TrainPoint, TrialRecord
from sweeplab.report.axes import Axis, main_axis, round_ticks
from sweeplab.report.charts import PALETTE, Chart, Dot, Line
from sweeplab.report.settings import Setting, axis_values
from sweeplab.report.tables import all_records
from sweeplab.report.wording import DASH, number, value_text

NUM_SHADES: Final = 9  # of the ramp from a low to a high value
MAX_LISTED: Final = 8  # values in a legend
MAX_CURVES: Final = 200  # more hide each other


class Shade(NamedTuple):
    color: int
    dash: int
    listed: bool


def loss_charts(facts: StudyFacts, settings: list[Setting]) -> list[Chart]:
    """Held-out and training loss; without one where no trial has two points."""
    drawn = [
        curves_chart(facts, settings, "loss-curves", "held-out loss"),
        curves_chart(facts, settings, "training-curves", "training loss"),
    ]
    return [chart for chart in drawn if chart is not None]


def points_of(record: TrialRecord, name: str) -> list[HeldoutPoint] | list[TrainPoint]:
    return record.heldout_losses if name == "held-out loss" else record.losses


def curves_chart(facts: StudyFacts, settings: list[Setting], ident: str, name: str) -> Chart | None:
    """Every trial on its own, failed ones too, at most `MAX_CURVES` of them, which the note then says."""
    records = all_records(settings)
    labels = {one.number: setting.label for setting in settings for one in setting.records}
    axis = main_axis(facts, records)
    shades = shades_of(axis, facts, records)
    whole = [record for record in records if len(points_of(record, name)) > 1]
    every = -(-len(whole) // MAX_CURVES)
    drawn = [(axis_text(axis, record), record) for record in whole[::every]] if whole else []
    order = list(shades)
    lines, listed = [], set()
    for text, record in sorted(drawn, key=lambda pair: order.index(pair[0])):
        shade = shades[text]
        first = text not in listed and shade.listed and axis.key is not None
        listed.add(text)
        path = curve_path(record, labels[record.number], name)
        lines.append(Line(f"{axis.name}={text}", shade.color, shade.dash, [], path, first))
    if not lines:
        return None
    losses = [dot.y for line in lines for dot in line.path]
    log_y = min(losses) > 0 and max(losses) > 50 * min(losses)
    y_title = f"{name} (nats/target{', log scale' if log_y else ''})"
    steps = Axis(None, "optimizer step", "linear", round_ticks(0, max(dot.x for line in lines for dot in line.path)))
    sample = f" {len(lines)} of {len(whole)} trials are drawn, one in {every} by their numbers." if every > 1 else ""
    by = "" if axis.key is None else f", coloured by {axis.name}"
    note = f"One line per trial{by}; trials that did not finish are drawn as far as they came.{sample}"
    title = f"{name[0].upper()}{name[1:]} over training"
    ramped = axis.scale != "category"
    return Chart(ident, title, note, y_title, steps, lines, False, log_y, thin=True, ramped=ramped)


def axis_text(axis: Axis, record: TrialRecord) -> str:
    return value_text(record.params[axis.key]) if axis.key in record.params else DASH


def shades_of(axis: Axis, facts: StudyFacts, records: list[TrialRecord]) -> dict[str, Shade]:
    """A colour for every value of the axis: ordered for numbers, of the palette for names; a few go in the legend."""
    values: list[Any] = [] if axis.key is None else axis_values(facts, records, axis.key)
    texts = [value_text(value) for value in values]
    every = -(-len(texts) // MAX_LISTED)
    if axis.scale == "category":
        size = len(PALETTE)
        return {text: Shade(place % size, place // size, place < 2 * size) for place, text in enumerate([*texts, DASH])}
    return {text: Shade(ramp_place(place, len(texts)), 0, place % every == 0) for place, text in enumerate(texts)}


def ramp_place(place: int, size: int) -> int:
    """Of `NUM_SHADES`, spread evenly over `size` places in order."""
    return round((NUM_SHADES - 1) * place / (size - 1)) if size > 1 else NUM_SHADES // 2


def curve_path(record: TrialRecord, label: str, name: str) -> list[Dot]:
    ended = "" if record.status is Status.FINISHED else f" ({record.status.value.replace('_', ' ')})"
    who = f"trial {record.number}, {label}, seed {record.seed}{ended}"
    points = points_of(record, name)
    return [Dot(point.step, point.loss, f"{who}, step {point.step}: {number(point.loss)}") for point in points]
