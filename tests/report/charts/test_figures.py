"""What the figures draw: places, means, scales and colours, in pixels of the SVG."""

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final
from xml.etree import ElementTree

import numpy as np
import pytest

from sweeplab.records.record import (
    BaseScore,
    HeldoutPoint,
    Phase,
    RungScores,
    Score,
    Status,
    StudyFacts,
    TrainPoint,
    TrialRecord,
)
from sweeplab.report.charts.axes import Axis
from sweeplab.report.charts.chart import Chart, Dot, Line
from sweeplab.report.charts.drawing import LETTER, PixelScale, draw_chart, lay_out_chart, list_legend, shorten_ticks
from sweeplab.report.charts.figures import build_lead, build_study_charts, draw_figures
from sweeplab.report.charts.parallel import build_parallel_chart, lay_out_parallel
from sweeplab.report.charts.ranking import RankedRow, RankingChart, build_ranking_chart, has_many_axes, lay_out_ranking
from sweeplab.report.charts.scatter import build_metric_charts
from sweeplab.report.charts.ticks import list_round_ticks
from sweeplab.report.charts.tradeoffs import build_phase_memory_chart, build_tradeoff_charts
from sweeplab.report.colors import PALETTE
from sweeplab.report.evidence.estimates import gather_evidence
from sweeplab.report.evidence.settings import group_by_setting
from sweeplab.report.findings.importance import Importance

SVG: Final = "{http://www.w3.org/2000/svg}"
RecordFactory = Callable[..., TrialRecord]
FactsFactory = Callable[..., StudyFacts]


def charts_of(facts: StudyFacts, records: list[TrialRecord]) -> dict[str, Chart]:
    return {chart.ident: chart for chart in build_study_charts(facts, group_by_setting(facts, records), [], [])}


def scored(
    make_record: RecordFactory, number: int, params: dict[str, Any], seed: int, value: float, **others: Any
) -> TrialRecord:
    return make_record(number, params, seed, **others, scores={"new": {"acc": Score(value, 0.05, 10)}})


def test_every_seed_is_a_dot_and_the_line_runs_through_means(
    make_facts: FactsFactory, make_record: RecordFactory
) -> None:
    rows = [(4, 0, 0.25), (4, 1, 0.75), (8, 0, 0.5), (8, 1, 1.0), (16, 0, 1.0), (16, 1, 1.0)]
    records = [scored(make_record, n, {"adapter.rank": rank}, seed, v) for n, (rank, seed, v) in enumerate(rows)]
    chart = charts_of(make_facts(), records)["score-0"]
    (line,) = chart.lines
    assert sorted((dot.x, dot.y) for dot in line.dots) == sorted((float(rank), value) for rank, _, value in rows)
    assert [(dot.x, dot.y) for dot in line.path] == [(4.0, 0.5), (8.0, 0.75), (16.0, 1.0)]
    drawn = lay_out_chart(chart)
    assert chart.axis.scale == "log"
    assert [tick.text for tick in drawn["x_ticks"]] == ["4", "8", "16"]
    assert [tick.text for tick in drawn["y_ticks"]] == ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]


def test_every_figure_is_valid_svg_with_units(make_facts: FactsFactory, make_record: RecordFactory) -> None:
    losses = [TrainPoint(10, 2.0, 1e-3), TrainPoint(20, 1.0, 1e-3)]
    records = [
        scored(make_record, n, {"adapter.rank": 2**n, "optimizer.lr": 10.0 ** -(1 + n % 3)}, 0, n / 9, losses=losses)
        for n in range(9)
    ]
    facts = make_facts()
    settings = group_by_setting(facts, records)
    found = gather_evidence(facts, settings, "scores.new.acc", None)
    assert found is not None
    shares = [Importance("rank", (0.7, 0.8), (0.5, 0.5)), Importance("lr", (0.2, 0.3), (0.5, 0.5))]
    drawn = {
        one.ident: one
        for one in draw_figures(facts, settings, build_study_charts(facts, settings, [], []), {"": found}, shares)
    }
    assert list(drawn) == [
        *("score-0", "tradeoff-0", "importance"),
        *("heldout-loss", "train-time", "peak-memory", "loss-curves", "training-curves", "phase-memory"),
    ]
    texts = {}
    for ident, one in drawn.items():
        root = ElementTree.fromstring(one.svg)
        texts[ident] = "".join(root.itertext())
        numbers = [
            float(n) for mark in root.iter(f"{SVG}circle") for n in (mark.get("cx", "nan"), mark.get("cy", "nan"))
        ]
        assert all(0 <= n <= 1000 for n in numbers), ident
    for ident, unit in [("heldout-loss", "(nats/target)"), ("train-time", "(s)"), ("peak-memory", "(MiB)")]:
        assert unit in texts[ident]
    assert "optimizer step" in texts["training-curves"]
    assert "training time (s)" in texts["tradeoff-0"]  # the resident set ranks nothing


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
    assert [tick.text for tick in chart.axis.ticks] == ["sgd", "adamw"]
    assert not chart.joined
    new, old = ([round(dot.x) for dot in line.dots] for line in chart.lines)
    assert new == old == [0, 1]
    assert chart.lines[0].dots[0].x < chart.lines[1].dots[0].x
    assert not any(line["joined"] for line in lay_out_chart(chart)["lines"])


