"""A chart as SVG: values to pixels, and a template that draws them with the page's colors or standalone, on white."""

import math
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from sweeplab.report.charts.chart import Chart, Dot, Line
from sweeplab.report.charts.reach import find_x_reach, find_y_reach, list_dots
from sweeplab.report.charts.ticks import Tick, list_number_ticks, list_round_ticks
from sweeplab.report.colors import PALETTE
from sweeplab.report.templating import render_svg

WIDTH: Final = 760  # of the picture that stands alone
PAGE_WIDTH: Final = 520  # in the page, where two stand side by side, and a phone shrinks them by a third only
_PLOT_HEIGHT: Final = 300
_PAGE_PLOT_HEIGHT: Final = 250
HEADROOM: Final = 10  # above a plot that has its title beside it
LEFT, RIGHT, TOP, BOTTOM = 68, 24, 44, 56
_TICK_LETTERS: Final = 5  # of y's ticks, for which there is room beside the title
_INSET: Final = 20  # from the frame to the first and the last value
_LEGEND_ROW: Final = 22
_LABEL_ROW: Final = 15  # from one text beside a dot to the next
LETTER: Final = 7.0  # width of a letter at 13 px, on average
_LONGEST_TICK: Final = 24  # letters
_LONGEST_LEGEND: Final = 70
_THIN_FROM: Final = 60  # lines, which are drawn paler then
_MANY_DOTS: Final = 200  # of a line, which are drawn smaller then
_LEVEL_DASH: Final = "6 4"
_NUM_COLORS: Final = len(PALETTE)
_DASHES: Final = ("none", "7 4", "2 3", "7 3 2 3", "12 4", "12 3 2 3")


class Mark(NamedTuple):
    """A tick or a legend entry in pixels."""

    at: float
    text: str


class LegendEntry(NamedTuple):
    """A line or a level of the legend; `shade` is the class that colors it."""

    x: float
    y: float
    text: str
    shade: str
    dash: str
    shape: str  # dot | hollow | diamond | none


@dataclass(frozen=True)
class PixelScale:
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


class Bar(NamedTuple):
    """An interval in pixels, as far as it lies in the figure."""

    at: float
    low: float
    high: float
    ends: list[float]  # those that lie in the figure, where a bar stands

    @classmethod
    def within(cls, scale: PixelScale, at: float, low: float, high: float) -> "Bar":
        drawn = [scale(min(max(end, scale.low), scale.high)) for end in (low, high)]
        ends = [pixel for pixel, end in zip(drawn, (low, high), strict=True) if scale.low <= end <= scale.high]
        return cls(at, drawn[0], drawn[1], ends)


def draw_chart(chart: Chart, standalone: bool = True) -> str:
    """The chart as SVG. `standalone`: a picture of its own, with title and legend, on white; else for the page."""
    return render_svg("plot.svg.j2", lay_out_chart(chart, standalone))


def lay_out_chart(chart: Chart, standalone: bool = True) -> dict[str, Any]:
    """The values for `plot.svg.j2`: pixels, y downwards; `standalone`: with title and legend, on white."""
    width = WIDTH if standalone else PAGE_WIDTH
    entries = _arrange_legend(list_legend(chart), width) if standalone else []
    head = TOP + (_LEGEND_ROW if chart.subtitle else 0) if standalone else HEADROOM
    top = head + (_LEGEND_ROW * (1 + max(entry.y for entry in entries)) if entries else 0)
    bottom = top + (_PLOT_HEIGHT if standalone else _PAGE_PLOT_HEIGHT)
    y_scale, y_ticks = _choose_y_scale(chart, top, bottom)
    left = LEFT + round(LETTER * max(0, max((len(tick.text) for tick in y_ticks), default=0) - _TICK_LETTERS))
    x_scale = _choose_x_scale(chart, left, width)
    texts = shorten_ticks([tick.text for tick in chart.axis.ticks])
    ticks = [Mark(x_scale(tick.position), text) for tick, text in zip(chart.axis.ticks, texts, strict=True)]
    slot = (width - left - RIGHT) / max(len(ticks), 1)
    widest = max((len(tick.text) for tick in ticks), default=0) * LETTER
    turned = widest > slot
    below = BOTTOM + (widest * 0.5 if turned else 0)
    return {
        "standalone": standalone,
        "width": width,
        "height": round(bottom + below),
        "left": left,
        "right": width - RIGHT,
        "top": top,
        "bottom": bottom,
        "middle": (top + bottom) / 2,
        "title": chart.title if chart.axis.key is None else f"{chart.title} against {chart.axis.name}",
        "subtitle": chart.subtitle,
        "x_title": chart.axis.title,
        "y_title": chart.y_title,
        "x_ticks": ticks,
        "turned": turned,
        "y_ticks": [Mark(y_scale(tick.position), tick.text) for tick in y_ticks],
        "legend": [entry._replace(y=head + _LEGEND_ROW * (entry.y + 0.3)) for entry in entries],
        "levels": [{"y": y_scale(one.y), "shade": f"c{one.color}", "text": one.text} for one in chart.levels],
        "lines": [_lay_out_line(chart, line, x_scale, y_scale) for line in chart.lines],
        "thin": chart.thin,
        "pale": chart.thin and len(chart.lines) > _THIN_FROM,
    }


