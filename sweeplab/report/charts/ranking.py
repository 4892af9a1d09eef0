"""The best settings of a study with many axes, one row each: means with intervals that hold for all at once."""

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from sweeplab.records.record import StudyFacts
from sweeplab.report.charts.chart import Dot
from sweeplab.report.charts.drawing import BOTTOM, LETTER, RIGHT, TOP, Mark, PixelScale, shorten
from sweeplab.report.charts.ticks import list_number_ticks, list_round_ticks
from sweeplab.report.evidence.estimates import Evidence
from sweeplab.report.evidence.formatting import (
    format_estimate,
    format_value,
    label_metric,
    name_score,
    shorten_key,
    unit_of_metric,
)
from sweeplab.report.evidence.settings import collect_records, label_setting, list_axis_values, list_varied_keys
from sweeplab.report.templating import render_svg

MANY_AXES: Final = 4
MOST_ROWS: Final = 30
_WIDTH: Final = 760
_ROW: Final = 19  # pixels
_NAME_PART: Final = 0.5  # of the width, at most
_LONG_LABEL: Final = 38  # letters, which have room in the figure beside the answer
_AS_USUAL: Final = "as most"
_FEW_TICKS: Final = 6
_TICK_LETTERS: Final = 7  # of a tick, with what lies between two


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


def build_ranking_chart(facts: StudyFacts, evidence: Evidence, most_rows: int = MOST_ROWS) -> RankingChart:
    """The settings by their means, the best first, at most `most_rows` of them."""
    names, unsaid = _name_apart(facts, evidence)
    compared = evidence.compared()
    tied = range(len(evidence.settings)) if compared is None else compared.tied
    effects = (evidence.sign * evidence.table.effects_K).tolist()
    order = sorted(range(len(effects)), key=lambda index: -effects[index])
    rows = []
    for index in order[:most_rows]:
        one = evidence.estimates[index]
        text = f"{evidence.settings[index].label}: {format_estimate(evidence.metric, one)}"
        dot = Dot(one.value, 0.0, text, left=one.low, right=one.high)
        rows.append(RankedRow(names[index], dot, index in tied))
    label, unit = label_metric(evidence.metric), unit_of_metric(evidence.metric)
    better = "higher" if evidence.sign > 0 else "lower"
    title = f"{label[0].upper()}{label[1:]}, the settings by their means"
    is_log = evidence.table.is_log and min(row.dot.left or row.dot.x for row in rows) > 0
    x_title = f"{unit or name_score(label)}, {better} is better{', log scale' if is_log else ''}"
    return RankingChart(title, _describe(len(rows), effects, len(tied), evidence) + unsaid, x_title, rows, is_log)


def _describe(num_rows: int, effects: list[float], num_tied: int, evidence: Evidence) -> str:
    which = "All settings" if num_rows == len(effects) else f"The best {num_rows} of {len(effects)} settings"
    covers = next((one.covers for one in evidence.estimates if one.low is not None), None)
    ends = "without intervals" if covers is None else f"with 95 % intervals over {covers}"
    at_once = ", for all settings at once" if covers == "seeds" else ""
    filled = f"Filled dots: the best and what cannot be told from it, {num_tied} in all; hollow: worse."
    if evidence.table.num_seeds == 1:
        filled = "With one seed none is called worse: another seed may turn the order round."
        return f"{which}, by their means {ends}{at_once}. {filled}"
    return f"{which}, by their means {ends}{at_once}. {filled} Differences are surer than these intervals look."


def _name_apart(facts: StudyFacts, evidence: Evidence) -> tuple[list[str], str]:
    """Labels, and a sentence on what they do not say: where many keys vary, values that most settings have are left
    out, since a figure has no room for them."""
    settings = evidence.settings
    keys = list_varied_keys(facts, collect_records(settings))
    if max(len(one.label) for one in settings) <= _LONG_LABEL:
        return [one.label for one in settings], ""
    usual = {}
    for key in keys:
        counts = Counter(format_value(one.params[key]) for one in settings if key in one.params)
        value, count = counts.most_common(1)[0]
        if count > len(settings) / 2:
            usual[key] = value
    said = [{k: v for k, v in one.params.items() if format_value(v) != usual.get(k)} for one in settings]
    names = [label_setting(facts, params, keys) if params else _AS_USUAL for params in said]
    listed = ", ".join(f"{shorten_key(key, keys)}={value}" for key, value in usual.items())
    return names, f" Where not said: {listed}." if usual and len(set(names)) == len(names) else ""


def draw_ranking(chart: RankingChart, standalone: bool = True, width: float = _WIDTH) -> str:
    """The chart as SVG, `width` pixels wide. `standalone`: with title, on white."""
    return render_svg("ranking.svg.j2", lay_out_ranking(chart, standalone, width))


def lay_out_ranking(chart: RankingChart, standalone: bool, width: float = _WIDTH) -> dict[str, Any]:
    """Everything that `ranking.svg.j2` draws; pixels, y downwards."""
    names = [shorten(row.name, int(width * _NAME_PART / LETTER)) for row in chart.rows]
    left = round(RIGHT + LETTER * max(map(len, names)), 1)
    top = TOP if standalone else 8
    bottom = top + _ROW * len(names) + 6
    xs = [x for row in chart.rows for x in (row.dot.x, row.dot.left, row.dot.right) if x is not None]
    low, high = min(xs), max(xs)
    scale = PixelScale(low, high, left + 16, width - RIGHT - 16, chart.is_log)
    room = max(2, int((width - RIGHT - left - 32) / (_TICK_LETTERS * LETTER)))
    ticks = list_number_ticks(sorted(set(xs)), "log", 0) if chart.is_log else list_round_ticks(low, high, min(5, room))
    if len(ticks) < 3:
        ticks = list_round_ticks(low, high, min(_FEW_TICKS, room))
    ticks = ticks[:: math.ceil(len(ticks) / room)]
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
        "x_middle": min((left + width - RIGHT) / 2, width - 4 - LETTER * len(chart.x_title) / 2),
        "width": width,
        "height": bottom + BOTTOM,
        "left": left if not standalone else RIGHT,
        "start": left,
        "right": width - RIGHT,
        "top": top,
        "bottom": bottom,
        "rows": rows,
        "ticks": [Mark(scale(tick.position), tick.text) for tick in ticks],
    }