def test_a_study_without_an_axis_has_one_place(make_facts: FactsFactory, make_record: RecordFactory) -> None:
    found = charts_of(make_facts(space={}), [scored(make_record, n, {}, n, 0.5) for n in range(2)])
    axis = found["score-0"].axis
    assert [tick.text for tick in axis.ticks] == ["as configured"]
    assert "svg" in draw_chart(found["score-0"])


def test_a_key_that_some_trials_lack_has_a_place_of_its_own(
    make_facts: FactsFactory, make_record: RecordFactory
) -> None:
    records = [scored(make_record, 0, {"adapter.rank": 4}, 0, 0.5), scored(make_record, 1, {}, 0, 0.25)]
    found = charts_of(make_facts(), records)
    axis = found["score-0"].axis
    assert [tick.text for tick in axis.ticks] == ["4", "\u2013"]


def test_loss_curves_keep_failed_trials(make_facts: FactsFactory, make_record: RecordFactory) -> None:
    points = [HeldoutPoint(0, 3.0), HeldoutPoint(10, 400.0)]
    failed = make_record(1, {"adapter.rank": 4}, 1, None, status=Status.DIVERGED, heldout_losses=points)
    chart = charts_of(make_facts(), [make_record(0, {"adapter.rank": 4}), failed])["loss-curves"]
    assert [(dot.x, dot.y) for dot in chart.lines[1].path] == [(0, 3.0), (10, 400.0)]
    assert "diverged" in chart.lines[1].path[0].text
    assert chart.log_y
    assert [line.listed for line in chart.lines] == [True, False]


def test_curves_are_coloured_in_the_order_of_the_values(make_facts: FactsFactory, make_record: RecordFactory) -> None:
    ranks = (16, 4, 8, 4)
    chart = charts_of(make_facts(), [make_record(n, {"adapter.rank": rank}, n) for n, rank in enumerate(ranks)])[
        "loss-curves"
    ]
    assert chart.ramped
    assert [(line.label, line.color) for line in chart.lines if line.listed] == [
        ("rank=4", 0),
        ("rank=8", 4),
        ("rank=16", 8),
    ]
    assert [entry.text for entry in list_legend(chart)] == ["rank=4", "rank=8", "rank=16"]


def test_many_curves_are_a_sample_that_the_note_names(make_facts: FactsFactory, make_record: RecordFactory) -> None:
    records = [make_record(n, {"adapter.rank": 4 + n % 3}) for n in range(450)]
    chart = charts_of(make_facts(), records)["loss-curves"]
    assert len(chart.lines) == 150
    assert "150 of 450 trials are drawn, one in 3 by their numbers." in chart.note


def test_a_trade_off_joins_what_no_other_beats(make_facts: FactsFactory, make_record: RecordFactory) -> None:
    made = [(4, 0.25, 10), (8, 0.75, 30), (16, 0.5, 20), (32, 0.5, 40)]  # rank, score, seconds
    records = [
        scored(make_record, n, {"adapter.rank": rank}, 0, value, phases={"train": Phase(seconds)})
        for n, (rank, value, seconds) in enumerate(made)
    ]
    facts = make_facts(objectives={"scores.new.acc": "maximize"})
    found = gather_evidence(facts, group_by_setting(facts, records), "scores.new.acc", None)
    assert found is not None
    (chart,) = build_tradeoff_charts(found)
    (front,) = chart.lines  # with one seed no setting is called dominated
    assert [(dot.x, dot.y) for dot in front.path] == [(10.0, 0.25), (20.0, 0.5), (30.0, 0.75)]
    assert sorted((dot.x, dot.y) for dot in front.dots) == [(10.0, 0.25), (20.0, 0.5), (30.0, 0.75), (40.0, 0.5)]
    assert all(dot.left is None for dot in front.dots)
    assert "With one seed no setting is called dominated" in chart.note


