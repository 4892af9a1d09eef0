"""What a chart shows, apart from how it is drawn: lines, dots and levels against an axis, and the colors."""

from dataclasses import dataclass
from typing import NamedTuple

from sweeplab.report.charts.axes import Axis


class Dot(NamedTuple):
    x: float
    y: float
    text: str  # shown when pointed at
    low: float | None = None  # ends of a mean's interval
    high: float | None = None
    label: str = ""  # drawn beside the dot
    left: float | None = None  # ends of the interval of `x`
    right: float | None = None


@dataclass(frozen=True)
class Line:
    """`path` runs through means, or through one trial's steps; `dots` are single trials."""

    label: str
    color: int  # of PALETTE, or of RAMP where the chart is `ramped`
    dash: int
    dots: list[Dot]
    path: list[Dot]
    listed: bool = True  # in the legend
    diamond: bool = False  # dots that are no trials of this study
    is_pale: bool = False


class Level(NamedTuple):
    """A value that has no place on the axis: a dashed line across."""

    y: float
    color: int
    text: str


@dataclass(frozen=True)
class Chart:
    ident: str
    title: str
    note: str
    y_title: str
    axis: Axis
    lines: list[Line]
    unit_range: bool = False  # y from 0 to 1
    log_y: bool = False
    levels: tuple[Level, ...] = ()
    thin: bool = False  # paths are single trials
    metrics: tuple[str, ...] = ()  # one for each colour where there are several
    ramped: bool = False  # colors are ordered, from a low to a high value of what they stand for
    subtitle: str = ""  # under the title of a picture that stands alone

    @property
    def joined(self) -> bool:
        """Categories have no between, so their means are bars without a line."""
        return self.axis.scale != "category"
