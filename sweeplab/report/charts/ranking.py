"""The best settings of a study with many axes, one row each: means with intervals that hold for all at once."""

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from sweeplab.records.record import StudyFacts
from sweeplab.report.charts.chart import Dot
from sweeplab.report.charts.drawing import BOTTOM, LETTER, RIGHT, TOP, Mark, PixelScale, shorten
from sweeplab.report.charts.ticks import list_number_ticks, list_round_ticks
from sweeplab.report.evidence.estimates import Evidence
from sweeplab.report.evidence.formatting import (
    format_estimate,
    label_metric,
    unit_of_metric,
)
from sweeplab.report.evidence.settings import collect_records, list_axis_values, list_varied_keys
from sweeplab.report.templating import render_svg

MANY_AXES: Final = 4
_MOST_ROWS: Final = 30
_WIDTH: Final = 760
_ROW: Final = 19  # pixels
_LONGEST_NAME: Final = 44  # letters
_FEW_TICKS: Final = 6


class RankedRow(NamedTuple):
    name: str
    dot: Dot  # x is the mean, left and right its interval
    is_tied: bool  # cannot be told from the best


@dataclass(frozen=True)
class RankingChart:
    title: str
    note: str
    x_title: str
    rows: list[RankedRow]  # the best first
    is_log: bool


def has_many_axes(facts: StudyFacts, evidence: Evidence) -> bool:
    """True where so many keys vary that a figure against one of them says little."""
    return len(_list_keys(facts, evidence)) >= MANY_AXES


def _list_keys(facts: StudyFacts, evidence: Evidence) -> list[str]:
    records = collect_records(evidence.settings)
    return [key for key in list_varied_keys(facts, records) if len(list_axis_values(facts, records, key)) > 1]


def build_ranking_chart(facts: StudyFacts, evidence: Evidence) -> RankingChart | None:
    """The settings by their means, the best first; None for a study that does not vary `MANY_AXES` keys."""
    if not has_many_axes(facts, evidence):
        return None
    compared = evidence.compared()
    tied = range(len(evidence.settings)) if compared is None else compared.tied
    effects = (evidence.sign * evidence.table.effects_K).tolist()
    order = sorted(range(len(effects)), key=lambda index: -effects[index])
    rows = []
    for index in order[:_MOST_ROWS]:
        one = evidence.estimates[index]
        text = f"{evidence.settings[index].label}: {format_estimate(evidence.metric, one)}"
        dot = Dot(one.value, 0.0, text, left=one.low, right=one.high)
        rows.append(RankedRow(evidence.settings[index].label, dot, index in tied))
    label, unit = label_metric(evidence.metric), unit_of_metric(evidence.metric)
    better = "higher" if evidence.sign > 0 else "lower"
    title = f"{label[0].upper()}{label[1:]}, the settings by their means"
    is_log = evidence.table.is_log and min(row.dot.left or row.dot.x for row in rows) > 0
    x_title = f"{label}{f' ({unit})' if unit else ''}, {better} is better{', log scale' if is_log else ''}"
    return RankingChart(title, _describe(len(rows), effects, len(tied), evidence), x_title, rows, is_log)


def _describe(num_rows: int, effects: list[float], num_tied: int, evidence: Evidence) -> str:
    which = "All settings" if num_rows == len(effects) else f"The best {num_rows} of {len(effects)} settings"
    covers = next((one.covers for one in evidence.estimates if one.low is not None), None)
    ends = "without intervals" if covers is None else f"with 95 % intervals over {covers}"
    at_once = ", for all settings at once" if covers == "seeds" else ""
    filled = f"Filled dots: the best and what cannot be told from it, {num_tied} in all; hollow: worse."
    if evidence.table.num_seeds == 1:
        filled = "With one seed none is called worse: another seed may turn the order round."
    return f"{which}, by their means {ends}{at_once}. {filled} Differences are surer than these intervals look."


def draw_ranking(chart: RankingChart, standalone: bool = True) -> str:
    """The chart as SVG. `standalone`: with title, on white."""
    return render_svg("ranking.svg.j2", lay_out_ranking(chart, standalone))


def lay_out_ranking(chart: RankingChart, standalone: bool) -> dict[str, Any]:
    """Everything that `ranking.svg.j2` draws; pixels, y downwards."""
    names = [shorten(row.name, _LONGEST_NAME) for row in chart.rows]
    left = round(RIGHT + LETTER * max(map(len, names)), 1)
    top = TOP if standalone else 8
    bottom = top + _ROW * len(names) + 6
    xs = [x for row in chart.rows for x in (row.dot.x, row.dot.left, row.dot.right) if x is not None]
    low, high = min(xs), max(xs)
    scale = PixelScale(low, high, left + 16, _WIDTH - RIGHT - 16, chart.is_log)
    ticks = list_number_ticks(sorted(set(xs)), "log", 0) if chart.is_log else list_round_ticks(low, high)
    if len(ticks) < 3:
        ticks = list_round_ticks(low, high, _FEW_TICKS)
    rows = [
        {
            "y": top + _ROW * (index + 0.5),
            "name": name,
            "text": row.dot.text,
            "x": scale(row.dot.x),
            "low": None if row.dot.left is None else scale(row.dot.left),
            "high": None if row.dot.right is None else scale(row.dot.right),
            "shape": "dot" if row.is_tied else "hollow",
            "color": 0 if row.is_tied else 6,
        }
        for index, (row, name) in enumerate(zip(chart.rows, names, strict=True))
    ]
    return {
        "standalone": standalone,
        "title": chart.title,
        "subtitle": "",
        "x_title": chart.x_title,
        "width": _WIDTH,
        "height": bottom + BOTTOM,
        "left": left if not standalone else RIGHT,
        "start": left,
        "right": _WIDTH - RIGHT,
        "top": top,
        "bottom": bottom,
        "rows": rows,
        "ticks": [Mark(scale(tick.position), tick.text) for tick in ticks],
    }
