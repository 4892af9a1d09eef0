"""Two varied numbers as a grid: every cell has its setting's mean and interval, and can be read on its color."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweeplab.records.record import StudyFacts, TrialRecord
from sweeplab.report.charts.grid import GridChart, build_grid_chart, draw_grid
from sweeplab.report.colors import blend_color
from sweeplab.report.evidence.estimates import gather_evidence
from sweeplab.report.evidence.settings import first_objective, group_by_setting
from sweeplab.report.evidence.stored import read_stored_study

RecordFactory = Callable[..., TrialRecord]
FactsFactory = Callable[..., StudyFacts]
ROOT = Path(__file__).parents[3]
Losses = dict[tuple[int, Any], tuple[float, ...]]
LOSSES: Losses = {(4, 0.001): (2.0, 2.1), (4, 0.01): (1.5, 1.52), (4, 0.1): (3.0, 3.1), (8, 0.001): (1.0, 1.01)}


def build(facts: StudyFacts, records: list[TrialRecord]) -> GridChart | None:
    evidence = gather_evidence(facts, group_by_setting(facts, records), first_objective(facts)[0], None)
    assert evidence is not None
    return build_grid_chart(facts, evidence)


def trials(make_record: RecordFactory, losses: Losses) -> list[TrialRecord]:
    rows = [(rank, rate, seed, loss) for (rank, rate), of in losses.items() for seed, loss in enumerate(of)]
    return [
        make_record(number, {"adapter.rank": rank, "optimizer.lr": rate}, seed, loss)
        for number, (rank, rate, seed, loss) in enumerate(rows)
    ]


def test_cells_stand_where_their_values_are(make_facts: FactsFactory, make_record: RecordFactory) -> None:
    space = {"adapter.rank": {"choices": [4, 8]}, "optimizer.lr": {"choices": [0.001, 0.01, 0.1]}}
    chart = build(make_facts(space=space, seeds=[0, 1]), trials(make_record, LOSSES))
    assert chart is not None
    assert (chart.x_name, chart.columns) == ("lr", ["0.001", "0.01", "0.1"])
    assert (chart.y_name, chart.rows) == ("rank", ["8", "4"])  # larger ones above
    means = {(cell.column, cell.row): cell.mean for cell in chart.cells}
    assert means == {(0, 1): "2.050", (1, 1): "1.510", (2, 1): "3.050", (0, 0): "1.005"}
    shares = {(cell.column, cell.row): cell.share for cell in chart.cells}
    assert (shares[0, 0], shares[2, 1]) == (1.0, 0.0)
    assert [(cell.column, cell.row) for cell in chart.cells if cell.is_best] == [(0, 0)]
    svg = draw_grid(chart)
    assert svg.count("<title>rank=") == 4
    assert "rank=8, lr=0.001: 1.005 nats/target [" in svg


@pytest.mark.parametrize(
    "losses",
    [
        {(4, 0.001): (2.0,), (4, 0.01): (1.5,), (4, 0.1): (3.0,)},  # one axis
        {(4, 0.001): (2.0,), (8, 0.01): (1.5,), (16, 0.1): (3.0,)},  # too few cells
        {(4, "a"): (2.0,), (4, "b"): (1.5,), (4, "c"): (3.0,), (8, "a"): (1.0,), (8, "b"): (1.0,)},  # words
        {(4, 0.1): (2.0,), (4, 0.2): (1.5,), (8, 0.1): (3.0,), (8, 0.2): (3.0,)},  # four cells: a chart says as much
    ],
)
def test_what_is_no_grid_is_not_drawn(make_facts: FactsFactory, make_record: RecordFactory, losses: Losses) -> None:
    space = {"adapter.rank": {"choices": [4, 8, 16]}, "optimizer.lr": {"choices": []}}
    assert build(make_facts(space=space), trials(make_record, losses)) is None


def measure_contrast(color: str, ink: str) -> float:
    """WCAG 2's contrast of two colors as #rrggbb."""

    def light(code: str) -> float:
        parts = [int(code[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    bright, dark = sorted((light(color), light(ink)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def test_the_numbers_can_be_read_on_every_color(make_facts: FactsFactory, make_record: RecordFactory) -> None:
    css = (ROOT / "sweeplab/report/templates/plot.css").read_text()
    inks = dict(re.findall(r"\.plot \.(on-\w+) { fill: (#\w+); }", css))
    study = read_stored_study(ROOT / "reports" / "rank_lr")
    chart = build(study.facts, study.records)
    assert chart is not None
    pairs = re.findall(r'rx="3" fill="(#\w+)"/>.*?class="(on-\w+)', draw_grid(chart), re.DOTALL)
    assert len(pairs) == 16
    assert min(measure_contrast(color, inks[ink]) for color, ink in pairs) > 4
    assert {blend_color(cell.share) for cell in chart.cells} == {color for color, _ in pairs}
