"""Parallel coordinates: every trial as a line through its values, its quality and its costs."""

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from sweeplab.records.metrics import METRICS
from sweeplab.records.record import StudyFacts, TrialRecord
from sweeplab.records.stored import is_number
from sweeplab.report.charts.curves import NUM_SHADES
from sweeplab.report.charts.drawing import Mark, PixelScale, shorten, shorten_ticks
from sweeplab.report.charts.ticks import Scale, Tick, choose_scale, list_number_ticks
from sweeplab.report.evidence.costs import choose_memory_metric, choose_time_metric
from sweeplab.report.evidence.formatting import (
    DASH,
    format_metric,
    format_number,
    format_value,
    label_metric,
    shorten_key,
)
from sweeplab.report.evidence.settings import (
    Setting,
    collect_records,
    first_objective,
    list_axis_values,
    list_varied_keys,
    read_number,
    read_numbers,
)
from sweeplab.report.templating import render_svg

_WIDTH: Final = 1000  # more where the rails would be nearer than `_MIN_GAP`
_HEIGHT: Final = 356
_MARGIN: Final = (70, 90)  # left, right
TOP, BOTTOM = 68, 24
_MIN_GAP: Final = 116  # pixels between two rails, for names of 13 letters
_BOLD_LETTER: Final = 8.3  # width of a letter of a name, in pixels
_NAME_LINES: Final = 3
_FEWEST_KEYS: Final = 3
_FEW_VALUES: Final = 2
_MAX_KEYS: Final = 7  # more axes than that leave no room for their names
_MAX_TICKS: Final = 8
_MAX_NAME: Final = 150  # pixels of a rail's name, so that the last one ends within the drawing
_THIN_FROM: Final = 60  # lines
_FAN: Final = 16.0  # pixels that lines which meet in one value are spread over, the best at the top


@dataclass(frozen=True)
class Rail:
    """One vertical axis: texts that stand at even places, or numbers."""

    name: str
    ticks: list[Tick]
    scale: Scale
    low: float
    high: float
    few: bool = False  # values, in which many lines meet

    def pixels(self) -> PixelScale:
        return PixelScale(self.low, self.high, _HEIGHT - BOTTOM, TOP, self.scale == "log")


class Thread(NamedTuple):
    """One trial; `values` by rail."""

    values: list[float]
    text: str
    goodness: float


@dataclass(frozen=True)
class Parallel:
    ident: str
    title: str
    note: str
    rails: list[Rail]
    threads: list[Thread]  # the best last, on top of the others


def build_parallel_chart(facts: StudyFacts, settings: list[Setting]) -> Parallel | None:
    """None for a study in which other figures say as much: fewer than three varied keys, or none with numbers enough to
    be more than on and off; or without a finished trial that has the objective."""
    records = collect_records(settings)
    labels = {one.number: setting.label for setting in settings for one in setting.records}
    metric, direction = first_objective(facts)
    varied = [key for key in list_varied_keys(facts, records) if len(list_axis_values(facts, records, key)) > 1]
    drawn = [one for setting in settings for one in setting.finished if read_number(one, metric) is not None]
    costs = [name for name in (choose_memory_metric(records), choose_time_metric(records)) if name is not None]
    costs = [name for name in costs if all(read_number(one, name) is not None for one in drawn)]
    values = [list_axis_values(facts, records, key) for key in varied]
    has_range = any(len(one) > _FEW_VALUES and all(map(is_number, one)) for one in values)
    if len(varied) < _FEWEST_KEYS or not has_range or not drawn:
        return None
    keys = varied[:_MAX_KEYS]
    rails = [_build_key_rail(facts, records, key, shorten_key(key, varied)) for key in keys]
    rails += [_build_metric_rail(drawn, name) for name in (metric, *costs)]
    sign = -1 if direction == "minimize" else 1
    threads = []
    for record in drawn:
        own = read_numbers(record)
        indices = [_find_position(rail, record, key) for rail, key in zip(rails, keys, strict=False)]
        text = f"trial {record.number}, {labels[record.number]}, seed {record.seed}: {format_number(own[metric])}"
        threads.append(Thread([*indices, *(own[name] for name in (metric, *costs))], text, sign * own[metric]))
    better = "lower" if sign < 0 else "higher"
    left_out = "" if len(varied) == len(keys) else f" The first {len(keys)} of {len(varied)} varied keys are shown."
    note = (
        f"One line per finished trial, seeds apart; coloured by {label_metric(metric)} ({better} is better), the best "
        f"on top.{left_out}"
    )
    threads.sort(key=lambda thread: thread.goodness)
    return Parallel("parallel", "All trials at a glance", note, rails, threads)