def test_what_is_surely_beaten_is_apart_in_a_trade_off(make_facts: FactsFactory, make_record: RecordFactory) -> None:
    made = [(4, 4.0, 10), (8, 1.0, 30), (16, 2.0, 20), (32, 2.0, 40)]  # rank, loss, seconds
    records = [
        make_record(
            3 * n + seed,
            {"adapter.rank": rank},
            seed,
            value + 0.01 * (seed * (n + 1) % 3),
            phases={"train": Phase(seconds + 0.01 * ((seed + n) % 3))},
        )
        for n, (rank, value, seconds) in enumerate(made)
        for seed in (0, 1, 2)
    ]
    facts = make_facts(seeds=[0, 1, 2])
    found = gather_evidence(facts, group_by_setting(facts, records), "heldout_loss_nats_per_token", None)
    assert found is not None
    (chart,) = build_tradeoff_charts(found)
    beaten, front = chart.lines
    assert [round(dot.x) for dot in beaten.dots] == [40]
    assert beaten.is_pale
    assert [round(dot.x) for dot in front.dots] == [round(dot.x) for dot in front.path] == [10, 20, 30]
    assert all(dot.left is not None and dot.left < dot.x < (dot.right or 0) for dot in front.dots)


def test_a_cohorts_memory_is_one_dot(make_record: RecordFactory) -> None:
    together = [make_record(n, {}, cohort=[0, 1], phases={"train": Phase(1.0, 4 * 2**30)}) for n in (0, 1)]
    chart = build_phase_memory_chart([*together, make_record(2, {}, phases={"train": Phase(1.0, 2 * 2**30)})])
    assert chart is not None
    assert sorted(dot.y for dot in chart.lines[0].dots) == [2.0, 4.0]
    assert [dot.y for dot in chart.lines[0].path] == [3.0]
    assert build_phase_memory_chart([make_record(0, {}, phases={"train": Phase(1.0)})]) is None