def _lay_out_line(chart: Chart, line: Line, x_scale: PixelScale, y_scale: PixelScale) -> dict[str, Any]:
    return {
        "label": line.path[-1].text if chart.thin else line.label,
        "shade": _shade_of(chart, line),
        "dash": _DASHES[line.dash % len(_DASHES)],
        "shape": _shape_of(line),
        "dots": [(*at, dot.text) for at, dot in zip(_to_pixels(line.dots, x_scale, y_scale), line.dots, strict=True)],
        "radius": 2.5 if len(line.dots) > _MANY_DOTS else 4,
        "means": [(*at, dot.text) for at, dot in zip(_to_pixels(line.path, x_scale, y_scale), line.path, strict=True)],
        "bars": _lay_out_bars([*line.path, *line.dots], x_scale, y_scale),
        "sides": _lay_out_sides(line.dots, x_scale, y_scale),
        "is_pale": line.is_pale,
        "labels": _lay_out_labels(line.dots, x_scale, y_scale),
        "joined": chart.joined and len(line.path) > 1,
    }


def _lay_out_labels(dots: list[Dot], x_scale: PixelScale, y_scale: PixelScale) -> list[dict[str, Any]]:
    """Texts beside their dots, the highest dot first; a text that would cover the one above moves down."""
    labels: list[dict[str, Any]] = []
    last = -math.inf
    for dot in sorted((one for one in dots if one.label), key=lambda one: -one.y):
        x, last = x_scale(dot.x), max(y_scale(dot.y) + 4.5, last + _LABEL_ROW)
        near_end = x > WIDTH * 0.7
        side = {"x": x - 10, "anchor": "end"} if near_end else {"x": x + 10, "anchor": "start"}
        labels.append({"y": round(last, 1), "text": shorten(dot.label), **side})
    return labels


def _shade_of(chart: Chart, line: Line) -> str:
    """The class of a color: `c` of the palette, `s` of the ramp."""
    return f"s{line.color}" if chart.ramped else f"c{line.color % _NUM_COLORS}"


def _shape_of(line: Line) -> str:
    return "diamond" if line.diamond else "hollow" if line.dash % 2 == 1 else "dot"


def _to_pixels(dots: list[Dot], x_scale: PixelScale, y_scale: PixelScale) -> list[tuple[float, float]]:
    return [(x_scale(dot.x), y_scale(dot.y)) for dot in dots]


def _lay_out_bars(dots: list[Dot], x_scale: PixelScale, y_scale: PixelScale) -> list[Bar]:
    """Intervals at their x, from y to y; none for a mean without one."""
    return [
        Bar.within(y_scale, x_scale(dot.x), dot.low, dot.high)
        for dot in dots
        if dot.low is not None and dot.high is not None
    ]


def _lay_out_sides(dots: list[Dot], x_scale: PixelScale, y_scale: PixelScale) -> list[Bar]:
    """Intervals of x at their y, from x to x."""
    return [
        Bar.within(x_scale, y_scale(dot.y), dot.left, dot.right)
        for dot in dots
        if dot.left is not None and dot.right is not None
    ]


def shorten(text: str, longest: int = _LONGEST_TICK) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def shorten_ticks(texts: list[str]) -> list[str]:
    """As short as ticks are; where two then begin alike, as paths of one folder do, their ends and not their starts."""
    starts = [shorten(text) for text in texts]
    if len(set(starts)) == len(set(texts)):
        return starts
    return [text if len(text) <= _LONGEST_TICK else f"…{text[1 - _LONGEST_TICK :]}" for text in texts]


def _choose_x_scale(chart: Chart, left: float, width: float) -> PixelScale:
    """With a margin inside the frame, which begins at `left`."""
    if chart.axis.scale == "category":
        return PixelScale(-0.5, len(chart.axis.ticks) - 0.5, left, width - RIGHT)
    return PixelScale(*find_x_reach(chart), left + _INSET, width - RIGHT - _INSET, chart.axis.scale == "log")


def _choose_y_scale(chart: Chart, top: float, bottom: float) -> tuple[PixelScale, list[Tick]]:
    """With a margin inside the frame, and its ticks."""
    if chart.log_y:
        of_dots = [y for dot in list_dots(chart) for y in (dot.y, dot.low, dot.high) if y is not None]
        ys = of_dots + [one.y for one in chart.levels]
        return PixelScale(min(ys), max(ys), bottom - 8, top + 8, True), list_number_ticks(sorted(set(ys)), "log", 0)
    low, high = (0.0, 1.0) if chart.unit_range else _pad_range(*find_y_reach(chart))
    return PixelScale(low, high, bottom - 8, top + 8), list_round_ticks(low, high)


def _pad_range(low: float, high: float) -> tuple[float, float]:
    """A range with room above and below, also where all values are equal."""
    room = 0.06 * (high - low) or 0.06 * abs(high) or 1.0
    return low - room, high + room


def list_legend(chart: Chart) -> list[LegendEntry]:
    """What is drawn and how, at the origin; none for a single line without a level."""
    entries = []
    for line in (one for one in chart.lines if one.listed):
        shape = "none" if chart.thin or not line.dots else _shape_of(line)
        text, dash = shorten(line.label, _LONGEST_LEGEND), _DASHES[line.dash % len(_DASHES)]
        entries.append(LegendEntry(0, 0, text, _shade_of(chart, line), dash, shape))
    if chart.levels:
        entries.append(LegendEntry(0, 0, "base model without adapter", f"c{_NUM_COLORS - 1}", _LEVEL_DASH, "none"))
    return entries if len(entries) > 1 else []


def _arrange_legend(entries: list[LegendEntry], width: float) -> list[LegendEntry]:
    """From left to right, wrapped; y counts rows."""
    arranged, x, row = [], float(LEFT), 0
    for entry in entries:
        size = 40 + LETTER * len(entry.text)
        if x > LEFT and x + size > width - RIGHT:
            x, row = float(LEFT), row + 1
        arranged.append(entry._replace(x=round(x, 1), y=row))
        x += size
    return arranged
