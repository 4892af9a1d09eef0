"""A race against Dunnett's table, worlds with a known best, and the rounds that follow from results."""

import math

import numpy as np
import pytest
from scipy import stats

from sweeplab.statistics.intervals import Array
from sweeplab.statistics.race import (
    RaceTable,
    Run,
    _find_dunnett,
    choose_runs,
    judge_race,
    list_further,
    list_neighbors,
    share_error,
)

NONE_OUT = np.zeros(4, dtype=bool)


def start(values_KS: Array) -> Array:
    return np.full(values_KS.shape, math.nan)


def choose(table: RaceTable, within: float) -> list[Run]:
    return choose_runs(table, judge_race(table), within)


def race(values_KS: Array, within: float, is_log: bool = False) -> tuple[RaceTable, int, bool]:
    """Runs a race on known values; its last table, the runs, and whether what was said after any round was wrong."""
    table = RaceTable(start(values_KS), np.zeros(len(values_KS), dtype=bool), is_log)
    num_runs, was_wrong = 0, False
    while runs := choose(table, within):
        losses_KS = table.losses_KS.copy()
        for setting, seed in runs:
            losses_KS[setting, seed] = values_KS[setting, seed]
        table, num_runs = RaceTable(losses_KS, table.out_K, is_log), num_runs + len(runs)
        standing = judge_race(table)
        assert standing is not None
        was_wrong |= standing.leader != 0 and standing.bound < 2.1  # setting 0 is the best by 2.1
    return table, num_runs, was_wrong


@pytest.mark.parametrize(
    ("num_settings", "df", "expected"),
    [(2, 10, 1.81), (3, 10, 2.15), (5, 10, 2.47), (3, 20, 2.03), (4, 20, 2.19), (6, 60, 2.28)],
)
def test_critical_values_are_those_of_dunnett_1955_table_1a(num_settings: int, df: int, expected: float) -> None:
    assert _find_dunnett(num_settings, df, 0.05) == pytest.approx(expected, abs=0.006)


def test_critical_values_are_those_of_scipy_s_multivariate_t() -> None:
    correlation = np.full((9, 9), 0.5) + 0.5 * np.eye(9)
    below = stats.multivariate_t(shape=correlation, df=40, seed=0).cdf([_find_dunnett(10, 40, 0.05)] * 9)
    assert below == pytest.approx(0.95, abs=0.001)


@pytest.mark.parametrize("df", [6, 8, 20, 200])
@pytest.mark.parametrize("error", [0.05, 0.05 / 110, 1e-5])
def test_far_out_they_lie_between_student_and_bonferroni(df: int, error: float) -> None:
    """Of 2 settings that all but coincide they are Student's; a coarse quadrature fell below it by a factor in p."""
    one, many = stats.t.ppf(1 - error, df), stats.t.ppf(1 - error / 15, df)
    value = _find_dunnett(16, df, error)
    assert one < value < many
    random = np.random.default_rng(5)
    if error == 0.05:
        draws = random.normal(size=(200_000, 16))
        spread = np.sqrt(random.chisquare(df, size=200_000) / df)
        largest = (draws[:, 1:] - draws[:, :1]).max(axis=1) / (math.sqrt(2) * spread)
        assert (largest > value).mean() == pytest.approx(error, abs=0.002)


def test_what_is_said_after_any_round_is_seldom_wrong() -> None:
    random, means_K = np.random.default_rng(0), np.array([-2.1, *[0.0] * 7])
    wrong = [race(means_K[:, None] + random.normal(size=(8, 10)), within=2.0)[2] for _ in range(150)]
    assert sum(wrong) <= 15  # 5 % of 150 are 7.5; 16 or more come by chance once in 300


def test_a_race_takes_far_fewer_runs_than_all_seeds_of_all_settings() -> None:
    random, means_K = np.random.default_rng(1), np.arange(16) * 1.0
    runs = [race(means_K[:, None] + 0.3 * random.normal(size=(16, 10)), within=0.5)[1] for _ in range(20)]
    assert np.mean(runs) < 0.25 * 160


def test_first_one_seed_of_every_setting_then_a_second_of_the_better_half() -> None:
    values_KS = np.arange(10.0)[::-1, None] + np.zeros((10, 3))
    table = RaceTable(start(values_KS), np.zeros(10, dtype=bool))
    assert choose(table, 0.1) == [Run(setting, 0) for setting in range(10)]
    table.losses_KS[:, 0] = values_KS[:, 0]
    assert choose(RaceTable(table.losses_KS, table.out_K), 0.1) == [Run(setting, 1) for setting in range(5, 10)]


def test_a_setting_that_fell_behind_catches_up_before_the_leader_goes_on() -> None:
    losses_KS = np.array(
        [[1.0, 1.2, 0.9, math.nan], [1.1, 1.0, 1.3, math.nan], [1.1, *[math.nan] * 3], [9, 9.1, math.nan, math.nan]]
    )
    assert choose(RaceTable(losses_KS, NONE_OUT), 0.1) == [Run(2, 1), Run(2, 2)]