def test_parallel_lines_meet_their_values_and_the_best_is_on_top(
    make_facts: FactsFactory, make_record: RecordFactory
) -> None:
    space = {
        "optimizer": {"choices": ["sgd", "adamw"]},
        "optimizer.lr": {"low": 1e-4, "high": 1e-2, "log": True},
        "schedule": {"choices": ["constant", "cosine"]},
    }
    rates = [1e-4 * 100 ** (n / 12) for n in range(13)]
    others = [{"optimizer": ("sgd", "adamw")[n % 2], "schedule": ("constant", "cosine")[n // 7]} for n in range(13)]
    records = [
        make_record(n, {"optimizer.lr": rate} | others[n], 0, 1 + (n - 4) ** 2 / 16) for n, rate in enumerate(rates)
    ]
    facts = make_facts(space=space)
    chart = build_parallel_chart(facts, group_by_setting(facts, records))
    assert chart is not None
    assert [rail.name for rail in chart.rails] == [
        *("optimizer", "lr", "schedule", "held-out loss", "peak memory of the process, training", "training time")
    ]
    assert chart.threads[-1].values[:4] == [0.0, rates[4], 0.0, 1.0]
    drawn = lay_out_parallel(chart)
    assert (drawn["lines"][0]["color"], drawn["lines"][-1]["color"]) == (0, 8)
    heights = {text: points[1][1] for text, points in ((one["text"], one["points"]) for one in drawn["lines"])}
    by_trial = [next(y for text, y in heights.items() if text.startswith(f"trial {n},")) for n in (0, 6, 12)]
    assert by_trial[0] - by_trial[1] == pytest.approx(by_trial[1] - by_trial[2], abs=0.11)  # even on a log scale
    two = make_facts(space={key: space[key] for key in ("optimizer", "optimizer.lr")})
    fewer = [replace(one, params={key: one.params[key] for key in two.space}) for one in records]
    assert build_parallel_chart(two, group_by_setting(two, fewer)) is None  # two keys: other figures say as much


def test_the_base_is_a_level_where_it_is_near_and_a_note_where_it_is_not(
    make_facts: FactsFactory, make_record: RecordFactory
) -> None:
    base = BaseScore("0" * 32, 9.0, {"new": {"acc": Score(0.125, 0.05, 10)}}, 1.0, {})
    records = [scored(make_record, n, {"adapter.rank": 2**n}, 0, n / 4, loss=1.0 + n / 8) for n in range(3)]
    drawn = build_metric_charts(make_facts(), group_by_setting(make_facts(), records), [], [base, base])
    found = {chart.ident: chart for chart in drawn}
    assert [(level.y, level.color) for level in found["score-0"].levels] == [(0.125, len(PALETTE) - 1)]
    scale = lay_out_chart(found["score-0"])
    zero, tenth = (tick.at for tick in scale["y_ticks"][:2])
    assert scale["levels"][0]["y"] == pytest.approx(zero + 0.625 * (tenth - zero), abs=0.02)
    assert found["heldout-loss"].levels == ()
    assert "Outside of the drawing: base model without adapter: 9.000." in found["heldout-loss"].note
    assert found["train-time"].levels == ()


def test_names_cannot_become_markup(make_facts: FactsFactory, make_record: RecordFactory) -> None:
    evil = "</svg><b>x</b>"
    facts = make_facts(space={"data.name": {"choices": [evil]}})
    chart = charts_of(facts, [scored(make_record, 0, {"data.name": evil}, 0, 0.5)])["score-0"]
    root = ElementTree.fromstring(draw_chart(chart))
    assert evil in "".join(root.itertext())
    assert not list(root.iter(f"{SVG}b"))


def test_pixels_of_a_log_scale() -> None:
    scale = PixelScale(1, 64, 100, 700, log=True)
    assert [scale(value) for value in (1, 8, 64)] == [100, 400, 700]
    assert PixelScale(3, 3, 0, 10)(3) == 5


def test_svg_draws_every_dot_where_its_value_is(make_facts: FactsFactory, make_record: RecordFactory) -> None:
    records = [scored(make_record, n, {"adapter.rank": 4 * 2**n}, 0, value) for n, value in enumerate((0.0, 0.5, 1.0))]
    chart = charts_of(make_facts(name="a<b"), records)["score-0"]
    root = ElementTree.fromstring(draw_chart(chart))
    circles = [one for one in root.iter(f"{SVG}circle") if one.get("class") == "dot"]
    xs, ys = ([float(one.get(name, "nan")) for one in circles] for name in ("cx", "cy"))
    assert len(circles) == 3
    assert not any(map(math.isnan, xs + ys))
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1])
    assert ys[0] - ys[1] == pytest.approx(ys[1] - ys[2])
    assert ys[0] > ys[2]


def test_scores_at_rungs_are_a_line_per_setting_as_far_as_its_trials_came(
    make_facts: FactsFactory, make_record: RecordFactory
) -> None:
    def at(step: int, value: float) -> RungScores:
        return RungScores(step, {"new": {"acc": Score(value, None, 8)}})

    rows = [(4, 0, 0.2, 0.8), (4, 1, 0.4, 0.6), (8, 0, 0.1, 0.5)]
    records = [
        scored(make_record, n, {"adapter.rank": rank}, seed, end, rung_scores=[at(10, first), at(20, 0.5)])
        for n, (rank, seed, first, end) in enumerate(rows)
    ]
    pruned = make_record(3, {"adapter.rank": 8}, 1, None, rung_scores=[at(10, 0.3)])
    facts = make_facts(seeds=[0, 1])
    drawn = {one.ident: one for one in build_study_charts(facts, group_by_setting(facts, [*records, pruned]), [], [])}
    lines = {line.label: [(dot.x, dot.y) for dot in line.path] for line in drawn["rungs-0"].lines}
    assert lines == {
        "rank=4": [(10, pytest.approx(0.3)), (20, 0.5), (40, pytest.approx(0.7))],
        "rank=8": [(10, pytest.approx(0.2))],
    }
    assert drawn["rungs-0"].unit_range


def test_ticks_of_one_folder_show_their_ends() -> None:
    paths = [f"experiments/forgetting/{name}.json" for name in ("facts", "facts_and_a_half")]
    assert shorten_ticks(paths) == ["…s/forgetting/facts.json", "…g/facts_and_a_half.json"]
    assert {len(text) for text in shorten_ticks(paths)} == {24}
    assert shorten_ticks(["a" * 30, "b"]) == ["a" * 23 + "…", "b"]


def test_labels_stand_beside_their_dots_and_below_each_other() -> None:
    """Of two dots at one height the lower label moves down; near the right end labels stand on the left."""
    dots = [Dot(0.0, 1.0, "", label="first"), Dot(0.01, 0.999, "", label="second"), Dot(1.0, 0.0, "", label="last")]
    axis = Axis(None, "x", "linear", list_round_ticks(0.0, 1.0))
    labels = lay_out_chart(Chart("c", "t", "", "y", axis, [Line("", 0, 0, dots, [])]))["lines"][0]["labels"]
    assert [one["text"] for one in labels] == ["first", "second", "last"]
    assert labels[1]["y"] - labels[0]["y"] == 15
    assert [one["anchor"] for one in labels] == ["start", "start", "end"]


def test_many_axes_are_ranked_by_their_means_instead_of_drawn_against_one(
    make_facts: FactsFactory, make_record: RecordFactory
) -> None:
    """Four toggles, each of which lowers the loss by its own amount: the sum says the order."""
    gains = {"adapter.lora_query": 0.1, "adapter.lora_key": 0.2, "adapter.lora_mlp": 0.4, "adapter.lora_head": 0.8}
    points = [dict(zip(gains, values, strict=True)) for values in itertools.product([False, True], repeat=4)]
    noise = np.random.default_rng(0).normal(0, 1e-3, (16, 2))
    records = [
        make_record(2 * n + seed, point, seed, 3 - sum(gains[key] for key in gains if point[key]) + noise[n, seed])
        for n, point in enumerate(points)
        for seed in (0, 1)
    ]
    facts = make_facts(space={key: {"choices": [False, True]} for key in gains}, seeds=[0, 1])
    settings = group_by_setting(facts, records)
    found = gather_evidence(facts, settings, "heldout_loss_nats_per_token", None)
    assert found is not None
    ranking = build_ranking_chart(facts, found)
    assert [row.name for row in ranking.rows[:3]] == ["all 4 of lora", "key + MLP + head", "query + MLP + head"]
    assert ranking.rows[-1].name == "no lora"
    assert [row.is_tied for row in ranking.rows] == [True] + [False] * 15
    by_hand = sorted(float(np.mean([one.heldout_loss_nats_per_token or 0 for one in s.records])) for s in settings)
    assert [row.dot.x for row in ranking.rows] == pytest.approx(by_hand)
    assert all((row.dot.left or 9) < row.dot.x < (row.dot.right or 0) for row in ranking.rows)
    charts = build_study_charts(facts, settings, [], [], {"": found})
    assert not any(chart.ident in ("heldout-loss", "train-time", "score-0") for chart in charts)
    lead = build_lead(facts, settings, [], {"": found})
    assert lead is not None
    root = ElementTree.fromstring(lead.draw_picture().svg)
    names = [one.text for one in root.iter(f"{SVG}text") if one.get("text-anchor") == "end"]
    assert names == [row.name for row in ranking.rows[:12]]
    shown = [float(one.get("cx", "nan")) for one in root.iter(f"{SVG}circle")]
    assert shown == sorted(shown)
    three = list(gains)[:3]
    fewer = [one for one in records if not one.params["adapter.lora_head"]]
    few_facts = make_facts(space={key: {"choices": [False, True]} for key in three}, seeds=[0, 1])
    few = gather_evidence(few_facts, group_by_setting(few_facts, fewer), "heldout_loss_nats_per_token", None)
    assert few is not None
    assert not has_many_axes(few_facts, few)


@pytest.mark.parametrize("is_log", [False, True])
@pytest.mark.parametrize(("low", "high"), [(1.824, 1.989), (0.002, 0.9), (1100.0, 99000.0)])
def test_ticks_of_a_narrow_ranking_stand_apart(low: float, high: float, is_log: bool) -> None:
    row = RankedRow("a setting with a name of some length", Dot((low + high) / 2, 0.0, "", left=low, right=high), True)
    ticks = lay_out_ranking(RankingChart("", "", "", [row], is_log), standalone=False, width=520)["ticks"]
    halves = [LETTER * len(tick.text) / 2 for tick in ticks]
    pairs = itertools.pairwise(zip(ticks, halves, strict=True))
    assert all(one.at + half < after.at - its_half for (one, half), (after, its_half) in pairs)


@pytest.mark.parametrize("top", [1.0, 0.00012, 1_234_567.0])
def test_ticks_of_y_leave_room_for_the_title(top: float) -> None:
    axis = Axis(None, "x", "linear", list_round_ticks(0.0, 1.0))
    drawn = lay_out_chart(Chart("c", "t", "", "y", axis, [Line("", 0, 0, [Dot(0, 0, ""), Dot(1, top, "")], [])]))
    widest = max(len(tick.text) for tick in drawn["y_ticks"])
    title_end, ticks_end = 16 + LETTER / 2, drawn["left"] - 8
    assert ticks_end - widest * LETTER >= title_end
    assert min(x for line in drawn["lines"] for x, _, _ in line["dots"]) > drawn["left"]
