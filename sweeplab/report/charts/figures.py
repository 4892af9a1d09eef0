"""Every figure of the page: what is drawn, with which template, and its legend."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from sweeplab.records.items import Items
from sweeplab.records.record import BaseScore, StudyFacts
from sweeplab.report.charts.axes import choose_axis
from sweeplab.report.charts.bars import Bar, BarChart, BarGroup, draw_bars
from sweeplab.report.charts.chart import Chart
from sweeplab.report.charts.curves import build_curve_charts
from sweeplab.report.charts.drawing import PAGE_WIDTH, LegendEntry, draw_chart, list_legend
from sweeplab.report.charts.grid import build_grid_chart, draw_grid
from sweeplab.report.charts.parallel import build_parallel_chart, draw_parallel
from sweeplab.report.charts.ranking import RankingChart, build_ranking_chart, draw_ranking, has_many_axes
from sweeplab.report.charts.scatter import build_metric_charts, build_objective_chart
from sweeplab.report.charts.tradeoffs import build_phase_memory_chart, build_tradeoff_charts
from sweeplab.report.evidence.estimates import Evidence
from sweeplab.report.evidence.settings import Setting, collect_records
from sweeplab.report.findings.claims_table import PublishedValue
from sweeplab.report.findings.importance import Importance, format_range

_METHODS: Final = ("fANOVA", "PED-ANOVA")
_LEAD_ROWS: Final = 12  # of a ranking, so that it fits beside the answer
_IMPORTANCE_NOTE: Final = (
    "Share of each varied key in what moves the objective, pale over its range; the table below says of what."
)


class Figure(NamedTuple):
    """A drawing of the page with its heading, its caption and its legend."""

    ident: str
    title: str
    note: str
    svg: str
    legend: list[LegendEntry]
    wide: bool = False


class Picture(NamedTuple):
    """What stands for the study outside of the page, as SVG on white."""

    title: str
    note: str
    svg: str


class Lead(NamedTuple):
    """What shows the answer: the objective against what moves it most, or the settings by their means."""

    chart: Chart | RankingChart
    ident: str

    def draw(self) -> Figure:
        """As it stands beside the answer."""
        if isinstance(self.chart, Chart):
            figure = _draw_figure(self.chart)
            return figure._replace(title=f"{self.chart.title} against {self.chart.axis.name}")
        drawn = draw_ranking(self.chart, standalone=False, width=PAGE_WIDTH)
        return Figure(self.ident, self.chart.title, self.chart.note, drawn, [])

    def draw_picture(self) -> Picture:
        """As it stands outside of the page."""
        if isinstance(self.chart, Chart):
            title = f"{self.chart.title} against {self.chart.axis.name}"
            return Picture(title, self.chart.note, draw_chart(self.chart))
        return Picture(self.chart.title, self.chart.note, draw_ranking(self.chart))


def build_lead(
    facts: StudyFacts,
    settings: list[Setting],
    bases: Sequence[BaseScore],
    evidence: Mapping[str, Evidence],
    items: Items | None = None,
) -> Lead | None:
    """None where nothing has been compared."""
    if "" not in evidence:
        return None
    chart = None
    if not has_many_axes(facts, evidence[""]):
        chart = build_objective_chart(facts, settings, bases, items)
    return Lead(chart or build_ranking_chart(facts, evidence[""], _LEAD_ROWS), "lead")


def build_study_charts(
    facts: StudyFacts,
    settings: list[Setting],
    published: Sequence[PublishedValue],
    bases: Sequence[BaseScore],
    evidence: Mapping[str, Evidence] | None = None,
    items: Items | None = None,
) -> list[Chart]:
    """Against the varied key first, so that the first one stands for the study; then losses over steps.

    Where many keys vary and all of them are categories, nothing is drawn against one of them: it would put nearly all
    trials into two columns.
    """
    curves = build_curve_charts(facts, settings)
    many = evidence is not None and "" in evidence and has_many_axes(facts, evidence[""])
    if many and choose_axis(facts, collect_records(settings)).scale == "category":
        return curves
    return [*build_metric_charts(facts, settings, published, bases, items), *curves]


def draw_figures(
    facts: StudyFacts,
    settings: list[Setting],
    drawn: list[Chart],
    evidence: Mapping[str, Evidence],
    shares: list[Importance],
    lead: Lead | None = None,
) -> Iterator[Figure]:
    """The objective over two keys, scores, all trials at a glance, what quality costs, what matters; then losses, time
    and memory.

    What the lead shows is not drawn again.
    """
    if lead is not None and isinstance(lead.chart, Chart):
        drawn = [chart for chart in drawn if chart.metrics != lead.chart.metrics]
    if "" in evidence and has_many_axes(facts, evidence[""]):
        ranking = build_ranking_chart(facts, evidence[""])
        yield Figure(
            "ranking", ranking.title, ranking.note, draw_ranking(ranking, standalone=False, width=PAGE_WIDTH), []
        )
    grid = build_grid_chart(facts, evidence[""]) if "" in evidence else None
    if grid is not None:
        yield Figure("grid", grid.title, grid.note, draw_grid(grid), [])
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
    """For each key and method a bar to the upper end of its range, pale from the lower end on."""
    groups = [
        BarGroup(
            one.name,
            [
                Bar(ends[1], color, f"{one.name}, {_METHODS[color]}: {format_range(ends)}", ends[0])
                for color, ends in enumerate((one.fanova, one.ped_anova))
                if ends is not None
            ],
        )
        for one in shares
    ]
    methods = [name for name, ends in zip(_METHODS, shares[0][1:], strict=True) if ends is not None]
    chart = BarChart("Importance of what was varied", "share (all keys together: 1)", groups)
    entries = [LegendEntry(0, 0, name, f"c{color}", "none", "block") for color, name in enumerate(methods)]
    return Figure("importance", chart.title, _IMPORTANCE_NOTE, draw_bars(chart, standalone=False), entries)
