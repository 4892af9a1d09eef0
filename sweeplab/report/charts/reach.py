"""How far a scale reaches: all values, and their intervals, unless these are absurdly wide.

An interval that is many times as wide as all differences is drawn whole: so one sees that nothing can be told apart.
With two seeds it may be a billion times as wide, and a scale that held it would have no numbers that one can read.
"""

import itertools
from collections.abc import Iterable, Sequence
from typing import Final

from sweeplab.report.charts.chart import Chart, Dot

_MOST: Final = 20.0  # times the range of the values, beyond either of its ends
CUT_NOTE: Final = " An interval without a bar at its end goes on beyond the figure."


def find_reach(values: Sequence[float], ends: Iterable[float | None]) -> tuple[float, float]:
    """The range of a scale for `values` whose intervals have `ends`; all ends where the values are equal."""
    low, high = min(values), max(values)
    known = [*values, *(end for end in ends if end is not None)]
    room = _MOST * (high - low)
    if room == 0:
        return min(known), max(known)
    return max(min(known), low - room), min(max(known), high + room)


def list_dots(chart: Chart) -> list[Dot]:
    return [dot for line in chart.lines for dot in (*line.dots, *line.path)]


def find_y_reach(chart: Chart) -> tuple[float, float]:
    """Of a linear scale, before its margins; a chart of shares has its own."""
    dots = list_dots(chart)
    ends = itertools.chain.from_iterable((dot.low, dot.high) for dot in dots)
    return find_reach([*(dot.y for dot in dots), *(one.y for one in chart.levels)], ends)


def find_x_reach(chart: Chart) -> tuple[float, float]:
    """Of a scale of numbers, with the axis' own ticks."""
    dots = list_dots(chart)
    ends = itertools.chain.from_iterable((dot.left, dot.right) for dot in dots)
    return find_reach([*(tick.position for tick in chart.axis.ticks), *(dot.x for dot in dots)], ends)


def say_cut(chart: Chart) -> str:
    """The sentence where some interval is not drawn whole; else nothing."""
    dots = list_dots(chart)
    if not dots or chart.log_y or chart.unit_range:
        return ""
    low, high = find_y_reach(chart)
    is_cut = any(_is_beyond(low, high, dot.low, dot.high) for dot in dots)
    if chart.axis.scale == "linear":
        left, right = find_x_reach(chart)
        is_cut = is_cut or any(_is_beyond(left, right, dot.left, dot.right) for dot in dots)
    return CUT_NOTE if is_cut else ""


def _is_beyond(low: float, high: float, *ends: float | None) -> bool:
    return any(end is not None and not low <= end <= high for end in ends)