def test_a_decided_race_has_no_further_runs_and_a_smaller_allowance_opens_it_again() -> None:
    values_KS = np.array([0.0, 3.0, 3.1, 3.2])[:, None] + 0.1 * np.random.default_rng(2).normal(size=(4, 10))
    table, _, _ = race(values_KS, within=1.0)
    standing = judge_race(table)
    assert standing is not None
    assert (standing.leader, len(standing.find_open(1.0)), choose(table, 1.0)) == (0, 0, [])
    noisy, _, _ = race(np.zeros((4, 1)) + np.random.default_rng(3).normal(size=(4, 3)), within=0.01)
    assert int(noisy.counts_K.max()) == 3  # no seed is left


def test_settings_that_are_out_cannot_lead_nor_get_a_run() -> None:
    losses_KS = np.array([[1.0, 1.1, math.nan], [0.2, 0.1, math.nan], [1.2, 1.0, math.nan], [1.3, 1.2, math.nan]])
    table = RaceTable(losses_KS, np.array([False, True, False, False]))
    standing = judge_race(table)
    assert standing is not None
    assert (standing.leader, standing.bounds_K[1]) == (0, -math.inf)
    assert all(run.setting != 1 for run in choose(table, 0.01))
    assert judge_race(RaceTable(losses_KS, np.ones(4, dtype=bool))) is None
    assert choose(RaceTable(losses_KS, np.ones(4, dtype=bool)), 0.01) == []


def test_of_a_setting_without_a_run_nothing_is_known() -> None:
    losses_KS = np.array([[1.0, 1.1], [1.2, 1.0], [math.nan, math.nan], [1.3, 1.2]])
    standing = judge_race(RaceTable(losses_KS, NONE_OUT))
    assert standing is not None
    assert standing.bounds_K[2] == math.inf
    alone = judge_race(RaceTable(losses_KS[:, :1], NONE_OUT))
    assert alone is not None
    assert np.isinf(alone.bounds_K[[1, 2, 3]]).all()  # with one seed nothing is known of the spread


def test_losses_are_raced_on_their_logarithms_and_bounds_are_in_their_unit() -> None:
    losses_KS = np.exp(np.random.default_rng(4).normal(scale=0.02, size=(4, 4))) * np.array([[0.5], [0.6], [2.0], [40]])
    standing, raw = judge_race(RaceTable(losses_KS, NONE_OUT, is_log=True)), judge_race(RaceTable(losses_KS, NONE_OUT))
    assert standing is not None
    assert raw is not None
    assert standing.bounds_K[1] < 0 < raw.bounds_K[1]  # the spread of 40 is not that of 0.5
    mean_log = np.log(losses_KS)
    ahead = float((mean_log[0] - mean_log[1]).mean())
    assert 0.5 * -math.expm1(-ahead) < standing.bounds_K[1] < 0.05


def test_stages_of_a_walk_share_the_whole_error() -> None:
    assert share_error(0) == 0.5
    assert math.fsum(share_error(stage) for stage in range(10_000)) == pytest.approx(1.0, abs=2e-4)


def test_a_stage_is_as_careful_as_a_race_with_less_error() -> None:
    values_KS = np.random.default_rng(3).normal(0, 1, (4, 6))
    stage = judge_race(RaceTable(values_KS, NONE_OUT, error_share=0.5))
    strict = judge_race(RaceTable(values_KS, NONE_OUT), level=0.975)
    assert stage is not None
    assert strict is not None
    np.testing.assert_allclose(stage.bounds_K, strict.bounds_K)


def test_neighbors_are_the_next_numbers_and_all_other_words() -> None:
    axes = ((16, 4, 64, 256), (2.0, 8.0), ("cosine", "linear", "constant"), (True, False))
    beside = list_neighbors(axes, (64, 2.0, "linear", True), {(16, 2.0, "linear", True)})
    assert set(beside) == {
        (256, 2.0, "linear", True),
        (64, 8.0, "linear", True),
        (64, 2.0, "cosine", True),
        (64, 2.0, "constant", True),
        (64, 2.0, "linear", False),
    } | {(64, 2.0, "linear", True)}


def test_further_out_lies_the_next_number_beyond_those_tried() -> None:
    rates = [1e-3, 3e-4, 3e-3, 1e-4]
    tried = [(rank, rate) for rank in (16, 4) for rate in (1e-3, 3e-4)]
    assert list_further(rates, 1, (16, 3e-4), tried) == [(16, 1e-4), (4, 1e-4)]
    assert list_further(rates, 1, (4, 1e-3), tried) == [(16, 3e-3), (4, 3e-3)]
    wider = [*tried, (16, 1e-4), (4, 1e-4)]
    assert list_further(rates, 1, (16, 1e-4), wider) == []  # there is none
    assert list_further(rates, 1, (16, 3e-4), wider) == []  # in between
    assert list_further(rates, 1, (16, 1e-3), [(16, 1e-3)]) == []  # one is no end
