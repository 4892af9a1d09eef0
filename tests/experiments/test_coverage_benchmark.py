"""The coverage benchmark: what it counts by hand, and a quick share of its shapes within bounds of binomial error."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from scipy import stats

from experiments.benchmarks.coverage.__main__ import run_shape
from experiments.benchmarks.coverage.measures import measure_looks, measure_study, summarize
from experiments.benchmarks.coverage.report import find_failures, format_page
from experiments.benchmarks.coverage.shapes import Shape, list_shapes
from experiments.benchmarks.coverage.studies import MASKS_KA, Additive, Study, weigh_toggles
from sweeplab.statistics.intervals import LEVEL, level_with
from sweeplab.statistics.results import ResultTable

SURE = 1e-4  # chance that a bound is exceeded although the promise holds


def most_wrong(num_draws: int, share: float) -> int:
    return int(stats.binom.ppf(1 - SURE, num_draws, share))


def least_held(num_draws: int, share: float) -> int:
    return int(stats.binom.ppf(SURE, num_draws, share))


@cache
def run_named(name: str, num_draws: int) -> dict[str, dict[str, Any]]:
    (shape,) = (shape for shape in list_shapes() if shape.name == name)
    quantities: dict[str, dict[str, Any]] = run_shape(shape, num_draws, num_draws)["quantities"]
    return quantities


def count(name: str, quantity: str, num_draws: int) -> int:
    one = run_named(name, num_draws)[quantity]
    return round(float(one["value"]) * int(one["num_draws"]))


def test_names_are_unique() -> None:
    names = [shape.name for shape in list_shapes()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    "name",
    [
        "equal, 7 settings, seeds 3",
        "lognormal 0.5, 7 settings, seeds 5",
        "lognormal 0.5, 16 settings, seeds 2",
        "lognormal 1, 64 settings, seeds 2",
        "seed effect 2.7, 7 settings, seeds 2",
        "20 %, logarithms, 7 settings, seeds 2",
        "p 0.985, 200 items, 7 settings, seeds 2",
        "near 1, 50 items with results, 7 settings, seeds 2",
        "loss of 20 examples, 7 settings, seeds 2",
        "10 % missing at random, 7 settings, seeds 2",
    ],
)
def test_promises_hold_at_one_look(name: str) -> None:
    num_draws = 200
    assert count(name, "alike wrong", num_draws) <= most_wrong(num_draws, 1 - LEVEL)
    for quantity in ("means", "best mean", "differences", "contrast"):
        num_stated = run_named(name, num_draws)[f"alike {quantity}"]["num_draws"]  # fewer where runs are missing
        assert count(name, f"alike {quantity}", num_draws) >= least_held(num_stated, LEVEL), quantity


def test_worse_settings_are_seen() -> None:
    """At 6 standard deviations and 3 seeds nearly all, as by the usual test."""
    found = run_named("equal, 7 settings, seeds 3", 200)
    assert found["half power"]["value"] > 0.9
    assert found["half tukey power"]["value"] > 0.95
    assert count("equal, 7 settings, seeds 3", "half wrong", 200) <= most_wrong(200, 1 - level_with(3))


def test_promises_hold_at_any_look_and_those_of_the_usual_test_do_not() -> None:
    name, num_draws = "equal, 4 settings, seeds 2 to 10", 100
    assert count(name, "alike wrong", num_draws) <= most_wrong(num_draws, 1 - LEVEL)
    assert count(name, "alike tukey wrong", num_draws) > most_wrong(num_draws, 1 - LEVEL)
    for quantity in ("means", "best mean", "differences", "contrast"):
        assert count(name, f"alike {quantity}", num_draws) >= least_held(num_draws, LEVEL), quantity


def test_main_effects_hold_where_seeds_act_on_toggles() -> None:
    found = run_named("as in targets seed x toggle, 63 settings, seeds 2", 60)["alike main effects"]
    assert found["value"] > LEVEL - 4 * found["se"]


def test_the_best_number_is_too_good_and_the_shrunken_one_is_not() -> None:
    found = run_named("equal, 7 settings, seeds 3", 200)
    assert found["alike naive bias"]["value"] == pytest.approx(1.3522 / 3**0.5, abs=0.1)  # E max of 7 normals
    assert abs(found["alike shrunken bias"]["value"]) < found["alike naive bias"]["value"] / 2


def study_of(values: list[list[float]], effects: list[float]) -> Study:
    return Study(ResultTable(np.array(values)), 1, np.array(effects), np.array(effects), 1.0)


FAR_APART = [[10.0, 10.1, 9.9], [0.0, 0.2, -0.1], [0.1, 0.0, 0.1]]


def test_calls_are_right_or_wrong_by_the_true_means() -> None:
    right = measure_study(study_of(FAR_APART, [10.0, 0.0, 0.0]))
    assert (right["wrong"], right["power"], right["best lost"], right["calls"]) == (0.0, 1.0, 0.0, 2.0)
    wrong = measure_study(study_of(FAR_APART, [0.0, 0.0, -1.0]))
    assert (wrong["wrong"], wrong["power"], wrong["best lost"]) == (1.0, 1.0, 0.0)
    assert measure_study(study_of(FAR_APART, [0.0, 1.0, -1.0]))["best lost"] == 1.0
    assert (right["means"], right["differences"], right["contrast"], right["tukey wrong"]) == (1.0, 1.0, 1.0, 0.0)
    assert (wrong["means"], wrong["differences"], wrong["contrast"], wrong["tukey wrong"]) == (0.0, 0.0, 0.0, 1.0)


def test_one_seed_states_nothing() -> None:
    assert measure_study(study_of([[1.0], [2.0]], [0.0, 0.0])) == {"wrong": 0.0, "calls": 0.0, "best lost": 0.0}


def test_one_wrong_look_counts_and_one_stops_at_the_first_call() -> None:
    calm = [10.0, 10.1, 9.9, 10.0]
    late = [[*calm[:3], -80.0], [0.0, 0.2, -0.1, 90.0], [0.1, 0.0, 0.1, 0.0]]
    measures = measure_looks(study_of(late, [10.0, 0.0, 0.0]))
    assert measures["wrong"] == 0.0
    assert measures["stopped power"] == 1.0
    assert measures["power"] == 0.0
    assert measure_looks(study_of(late, [0.0, 0.0, 0.0]))["wrong"] == 1.0


def test_a_share_without_spread_has_an_error() -> None:
    assert summarize([{"a": 0.0}] * 96)["a"].se == pytest.approx((0.02 * 0.98 / 96) ** 0.5)
    two = summarize([{"a": 0.0}, {"a": 1.0}, {}])["a"]
    assert (two.value, two.num_draws) == (0.5, 2)
    assert two.se == pytest.approx(0.5)


def test_weights_of_a_toggle_are_those_of_pairs() -> None:
    weights_AK = weigh_toggles()
    assert weights_AK.sum(axis=1) == pytest.approx(0, abs=1e-12)
    assert (weights_AK > 0).sum(axis=1).tolist() == [31] * 6  # the mask of the toggle on its own has no pair
    assert weights_AK @ (3.0 * MASKS_KA[:, 2] + MASKS_KA[:, 5]) == pytest.approx([0, 0, 3, 0, 0, 1], abs=1e-12)


def test_a_shape_gives_the_same_numbers_again() -> None:
    shape = Shape("a group", "equal", Additive(), 3, 2)
    first, again = (run_shape(shape, 5, 5)["quantities"] for _ in range(2))
    assert first == again
    assert run_shape(replace(shape, kind="other"), 5, 5)["quantities"] != first


def result_of(**values: float) -> dict[str, Any]:
    quantities = {
        name.replace("_", " "): {"value": value, "se": 0.005, "num_draws": 9} for name, value in values.items()
    }
    return {
        "name": "a shape",
        "group": "A group",
        "num_draws": 9,
        "num_other_draws": 9,
        "statistics": "abc",
        "quantities": quantities,
    }


@pytest.mark.parametrize(
    ("values", "cell", "fails"),
    [
        ({"alike_wrong": 0.05}, "| a shape | 5.0 ± 0.5 |", False),
        ({"alike_wrong": 0.065}, "| a shape | **6.5 ± 0.5** |", False),
        ({"alike_wrong": 0.08}, "| a shape | **8.0 ± 0.5** |", True),
        ({"alike_means": 0.94}, "| a shape | 94.0 ± 0.5 |", False),
        ({"alike_means": 0.9, "half_means": 0.95}, "| a shape | **90.0 ± 0.5**; 95.0 ± 0.5 |", True),
        ({"alike_naive_bias": 0.5}, "| a shape | 0.50 ± 0.01 |", False),
    ],
)
def test_what_is_beyond_a_bar_is_marked_and_what_surely_is_listed(
    values: dict[str, float], cell: str, fails: bool
) -> None:
    results = [result_of(**values)]
    page = format_page(results, 1, {"python": "3"})
    assert cell in page
    assert bool(find_failures(results)) == fails
    assert ("Nothing." in page) != fails


def test_shapes_of_other_statistics_are_marked() -> None:
    results = [result_of(alike_wrong=0.05) for _ in range(3)]
    results[1] |= {"statistics": "def", "name": "another"}
    page = format_page(results, 3, {"python": "3"})
    assert "statistics abc, statistics def (marked °)." in page
    assert "| another° | 5.0" in page
    assert "| a shape | 5.0" in page
