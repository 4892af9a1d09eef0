"""One chart as a static SVG: places in pixels, which the template draws on white, readable on any page."""

import math
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from sweeplab.report.axes import Tick, round_ticks
from sweeplab.report.charts import PALETTE, Chart, Dot

WIDTH: Final = 760
PLOT_HEIGHT: Final = 300
LEFT, RIGHT, TOP, BOTTOM = 68, 24, 44, 56
INSET: Final = 20  # from the frame to the first and the last value
LEGEND_ROW: Final = 22
LETTER: Final = 7.0  # width of a letter at 13 px, on average
LONGEST_TICK: Final = 24  # letters
DASHES: Final = ("none", "7 4", "2 3", "7 3 2 3", "12 4", "12 3 2 3")


class Mark(NamedTuple):
    """A tick or a legend entry in pixels."""

    at: float
    text: str


class Entry(NamedTuple):
    x: float
    y: float
    text: str
    color: str
    dash: str
    hollow: bool


@dataclass(frozen=True)
class Scale:
    """Values to pixels, both ends included; `log` needs values above 0."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, at = (math.log10(one) if self.log else one for one in (self.low, self.high, value))
        part = (at - low) / (high - low) if high > low else 0.5
        return round(self.start + part * (self.end - self.start), 2)


def drawing(chart: Chart) -> dict[str, Any]:
    """Everything that `score.svg.j2` draws of a chart with an axis; pixels, y downwards."""
    assert chart.axis is not None
    entries = legend(chart)
    top = TOP + (LEGEND_ROW * (1 + max(entry.y for entry in entries)) if entries else 0)
    bottom = top + PLOT_HEIGHT
    x_scale, y_scale, y_ticks = scales(chart, top, bottom)
    ticks = [Mark(x_scale(tick.place), shorten(tick.text)) for tick in chart.axis.ticks]
    slot = (WIDTH - LEFT - RIGHT) / max(len(ticks), 1)
    widest = max(len(tick.text) for tick in ticks) * LETTER
    turned = widest > slot
    below = BOTTOM + (widest * 0.5 if turned else 0)
    return {
        "width": WIDTH,
        "height": round(bottom + below),
        "left": LEFT,
        "right": WIDTH - RIGHT,
        "top": top,
        "bottom": bottom,
        "middle": (top + bottom) / 2,
        "title": f"{chart.title} against {chart.axis.name}",
        "x_title": chart.axis.title,
        "y_title": chart.y_title,
        "x_ticks": ticks,
        "turned": turned,
        "y_ticks": [Mark(y_scale(tick.place), tick.text) for tick in y_ticks],
        "legend": [entry._replace(y=TOP + LEGEND_ROW * (entry.y + 0.3)) for entry in entries],
        "lines": [
            {
                "label": line.label,
                "color": PALETTE[line.color % len(PALETTE)],
                "dash": DASHES[line.dash % len(DASHES)],
                "dots": pixels(line.dots, x_scale, y_scale),
                "means": pixels(line.path, x_scale, y_scale),
                "bars": bars(line.path, x_scale, y_scale),
                "hollow": line.dash % 2 == 1,
                "joined": chart.joined and len(line.path) > 1,
            }
            for line in chart.lines
        ],
    }


def pixels(dots: list[Dot], x_scale: Scale, y_scale: Scale) -> list[tuple[float, float]]:
    return [(x_scale(dot.x), y_scale(dot.y)) for dot in dots]


def bars(dots: list[Dot], x_scale: Scale, y_scale: Scale) -> list[tuple[float, float, float]]:
    """Intervals as (x, y of the low end, y of the high end); none for a mean without one."""
    return [
        (x_scale(dot.x), y_scale(dot.low), y_scale(dot.high))
        for dot in dots
        if dot.low is not None and dot.high is not None
    ]


def shorten(text: str) -> str:
    return text if len(text) <= LONGEST_TICK else text[: LONGEST_TICK - 1] + "…"


def scales(chart: Chart, top: float, bottom: float) -> tuple[Scale, Scale, list[Tick]]:
    """x and y scales with a margin inside the frame, and the ticks of y."""
    assert chart.axis is not None
    if chart.axis.scale == "category":
        x_scale = Scale(-0.5, len(chart.axis.ticks) - 0.5, LEFT, WIDTH - RIGHT)
    else:
        xs = [tick.place for tick in chart.axis.ticks] + [dot.x for line in chart.lines for dot in line.dots]
        x_scale = Scale(min(xs), max(xs), LEFT + INSET, WIDTH - RIGHT - INSET, chart.axis.scale == "log")
    drawn = [dot for line in chart.lines for dot in (*line.dots, *line.path)]
    ys = [y for dot in drawn for y in (dot.y, dot.low, dot.high) if y is not None]
    low, high = (0.0, 1.0) if chart.unit_range else padded(min(ys), max(ys))
    return x_scale, Scale(low, high, bottom - 8, top + 8), round_ticks(low, high)


def padded(low: float, high: float) -> tuple[float, float]:
    """A range with room above and below, also where all values are equal."""
    room = 0.06 * (high - low) or 0.06 * abs(high) or 1.0
    return low - room, high + room


def legend(chart: Chart) -> list[Entry]:
    """Entries from left to right, wrapped; y counts rows. None for a single line."""
    if len(chart.lines) < 2:
        return []
    entries, x, row = [], float(LEFT), 0
    for line in chart.lines:
        width = 40 + LETTER * len(line.label)
        if x > LEFT and x + width > WIDTH - RIGHT:
            x, row = float(LEFT), row + 1
        color, dash = PALETTE[line.color % len(PALETTE)], DASHES[line.dash % len(DASHES)]
        entries.append(Entry(round(x, 1), row, line.label, color, dash, line.dash % 2 == 1))
        x += width
    return entries
