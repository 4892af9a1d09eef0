"""Every figure of the page: what is drawn, with which template, and its legend."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from sweeplab.records.items import Items
from sweeplab.records.record import BaseScore, StudyFacts
from sweeplab.report.charts.bars import Bar, BarChart, BarGroup, draw_bars
from sweeplab.report.charts.chart import Chart
from sweeplab.report.charts.curves import build_curve_charts
from sweeplab.report.charts.drawing import LegendEntry, draw_chart, list_legend
from sweeplab.report.charts.parallel import build_parallel_chart, draw_parallel
from sweeplab.report.charts.scatter import build_metric_charts
from sweeplab.report.charts.tradeoffs import build_phase_memory_chart, build_tradeoff_charts
from sweeplab.report.evidence.estimates import Evidence
from sweeplab.report.evidence.formatting import format_number
from sweeplab.report.evidence.settings import Setting, collect_records
from sweeplab.report.findings.claims_table import PublishedValue
from sweeplab.report.findings.importance import Importance

_METHODS: Final = ("fANOVA", "PED-ANOVA")
_IMPORTANCE_NOTE: Final = "Share of each varied key in what moves the objective; the table below says what it means."


class Figure(NamedTuple):
    """A drawing of the page with its heading, its caption and its legend."""

    ident: str
    title: str
    note: str
    svg: str
    legend: list[LegendEntry]
    wide: bool = False


def build_study_charts(
    facts: StudyFacts,
    settings: list[Setting],
    published: Sequence[PublishedValue],
    bases: Sequence[BaseScore],
    items: Items | None = None,
) -> list[Chart]:
    """Against the varied key first, so that the first one stands for the study; then losses over steps."""
    return [*build_metric_charts(facts, settings, published, bases, items), *build_curve_charts(facts, settings)]


def draw_figures(
    facts: StudyFacts,
    settings: list[Setting],
    drawn: list[Chart],
    evidence: Mapping[str, Evidence],
    shares: list[Importance],
) -> Iterator[Figure]:
    """Scores, all trials at a glance, what quality costs, what matters; then losses, time and memory."""
    scores = [chart for chart in drawn if chart.ident.startswith("score-")]
    yield from (_draw_figure(chart) for chart in scores)
    glance = build_parallel_chart(facts, settings) if len(evidence) == 1 else None
    if glance is not None:
        yield Figure("parallel", glance.title, glance.note, draw_parallel(glance), [], wide=True)
    for label, one in evidence.items():
        yield from (_draw_figure(chart) for chart in build_tradeoff_charts(one, label))
    if shares:
        yield _draw_importance(shares)
    yield from (_draw_figure(chart) for chart in drawn if chart not in scores)
    phases = build_phase_memory_chart(collect_records(settings))
    if phases is not None:
        yield _draw_figure(phases)


def _draw_figure(chart: Chart) -> Figure:
    return Figure(chart.ident, chart.title, chart.note, draw_chart(chart, standalone=False), list_legend(chart))


def _draw_importance(shares: list[Importance]) -> Figure:
    """Two bars a key."""
    groups = [
        BarGroup(
            one.name,
            [
                Bar(value, color, f"{one.name}, {_METHODS[color]}: {format_number(value)}")
                for color, value in enumerate((one.fanova, one.ped_anova))
            ],
        )
        for one in shares
    ]
    chart = BarChart("Importance of what was varied", "share (all keys together: 1)", groups)
    entries = [LegendEntry(0, 0, name, f"c{color}", "none", "block") for color, name in enumerate(_METHODS)]
    return Figure("importance", chart.title, _IMPORTANCE_NOTE, draw_bars(chart, standalone=False), entries)
