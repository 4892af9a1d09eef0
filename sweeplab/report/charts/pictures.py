"""Every figure of the page: what is drawn, with which template, and its legend."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from sweeplab.records.record import BaseScore, StudyFacts
from sweeplab.report.charts.axes import round_ticks
from sweeplab.report.charts.charts import Chart, charts
from sweeplab.report.charts.curves import loss_charts
from sweeplab.report.charts.drawing import Entry, Mark, Scale, drawing, legend
from sweeplab.report.charts.parallel import parallel_chart, parallel_drawing
from sweeplab.report.charts.tradeoffs import phase_memory_chart, tradeoff_charts
from sweeplab.report.evidence.evidence import Evidence
from sweeplab.report.evidence.settings import Setting
from sweeplab.report.evidence.wording import number
from sweeplab.report.findings.importance import Importance
from sweeplab.report.findings.tables import all_records
from sweeplab.report.findings.verdicts import Published

BAR_WIDTH: Final = 520
BAR_HEIGHT: Final = 11
LETTER: Final = 7.5
METHODS: Final = ("fANOVA", "PED-ANOVA")
IMPORTANCE_NOTE: Final = "Share of each varied key in what moves the objective; the table below says what it means."


class Figure(NamedTuple):
    """`values` are what `template` draws."""

    ident: str
    title: str
    note: str
    template: str
    values: dict[str, Any]
    legend: list[Entry]
    wide: bool = False


def study_charts(
    facts: StudyFacts, settings: list[Setting], published: Sequence[Published], bases: Sequence[BaseScore]
) -> list[Chart]:
    """Against the varied key first, so that the first one stands for the study; then losses over steps."""
    return [*charts(facts, settings, published, bases), *loss_charts(facts, settings)]


def figures(
    facts: StudyFacts,
    settings: list[Setting],
    drawn: list[Chart],
    found: Mapping[str, Evidence],
    shares: list[Importance],
) -> Iterator[Figure]:
    """Scores, all trials at a glance, what quality costs, what matters; then losses, time and memory."""
    scores = [chart for chart in drawn if chart.ident.startswith("score-")]
    yield from (plot(chart) for chart in scores)
    glance = parallel_chart(facts, settings) if len(found) == 1 else None
    if glance is not None:
        yield Figure("parallel", glance.title, glance.note, "parallel.svg.j2", parallel_drawing(glance), [], True)
    for label, one in found.items():
        yield from (plot(chart) for chart in tradeoff_charts(one, label))
    if shares:
        yield importance_figure(shares)
    yield from (plot(chart) for chart in drawn if chart not in scores)
    phases = phase_memory_chart(all_records(settings))
    if phases is not None:
        yield plot(phases)


def plot(chart: Chart) -> Figure:
    return Figure(chart.ident, chart.title, chart.note, "plot.svg.j2", drawing(chart, alone=False), legend(chart))


def importance_figure(shares: list[Importance]) -> Figure:
    """Two bars a key, in pixels."""
    left = 24 + LETTER * max(len(one.name) for one in shares)
    right, gap = BAR_WIDTH - 24, 3 * BAR_HEIGHT
    top = max(max(one.fanova, one.ped_anova) for one in shares)
    scale = Scale(0.0, top, left, right)
    bars = []
    for place, one in enumerate(shares):
        for color, value in enumerate((one.fanova, one.ped_anova)):
            bars.append(
                {
                    "name": "" if color else one.name,
                    "y": 6 + gap * place + BAR_HEIGHT * color,
                    "width": round(scale(value) - left, 2),
                    "color": color,
                    "text": f"{one.name}, {METHODS[color]}: {number(value)}",
                }
            )
    bottom = 6 + gap * len(shares)
    values = {
        "title": "Importance of what was varied",
        "x_title": "share (all keys together: 1)",
        "width": BAR_WIDTH,
        "height": bottom + 50,
        "left": left,
        "right": right,
        "bottom": bottom,
        "bar_height": BAR_HEIGHT,
        "bars": bars,
        "ticks": [Mark(scale(tick.place), tick.text) for tick in round_ticks(0.0, top)],
    }
    entries = [Entry(0, 0, name, f"c{color}", "none", "block") for color, name in enumerate(METHODS)]
    return Figure("importance", "Importance of what was varied", IMPORTANCE_NOTE, "bars.svg.j2", values, entries)
