"""What the figures draw: places, means and scales, in plotly's schema and in the SVG."""

import math
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import plotly.graph_objects as go
import pytest

from sweeplab.records import HeldoutPoint, Score, Status, StudyFacts, TrialRecord
from sweeplab.report.axes import round_ticks, scale_of
from sweeplab.report.charts import Chart, charts
from sweeplab.report.drawing import Scale, drawing
from sweeplab.report.figures import embedded_json, figure
from sweeplab.report.pages import marked_up
from sweeplab.report.settings import group

RecordFactory = Callable[..., TrialRecord]
FactsFactory = Callable[..., StudyFacts]


def charts_of(facts: StudyFacts, records: list[TrialRecord]) -> dict[str, Chart]:
    return {chart.ident: chart for chart in charts(facts, group(facts, records))}


def scored(make_record: RecordFactory, number: int, params: dict[str, Any], seed: int, value: float) -> TrialRecord:
    return make_record(number, params, seed, scores={"new": {"acc": Score(value, 0.05, 10)}})


@pytest.mark.parametrize(
    ("values", "log", "scale"),
    [
        ([1, 2, 4, 8], False, "log"),
        ([4, 8, 16, 32, 64], False, "log"),
        ([1e-4, 3e-4, 1e-3, 3e-3], False, "log"),
        ([1, 2, 3, 4], False, "linear"),
        ([0.0, 0.05, 0.1], False, "linear"),
        ([4, 8], False, "linear"),
        ([4, 8], True, "log"),
        ([True, False], False, "category"),
        (["a", 1], False, "category"),
        ([None, 1.0], False, "category"),
    ],
)
def test_scale_of_an_axis(values: list[Any], log: bool, scale: str) -> None:
    assert scale_of(values, log) == scale


def test_every_seed_is_a_dot_and_the_line_runs_through_means(
    make_facts: FactsFactory, make_record: RecordFactory
) -> None:
    rows = [(4, 0, 0.25), (4, 1, 0.75), (8, 0, 0.5), (8, 1, 1.0), (16, 0, 1.0), (16, 1, 1.0)]
    records = [scored(make_record, n, {"adapter.rank": rank}, seed, v) for n, (rank, seed, v) in enumerate(rows)]
    chart = charts_of(make_facts(), records)["score-0"]
    (line,) = chart.lines
    assert sorted((dot.x, dot.y) for dot in line.dots) == sorted((float(rank), value) for rank, _, value in rows)
    assert [(dot.x, dot.y) for dot in line.path] == [(4.0, 0.5), (8.0, 0.75), (16.0, 1.0)]
    drawn = figure(chart)
    assert drawn["layout"]["xaxis"]["type"] == "log"
    assert drawn["layout"]["xaxis"]["ticktext"] == ["4", "8", "16"]
    assert drawn["layout"]["yaxis"]["range"] == [-0.03, 1.03]


def test_every_figure_is_valid_plotly(make_facts: FactsFactory, make_record: RecordFactory) -> None:
    records = [scored(make_record, n, {"adapter.rank": 2**n}, 0, 0.5) for n in range(3)]
    found = charts_of(make_facts(), records)
    assert list(found) == ["score-0", "heldout-loss", "loss-curves", "train-time", "peak-memory"]
    for chart in found.values():
        go.Figure(figure(chart))  # raises on a name or a value that plotly does not know


def test_several_tasks_are_lines_of_one_figure_and_other_metrics_have_their_own(
    make_facts: FactsFactory, make_record: RecordFactory
) -> None:
    score = Score(0.5, None, 10)
    scores = {"new": {"exact_match": score}, "old": {"acc": score}, "text": {"word_perplexity": Score(40.0, None, 10)}}
    found = charts_of(make_facts(), [make_record(0, {"adapter.rank": 4}, scores=scores)])
    assert [line.label for line in found["score-0"].lines] == ["new, exact match", "old, acc"]
    assert found["score-1"].y_title == "word_perplexity"
    assert not found["score-1"].unit_range


def test_second_axis_is_a_line_each(make_facts: FactsFactory, make_record: RecordFactory) -> None:
    space = {"optimizer": {"choices": ["sgd", "adamw"]}, "adapter.rank": {"choices": [4, 8]}}
    points = [(name, rank) for name in ("sgd", "adamw") for rank in (4, 8)]
    records = [
        scored(make_record, n, {"optimizer": name, "adapter.rank": rank}, 0, n / 4)
        for n, (name, rank) in enumerate(points)
    ]
    chart = charts_of(make_facts(space=space), records)["score-0"]
    assert chart.axis is not None
    assert chart.axis.name == "rank"
    assert {line.label: [(dot.x, dot.y) for dot in line.path] for line in chart.lines} == {
        "optimizer=sgd": [(4.0, 0.0), (8.0, 0.25)],
        "optimizer=adamw": [(4.0, 0.5), (8.0, 0.75)],
    }


def test_many_other_values_are_a_cloud_without_lines(make_facts: FactsFactory, make_record: RecordFactory) -> None:
    space = {"adapter.rank": {"choices": [4, 8]}, "optimizer.lr": {"low": 1e-5, "high": 1e-2, "log": True}}
    records = [
        scored(make_record, n, {"adapter.rank": 4 * (1 + n % 2), "optimizer.lr": 1e-5 * (n + 1)}, 0, 0.5)
        for n in range(20)
    ]
    (line,) = charts_of(make_facts(space=space), records)["score-0"].lines
    assert len(line.dots) == 20
    assert line.path == []


