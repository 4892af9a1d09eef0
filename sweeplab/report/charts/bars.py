"""Horizontal bars in groups: in the page with the names on the left, or as a picture of its own with them above."""

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from sweeplab.report.charts.drawing import HEADROOM, LETTER, PAGE_WIDTH, RIGHT, TOP, WIDTH, Mark, PixelScale
from sweeplab.report.charts.ticks import list_round_ticks
from sweeplab.report.templating import render_svg

_THICKNESS: Final = 11  # of a bar, in pixels
_GAP: Final = 3 * _THICKNESS  # from one group to the next
_NAME_LETTER: Final = 7.5  # width of a letter of a name
_NAME_HEIGHT: Final = 20  # of a name above its bars
_VALUE_LETTERS: Final = 10  # room for the values beside the longest bar


class Bar(NamedTuple):
    value: float
    color: int  # of PALETTE
    text: str  # shown when pointed at; beside the bar in a picture of its own
    low: float | None = None  # `value` is the upper end of a range: the bar is pale from here on


class BarGroup(NamedTuple):
    name: str
    bars: list[Bar]


@dataclass(frozen=True)
class BarChart:
    """Values from 0 on; `x_title` says what they are, with the unit."""

    title: str
    x_title: str
    groups: list[BarGroup]


def draw_bars(chart: BarChart, standalone: bool = True) -> str:
    """The chart as SVG. `standalone`: with title and names above the bars, on white."""
    return render_svg("bars.svg.j2", _lay_out(chart, standalone))


def _lay_out(chart: BarChart, standalone: bool) -> dict[str, Any]:
    """Everything that `bars.svg.j2` draws; pixels, y downwards."""
    width = WIDTH if standalone else PAGE_WIDTH
    left: float = RIGHT if standalone else RIGHT + _NAME_LETTER * max(len(one.name) for one in chart.groups)
    right = width - RIGHT
    longest = max(bar.value for one in chart.groups for bar in one.bars)
    room = LETTER * _VALUE_LETTERS if standalone else 0
    scale = PixelScale(0.0, longest, left, right - room)
    above = TOP if standalone else 6
    gap = _GAP + (_NAME_HEIGHT if standalone else 0)
    bars = []
    for index, group in enumerate(chart.groups):
        top = above + gap * index
        for order, bar in enumerate(group.bars):
            bars.append(
                {
                    "name": "" if order else group.name,
                    "y": top + _THICKNESS * order + (_NAME_HEIGHT if standalone else 0),
                    "width": round(scale(bar.value) - left, 2),
                    "color": bar.color,
                    "sure": None if bar.low is None else round(scale(bar.low) - left, 2),
                    "text": bar.text,
                }
            )
    bottom = above + gap * len(chart.groups)
    return {
        "standalone": standalone,
        "title": chart.title,
        "subtitle": "",
        "x_title": chart.x_title,
        "width": width,
        "height": bottom + 50,
        "left": left,
        "right": right,
        "top": above - HEADROOM if standalone else 0,
        "bottom": bottom,
        "bar_height": _THICKNESS,
        "bars": bars,
        "ticks": [Mark(scale(tick.position), tick.text) for tick in list_round_ticks(0.0, longest)],
    }
