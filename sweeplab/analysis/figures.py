"""The analysis as charts: similar subspaces, spectra, and Elo against memory."""

import math
from typing import Final

from sweeplab.analysis.results import AnalysisResults, average_sizes, list_base_spectra, select_measured
from sweeplab.analysis.sharing import SharedSubspaces
from sweeplab.analysis.trials import KINDS
from sweeplab.records.metrics import METRICS
from sweeplab.report.charts.axes import Axis
from sweeplab.report.charts.chart import Chart, Dot, Line
from sweeplab.report.charts.drawing import draw_chart, shorten
from sweeplab.report.charts.heatmaps import Heatmap, Panel, draw_heatmap
from sweeplab.report.charts.ticks import Tick, list_round_ticks
from sweeplab.report.colors import PALETTE
from sweeplab.report.evidence.costs import choose_memory_metric
from sweeplab.report.evidence.formatting import choose_memory_unit
from sweeplab.report.evidence.settings import collect_records
from sweeplab.statistics.selection import pick_evenly

_MAX_LINES: Final = 6
_LONGEST_TITLE: Final = 80
_FLAT: Final = 1e-5  # of the largest singular value: smaller ones are not drawn
KIND_WORDS: Final = {
    "ranks": "ranks {0} and {1}, same seed",
    "seeds": "rank {0}, two seeds",
    "both": "ranks {0} and {1}, two seeds",
}


def _largest_ranks(shared: list[SharedSubspaces]) -> list[tuple[str, tuple[int, int]]]:
    """For each kind its two largest ranks, as the paper chose 8 and 64."""
    rows = []
    for kind in KINDS:
        ranks = [one.ranks for one in shared if one.kind == kind]
        if ranks:
            rows.append((kind, max(ranks)))
    return rows


def draw_similarity(findings: AnalysisResults) -> str | None:
    """A row of panels for each kind of pair: phi of A, of B, and what a random pair gives. None without pairs."""
    by_key = {(one.kind, one.ranks, one.part): one for one in findings.shared}
    rows = []
    for kind, ranks in _largest_ranks(findings.shared):
        of_a, of_b = (by_key.get((kind, ranks, part)) for part in ("A", "B"))
        if of_a is None or of_b is None:
            continue
        grids = [("A", of_a.mean(of_a.phi_IJ)), ("B", of_b.mean(of_b.phi_IJ))]
        grids.append(("random pair in A's space", of_a.mean(of_a.chance_IJ)))
        rows.append((KIND_WORDS[kind].format(*ranks), [Panel(*one) for one in grids]))
    note = "1: the first i directions of one lie within the first j of the other; means over matrices and pairs"
    return draw_heatmap(Heatmap("Subspace similarity phi(i, j) between two adapters", note, rows)) if rows else None


def draw_spectra(findings: AnalysisResults) -> str | None:
    """The mean k-th singular value of W and of every setting's dW, both axes logarithmic. None without updates."""
    curves = [("W, the base", average_sizes(list_base_spectra(findings)), len(PALETTE) - 1, 1)]
    for color, setting in enumerate(pick_evenly(findings.settings, _MAX_LINES)):
        sizes = average_sizes([one.update_K for one in select_measured(findings, setting)])
        curves.append((f"dW, {setting.label}", sizes, color, 0))
    curves = [curve for curve in curves if len(curve[1])]
    if not curves:
        return None
    least = _FLAT * max(float(sizes.max()) for _, sizes, _, _ in curves)
    count = max(len(sizes) for _, sizes, _, _ in curves)
    powers = [2**power for power in range(int(math.log2(max(count, 2))) + 1)]
    lines = []
    for label, sizes, color, dash in curves:
        path = [Dot(k, float(size), label) for k, size in enumerate(sizes, 1) if size >= least]
        lines.append(Line(label, color, dash, [], path))
    axis = Axis(None, "k", "log", [Tick(one, str(one)) for one in powers])
    title = "Singular values of the base and of its updates"
    note = "Mean over matrices and seeds; k counts directions from the strongest."
    y_title = "singular value (log scale)"
    return draw_chart(Chart("spectra", title, note, y_title, axis, lines, log_y=True, thin=True, subtitle=note))


def draw_elo(findings: AnalysisResults) -> str | None:
    """Elo of each setting against its peak memory. None without ratings or memory."""
    name = choose_memory_metric(collect_records(findings.settings))
    standings = [] if findings.ratings is None else findings.ratings.standings
    measured = [(one, one.setting.spreads[name].mean) for one in standings if name in one.setting.spreads]
    if name is None or findings.ratings is None or not measured:
        return None
    divisor, unit = choose_memory_unit(max(size for _, size in measured))
    dots = []
    for one, size in sorted(measured, key=lambda pair: -pair[0].elo.mean):
        text = f"{one.setting.label}: {one.elo.mean:.0f}, {one.elo.low:.0f} to {one.elo.high:.0f}"
        dots.append(Dot(size / divisor, one.elo.mean, text, one.elo.low, one.elo.high, one.setting.label))
    xs = [dot.x for dot in dots]
    axis = Axis(None, f"{METRICS[name].label} ({unit})", "linear", list_round_ticks(min(xs), max(xs)))
    title = shorten(f"Elo on {', '.join(findings.ratings.tasks)} against memory", _LONGEST_TITLE)
    note = "Bars: 95 % of random orders of the same matches; 1000: as good as the others on average."
    return draw_chart(Chart("elo", title, note, "Elo", axis, [Line("Elo", 0, 0, dots, [])], subtitle=note))