def test_names_are_categories_side_by_side(make_facts: FactsFactory, make_record: RecordFactory) -> None:
    space = {"optimizer": {"choices": ["sgd", "adamw"]}}
    score = Score(0.5, None, 10)
    records = [
        make_record(n, {"optimizer": name}, scores={"new": {"acc": score}, "old": {"acc": score}})
        for n, name in enumerate(["adamw", "sgd"])
    ]
    chart = charts_of(make_facts(space=space), records)["score-0"]
    assert chart.axis is not None
    assert [tick.text for tick in chart.axis.ticks] == ["sgd", "adamw"]
    assert not chart.joined
    new, old = ([round(dot.x) for dot in line.dots] for line in chart.lines)
    assert new == old == [0, 1]
    assert chart.lines[0].dots[0].x < chart.lines[1].dots[0].x
    assert all(trace["mode"] == "markers" for trace in figure(chart)["data"])


def test_a_study_without_an_axis_has_one_place(make_facts: FactsFactory, make_record: RecordFactory) -> None:
    found = charts_of(make_facts(space={}), [scored(make_record, n, {}, n, 0.5) for n in range(2)])
    axis = found["score-0"].axis
    assert axis is not None
    assert [tick.text for tick in axis.ticks] == ["as configured"]
    assert "svg" in marked_up().get_template("score.svg.j2").render(drawing(found["score-0"]))


def test_a_key_that_some_trials_lack_has_a_place_of_its_own(
    make_facts: FactsFactory, make_record: RecordFactory
) -> None:
    records = [scored(make_record, 0, {"adapter.rank": 4}, 0, 0.5), scored(make_record, 1, {}, 0, 0.25)]
    found = charts_of(make_facts(), records)
    axis = found["score-0"].axis
    assert axis is not None
    assert [tick.text for tick in axis.ticks] == ["4", "\u2013"]


def test_loss_curves_keep_failed_trials(make_facts: FactsFactory, make_record: RecordFactory) -> None:
    points = [HeldoutPoint(0, 3.0), HeldoutPoint(10, 400.0)]
    failed = make_record(1, {"adapter.rank": 4}, 1, None, status=Status.DIVERGED, heldout_losses=points)
    chart = charts_of(make_facts(), [make_record(0, {"adapter.rank": 4}), failed])["loss-curves"]
    assert [(dot.x, dot.y) for dot in chart.lines[1].path] == [(0, 3.0), (10, 400.0)]
    assert "diverged" in chart.lines[1].path[0].text
    assert chart.log_y
    assert [line.listed for line in chart.lines] == [True, False]


def test_names_cannot_become_markup_in_plotly_or_script(make_facts: FactsFactory, make_record: RecordFactory) -> None:
    evil = "</script><b>x</b>"
    facts = make_facts(space={"data.name": {"choices": [evil]}})
    chart = charts_of(facts, [scored(make_record, 0, {"data.name": evil}, 0, 0.5)])["score-0"]
    drawn = figure(chart)
    assert drawn["layout"]["xaxis"]["ticktext"] == ["&lt;/script&gt;&lt;b&gt;x&lt;/b&gt;"]
    assert "<" not in drawn["data"][0]["text"][0]
    assert "<" not in embedded_json({"raw": evil, "line": "\u2028"})
    assert "\u2028" not in embedded_json("\u2028")


def test_pixels_of_a_log_scale() -> None:
    scale = Scale(1, 64, 100, 700, log=True)
    assert [scale(value) for value in (1, 8, 64)] == [100, 400, 700]
    assert Scale(3, 3, 0, 10)(3) == 5


@pytest.mark.parametrize(
    ("low", "high", "texts"),
    [
        (0.0, 1.0, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (37.0, 52.0, ["38", "40", "42", "44", "46", "48", "50", "52"]),
        (0.31, 0.34, ["0.310", "0.315", "0.320", "0.325", "0.330", "0.335", "0.340"]),
        (5.0, 5.0, ["5"]),
    ],
)
def test_round_ticks(low: float, high: float, texts: list[str]) -> None:
    assert [tick.text for tick in round_ticks(low, high)] == texts
    assert all(low - 1e-9 <= tick.place <= high + 1e-9 for tick in round_ticks(low, high))


def test_svg_draws_every_dot_where_its_value_is(make_facts: FactsFactory, make_record: RecordFactory) -> None:
    records = [scored(make_record, n, {"adapter.rank": 4 * 2**n}, 0, value) for n, value in enumerate((0.0, 0.5, 1.0))]
    chart = charts_of(make_facts(name="a<b"), records)["score-0"]
    root = ElementTree.fromstring(marked_up().get_template("score.svg.j2").render(drawing(chart)))
    circles = list(root.iter("{http://www.w3.org/2000/svg}circle"))
    xs, ys = ([float(one.get(name, "nan")) for one in circles] for name in ("cx", "cy"))
    assert len(circles) == 3
    assert not any(map(math.isnan, xs + ys))
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1])
    assert ys[0] - ys[1] == pytest.approx(ys[1] - ys[2])
    assert ys[0] > ys[2]