def _build_key_rail(facts: StudyFacts, records: list[TrialRecord], key: str, name: str) -> Rail:
    values = list_axis_values(facts, records, key)
    absent = any(key not in record.params for record in records)
    scale: Scale = "category" if absent else choose_scale(values, bool(facts.space.get(key, {}).get("log")))
    if scale == "category":
        texts = [format_value(value) for value in values] + ([DASH] if absent else [])
        return Rail(
            name, [Tick(float(index), text) for index, text in enumerate(texts)], scale, 0, len(texts) - 1, True
        )
    return Rail(
        name, list_number_ticks(values, scale, _MAX_TICKS), scale, min(values), max(values), len(values) <= _MAX_TICKS
    )


def _build_metric_rail(records: list[TrialRecord], name: str) -> Rail:
    """Ends and the middle, each with its unit."""
    values = [value for record in records if (value := read_number(record, name)) is not None]
    low, high = min(values), max(values)
    indices = dict.fromkeys((low, (low + high) / 2, high))
    label = METRICS[name].label if name in METRICS else label_metric(name)
    return Rail(
        label, [Tick(index, format_metric(name, index).split(" nats")[0]) for index in indices], "linear", low, high
    )


def _find_position(rail: Rail, record: TrialRecord, key: str) -> float:
    if rail.scale != "category":
        return float(record.params[key])
    text = format_value(record.params[key]) if key in record.params else DASH
    return next(tick.position for tick in rail.ticks if tick.text == text)


def draw_parallel(chart: Parallel) -> str:
    """The chart as SVG, for the page."""
    return render_svg("parallel.svg.j2", lay_out_parallel(chart))


def lay_out_parallel(chart: Parallel) -> dict[str, Any]:
    """Everything that `parallel.svg.j2` draws; pixels, y downwards."""
    left, right = _MARGIN
    gap = max(_MIN_GAP, (_WIDTH - left - right) / (len(chart.rails) - 1))
    xs = [round(left + gap * index, 1) for index in range(len(chart.rails))]
    scales = [rail.pixels() for rail in chart.rails]
    low, high = chart.threads[0].goodness, chart.threads[-1].goodness
    lines: list[dict[str, Any]] = []
    fans = [_FAN if rail.few else 0.0 for rail in chart.rails]
    for order, thread in enumerate(chart.threads):
        shade = NUM_SHADES - 1 if high == low else round((NUM_SHADES - 1) * (thread.goodness - low) / (high - low))
        lift = order / len(chart.threads) - 0.5
        points = [
            (x, round(scale(value) - fan * lift, 1))
            for x, scale, fan, value in zip(xs, scales, fans, thread.values, strict=True)
        ]
        lines.append({"points": points, "color": shade, "text": thread.text})
    rails = [
        {
            "x": x,
            "names": list(_wrap_name(rail.name, int((min(gap, _MAX_NAME) - 6) / _BOLD_LETTER))),
            "ticks": [
                Mark(scale(tick.position), text)
                for tick, text in zip(rail.ticks, shorten_ticks([tick.text for tick in rail.ticks]), strict=True)
            ],
        }
        for x, rail, scale in zip(xs, chart.rails, scales, strict=True)
    ]
    shape = {"width": round(xs[-1] + right), "height": _HEIGHT, "top": TOP, "bottom": _HEIGHT - BOTTOM}
    return shape | {"title": chart.title, "rails": rails, "lines": lines, "thin": len(lines) > _THIN_FROM}


def _wrap_name(text: str, width: int) -> Iterator[str]:
    """At most `_NAME_LINES` lines, broken at spaces and after underscores; each is cut where it is too long."""
    lines = textwrap.wrap(text.replace("_", "_ "), width, break_long_words=False, break_on_hyphens=False)
    last = " ".join(lines[_NAME_LINES - 1 :])
    for line in filter(None, [*lines[: _NAME_LINES - 1], last]):
        yield shorten(line.replace("_ ", "_"), width)
