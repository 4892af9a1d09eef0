"""Two varied numbers against each other: a cell for each pair, colored by the objective's mean, with its interval."""

from dataclasses import dataclass
from math import log
from typing import Any, Final, NamedTuple

from sweeplab.records.record import StudyFacts
from sweeplab.records.stored import is_number
from sweeplab.report.charts.drawing import LETTER, PAGE_WIDTH
from sweeplab.report.colors import blend_color
from sweeplab.report.evidence.estimates import Evidence
from sweeplab.report.evidence.formatting import (
    format_estimate,
    format_interval,
    format_metric,
    format_value,
    label_metric,
    shorten_key,
    unit_of_metric,
)
from sweeplab.report.evidence.settings import collect_records, list_axis_values, list_varied_keys
from sweeplab.report.templating import render_svg

_MOST_VALUES: Final = 8  # an axis; more cells hold no number
_LEAST_SHARE: Final = 0.6  # of the cells that have a value: less is no grid
_ROW: Final = 46  # pixels
_TOP: Final = 8
_GAP: Final = 2
_BRIGHT: Final = 0.5  # of the light that a cell gives, above which its text is dark


class GridCell(NamedTuple):
    """A pair of values with the objective's mean."""

    column: int
    row: int
    share: float  # 0: the worst mean, 1: the best
    mean: str
    interval: str
    text: str  # what pointing at it says
    is_best: bool
    is_tied: bool  # cannot be told from the best


@dataclass(frozen=True)
class GridChart:
    title: str
    note: str
    x_name: str
    y_name: str
    columns: list[str]
    rows: list[str]
    cells: list[GridCell]


def build_grid_chart(facts: StudyFacts, evidence: Evidence) -> GridChart | None:
    """The axis with more values to the right; None where not just two numbers were varied, as a grid."""
    records = collect_records(evidence.settings)
    values = {key: list_axis_values(facts, records, key) for key in list_varied_keys(facts, records)}
    varied = {key: found for key, found in values.items() if len(found) > 1}
    if len(varied) != 2 or not all(is_number(one) for found in varied.values() for one in found):
        return None
    y_key, x_key = sorted(varied, key=lambda key: len(varied[key]))
    if len(varied[x_key]) < 3 or len(varied[x_key]) > _MOST_VALUES or len(varied[y_key]) > _MOST_VALUES:
        return None
    cells = _list_cells(evidence, x_key, y_key, varied)
    if len(cells) < _LEAST_SHARE * len(varied[x_key]) * len(varied[y_key]):
        return None
    keys = list(varied)
    label = label_metric(evidence.metric)
    unit = unit_of_metric(evidence.metric)
    better = "higher" if evidence.sign > 0 else "lower"
    note = (
        f"Means{f' in {unit}' if unit else ''}, {better} is better: the brighter the better. The frame is around the "
        "best, broken ones around what cannot be told from it. Intervals hold for all settings at once."
    )
    names = shorten_key(x_key, keys), shorten_key(y_key, keys)
    title = f"{label[0].upper()}{label[1:]} by {names[1]} and {names[0]}"
    texts = {key: [format_value(value) for value in varied[key]] for key in (x_key, y_key)}
    return GridChart(title, note, *names, texts[x_key], texts[y_key][::-1], cells)


def _list_cells(evidence: Evidence, x_key: str, y_key: str, varied: dict[str, list[Any]]) -> list[GridCell]:
    """Larger values upwards and to the right."""
    compared = evidence.compared()
    tied = set() if compared is None or evidence.table.num_seeds == 1 else set(compared.tied)
    means = [one.value for one in evidence.estimates]
    is_log = evidence.table.is_log and min(means) > 0
    heights = [evidence.sign * (log(mean) if is_log else mean) for mean in means]
    low, spread = min(heights), max(heights) - min(heights)
    cells = []
    for index, (setting, one) in enumerate(zip(evidence.settings, evidence.estimates, strict=True)):
        if x_key not in setting.params or y_key not in setting.params:
            continue
        is_best = setting is evidence.best
        cells.append(
            GridCell(
                varied[x_key].index(setting.params[x_key]),
                len(varied[y_key]) - 1 - varied[y_key].index(setting.params[y_key]),
                (heights[index] - low) / spread if spread else 1.0,
                format_metric(evidence.metric, one.value).partition(" ")[0],
                format_interval(evidence.metric, one),
                f"{setting.label}: {format_estimate(evidence.metric, one)}",
                is_best,
                index in tied and not is_best,
            )
        )
    return cells


def draw_grid(chart: GridChart) -> str:
    """The chart as SVG, for the page."""
    left = round(LETTER * max(map(len, [*chart.rows, chart.y_name])) + 14, 1)
    width = (PAGE_WIDTH - left - 8) / len(chart.columns)
    bottom = _TOP + 18 + _ROW * len(chart.rows)
    has_room = max((len(cell.interval) for cell in chart.cells), default=0) * LETTER * 0.85 < width - 8
    cells = [
        {
            "x": round(left + cell.column * width + _GAP / 2, 1),
            "y": _TOP + 18 + cell.row * _ROW + _GAP / 2,
            "color": (color := blend_color(cell.share)),
            "ink": "on-light" if _measure_light(color) > _BRIGHT else "on-dark",
            "cell": cell,
        }
        for cell in chart.cells
    ]
    values = {
        "title": chart.title,
        "width": PAGE_WIDTH,
        "height": bottom + 42,
        "left": left,
        "bottom": bottom,
        "cell_width": round(width - _GAP, 1),
        "cell_height": _ROW - _GAP,
        "cells": cells,
        "has_room": has_room,
        "columns": [(round(left + (place + 0.5) * width, 1), name) for place, name in enumerate(chart.columns)],
        "rows": [(_TOP + 18 + (place + 0.5) * _ROW + 4.5, name) for place, name in enumerate(chart.rows)],
        "x_name": chart.x_name,
        "y_name": chart.y_name,
        "x_middle": round((left + PAGE_WIDTH) / 2, 1),
    }
    return render_svg("grid.svg.j2", values)


def _measure_light(color: str) -> float:
    """From 0, black, to 1, white: how light `#rrggbb` looks."""
    red, green, blue = (int(color[at : at + 2], 16) / 255 for at in (1, 3, 5))
    return 0.299 * red + 0.587 * green + 0.114 * blue
