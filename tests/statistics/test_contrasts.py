"""Differences against SciPy's tests and a mixed model's moments, and by simulation with seeds and items drawn anew."""

import time
import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from sweeplab.statistics.contrasts import (
    ResultTable,
    _compute_interaction_variance,
    _find_errors,
    _find_errors_from_best,
    _find_family_factor,
    compare_with_best,
    estimate_contrast,
)
from sweeplab.statistics.intervals import Estimate
from sweeplab.statistics.spreads import _simulate_limits

Array = NDArray[np.float64]


def trials(
    random: np.random.Generator, num_settings: int, num_seeds: int, num_items: int = 60, ahead: float = 0.0
) -> Array:
    """Right and wrong answers of settings that are alike: items of unlike difficulty, seeds and settings that meet.

    The first setting is better by `ahead`, in logits.
    """
    logits = (
        random.normal(0, 1.5, (1, 1, num_items))
        + random.normal(0, 0.4, (num_settings, 1, num_items))
        + random.normal(0, 0.3, (num_settings, num_seeds, 1))
        + random.normal(0, 0.3, (1, num_seeds, 1))
    )
    logits[0] += ahead
    return (random.random((num_settings, num_seeds, num_items)) < 1 / (1 + np.exp(-logits))).astype(float)


def table_of(items_KSN: Array) -> ResultTable:
    return ResultTable(items_KSN.mean(axis=2), items_KSN)


def covers_zero(estimate: Estimate) -> bool:
    return estimate.low is not None and estimate.high is not None and estimate.low <= 0 <= estimate.high


FIRST_MINUS_SECOND = np.array([1.0, -1.0])


def test_two_settings_have_the_paired_t_interval() -> None:
    values = np.random.default_rng(0).normal(size=(2, 3))
    found = estimate_contrast(ResultTable(values), FIRST_MINUS_SECOND)
    low, high = stats.ttest_rel(values[0], values[1]).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-12)
    assert found.covers == "seeds"


def test_one_seed_is_paired_by_item() -> None:
    items = trials(np.random.default_rng(0), 2, 1)
    found = estimate_contrast(table_of(items), FIRST_MINUS_SECOND)
    low, high = stats.ttest_rel(items[0, 0], items[1, 0]).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-12)
    assert found.covers == "items"


def test_one_seed_without_items_has_the_standard_errors() -> None:
    found = estimate_contrast(
        ResultTable(np.array([[0.5], [0.7]]), None, np.array([[0.03], [0.04]])), FIRST_MINUS_SECOND
    )
    assert found.se == pytest.approx(0.05)
    assert (found.low, found.high) == pytest.approx((-0.2 - 1.959964 * 0.05, -0.2 + 1.959964 * 0.05), abs=1e-6)
    assert estimate_contrast(ResultTable(np.array([[0.5], [0.7]])), FIRST_MINUS_SECOND).low is None


def test_what_is_left_of_a_two_way_table_is_worked_out_by_hand() -> None:
    values = np.array([[1.0, 2.0, 4.0], [2.0, 5.0, 3.0]])
    difference = values[0] - values[1]
    variance, df = _compute_interaction_variance(values)
    assert 2 * variance == pytest.approx(difference.var(ddof=1))
    assert df == 2


def test_what_a_seed_does_to_all_settings_cancels() -> None:
    values = np.random.default_rng(0).normal(size=(4, 3))
    weights = np.array([1.0, -1.0, 0.0, 0.0])
    shifted = estimate_contrast(ResultTable(values + np.array([10.0, -20.0, 30.0])), weights)
    assert shifted.se == pytest.approx(estimate_contrast(ResultTable(values), weights).se)


def test_the_variance_has_the_moments_of_the_mixed_model() -> None:
    """Means over many draws of the squared standard error and of the difference's own variance agree within 10 %."""
    random = np.random.default_rng(0)
    found = [estimate_contrast(table_of(trials(random, 2, 6)), FIRST_MINUS_SECOND) for _ in range(800)]
    told = np.mean([one.se**2 for one in found if one.se is not None])
    assert told == pytest.approx(np.var([one.value for one in found]), rel=0.1)


@pytest.mark.parametrize(("num_settings", "num_seeds"), [(2, 2), (2, 3), (7, 2), (7, 3), (7, 6)])
def test_a_difference_of_nominal_95_percent_holds_for_new_seeds_and_items(num_settings: int, num_seeds: int) -> None:
    random = np.random.default_rng(num_seeds)
    weights = np.zeros(num_settings)
    weights[:2] = FIRST_MINUS_SECOND
    draws = [estimate_contrast(table_of(trials(random, num_settings, num_seeds)), weights) for _ in range(600)]
    held = np.mean([one.low <= 0 <= one.high for one in draws if one.low is not None and one.high is not None])
    assert 0.925 < held < 0.98  # 600 draws know a share of 0.95 to 0.018


def test_one_seed_does_not_cover_the_seed() -> None:
    """What the report says of one seed is so: an interval over items holds for the seeds' mean in 3 of 4 draws only."""
    random = np.random.default_rng(0)
    draws = [estimate_contrast(table_of(trials(random, 2, 1, 200)), FIRST_MINUS_SECOND) for _ in range(400)]
    held = np.mean([one.low <= 0 <= one.high for one in draws if one.low is not None and one.high is not None])
    assert held < 0.85


@pytest.mark.parametrize(("num_settings", "num_seeds"), [(2, 2), (7, 2), (7, 3), (7, 8)])
def test_alike_settings_are_all_tied_in_95_of_100_studies(num_settings: int, num_seeds: int) -> None:
    random = np.random.default_rng(num_seeds)
    wrong = 0
    for _ in range(800):
        found = compare_with_best(table_of(trials(random, num_settings, num_seeds)), 1)
        assert found is not None
        wrong += len(found.tied) < num_settings
    assert wrong / 800 < 0.05 + 3 * (0.05 * 0.95 / 800) ** 0.5  # three standard errors of what so many draws know


def test_the_best_and_what_cannot_be_told_from_it() -> None:
    values = np.array([[0.10, 0.12, 0.11], [0.80, 0.81, 0.83], [0.81, 0.80, 0.82], [0.50, 0.52, 0.51]])
    found = compare_with_best(ResultTable(values), 1)
    assert found is not None
    assert (found.best, found.tied) == (1, [1, 2])
    lost = compare_with_best(ResultTable(values), -1)
    assert lost is not None
    assert (lost.best, lost.tied) == (0, [0])


def test_all_pairs_at_once_are_tukeys() -> None:
    """Without a seed's own effect the intervals are wider or narrower only by the error's degrees of freedom."""
    assert _find_family_factor(2, 10, True) == pytest.approx(stats.t.ppf(0.975, 10), abs=1e-6)
    values = np.random.default_rng(0).normal(size=(4, 30))
    means = stats.tukey_hsd(*values).confidence_interval(0.95)
    df, variance = 4 * 29, np.mean(values.var(axis=1, ddof=1))
    reach = _find_family_factor(4, df, True) * np.sqrt(2 * variance / 30)
    assert means.high[0, 1] - means.low[0, 1] == pytest.approx(2 * reach, rel=1e-6)


def test_equal_values_are_a_tie_and_unequal_exact_ones_are_not() -> None:
    found = compare_with_best(ResultTable(np.array([[1.0, 1.0], [1.0, 1.0], [2.0, 2.0]])), -1)
    assert found is not None
    assert found.tied == [0, 1]


def test_a_thousand_trials_of_800_items_take_seconds() -> None:
    items = trials(np.random.default_rng(0), 333, 3, 800)
    began = time.process_time()
    assert compare_with_best(table_of(items), 1) is not None
    assert time.process_time() - began < 10


@pytest.mark.parametrize("num_seeds", [2, 3])
def test_differences_hold_beside_a_setting_that_diverges(num_seeds: int) -> None:
    """Six settings of deviation 1, a seventh of 100, all alike in their means, and seeds that move all of them.

    With one variance for all, differences from the seventh hold in 55 of 100 studies, and one in four to five calls a
    setting worse that is not.
    """
    random = np.random.default_rng(num_seeds)
    deviations_K1 = np.array([1.0] * 6 + [100.0])[:, None]
    near, far = np.eye(7)[0] - np.eye(7)[1], np.eye(7)[0] - np.eye(7)[6]
    held, wrong, pooled_wrong = np.zeros(2), 0, 0
    for _ in range(500):
        values_KS = random.normal(size=(7, num_seeds)) * deviations_K1 + random.normal(size=num_seeds)
        table = ResultTable(values_KS)
        held += [covers_zero(estimate_contrast(table, weights)) for weights in (near, far)]
        found = compare_with_best(table, 1)
        assert found is not None
        wrong += len(found.tied) < 7
        variance, df = _compute_interaction_variance(values_KS)
        reach = _find_family_factor(7, df, True) * np.sqrt(2 * variance / num_seeds)
        pooled_wrong += np.ptp(values_KS.mean(axis=1)) > reach
    assert (held / 500).min() > 0.92
    assert wrong / 500 < 0.09
    assert pooled_wrong / 500 > 0.14


@pytest.mark.parametrize(
    ("num_flat", "num_alike", "num_seeds", "of_seeds"), [(4, 4, 2, 0.0), (6, 2, 2, 0.0), (8, 4, 3, 0.1)]
)
def test_settings_without_any_spread_do_not_dilute_what_the_others_share(
    num_flat: int, num_alike: int, num_seeds: int, of_seeds: float
) -> None:
    """Some settings at 0 with every seed, the others alike at 0.5; `of_seeds`: the spread of what a seed does to those.

    With a variance of all settings a difference of two of the others holds in 64 to 83 of 100 studies where seeds do
    nothing to all, and one in five to seven calls one of them worse that is not. A difference of one of them from 0
    holds in 76 to 92, and in 84 with seeds that move the others together, if that is taken to cancel.
    """
    random = np.random.default_rng(num_seeds)
    weights = np.zeros((2, num_flat + num_alike))
    weights[0, -2:], weights[1, [0, -1]] = (1, -1), (-1, 1)
    held, wrong = np.zeros(2), 0
    for _ in range(500):
        values_KS = np.zeros((num_flat + num_alike, num_seeds))
        values_KS[num_flat:] = random.normal(0.5, 0.05, (num_alike, num_seeds)) + random.normal(0, of_seeds, num_seeds)
        near, far = (estimate_contrast(ResultTable(values_KS), row) for row in weights)
        found = compare_with_best(ResultTable(values_KS), 1)
        assert found is not None
        held += [covers_zero(near), far.low is not None and far.high is not None and far.low <= 0.5 <= far.high]
        wrong += not {*range(num_flat, num_flat + num_alike)} <= {*found.tied}
    assert (held / 500).min() > 0.92
    assert wrong / 500 < 0.08


def test_a_lone_setting_with_any_spread_has_the_paired_t_interval() -> None:
    values = np.array([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [0.4, 0.5, 0.7]])
    found = estimate_contrast(ResultTable(values), np.array([-1.0, 0.0, 1.0]))
    low, high = stats.ttest_rel(values[2], values[0]).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-12)


@pytest.mark.parametrize("num_items", [None, 5])
def test_differences_from_the_best_are_the_contrasts_of_all_weights(num_items: int | None) -> None:
    random = np.random.default_rng(0)
    items_KSN = random.normal(size=(601, 2, num_items or 1)) + random.normal(size=(1, 2, 1))
    table = ResultTable(items_KSN.mean(axis=2), items_KSN if num_items else None)
    found, told = _find_errors_from_best(table, 7), _find_errors(table, np.eye(601) - np.eye(601)[7])
    assert found is not None
    assert told is not None
    assert found.se_M() == pytest.approx(told.se_M(), rel=1e-12)
    assert (found.df_M() == told.df_M()).all()
    assert (found.seeds.shared_M == told.seeds.shared_M).all()


def test_thousands_of_settings_fit_in_memory() -> None:
    """Of the 4,000 simulated studies that tell which of 1,500 settings spread more, the values alone are 96 MB."""
    table = ResultTable(np.random.default_rng(0).normal(size=(1500, 2)))
    _simulate_limits.cache_clear()
    tracemalloc.start()
    assert compare_with_best(table, 1) is not None
    highest = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert highest < 80e6


@pytest.mark.slow
@pytest.mark.parametrize(("num_settings", "num_seeds"), [(7, 8), (7, 3)])
@pytest.mark.parametrize("ahead", [0.0, 0.3])
def test_the_true_best_is_hardly_ever_told_from_the_best(num_settings: int, num_seeds: int, ahead: float) -> None:
    """Of 3,000 studies each, with seven settings; `ahead` in logits, where 0 lets any setting be the best.

    Measured with eight seeds: the best lost in 0.4 % (none of 3,000 with 0.3 ahead), any setting called worse that is
    not in 2.8 %, 95.3 % of the intervals of one difference hold; with three seeds 0.9 %, 4.5 % and 95.2 %.
    """
    random = np.random.default_rng(num_seeds)
    weights = np.zeros(num_settings)
    weights[:2] = FIRST_MINUS_SECOND
    lost = held = wrong = 0
    for _ in range(3000):
        items_KSN = trials(random, num_settings, num_seeds, 100, ahead)
        found = compare_with_best(table_of(items_KSN), 1)
        assert found is not None
        lost += 0 not in found.tied
        wrong += len(found.tied) < num_settings
        if not ahead:
            held += covers_zero(estimate_contrast(table_of(items_KSN), weights))
    assert lost / 3000 < 0.02
    assert ahead or wrong / 3000 < 0.06
    assert ahead or 0.94 < held / 3000 < 0.965


@pytest.mark.slow
@pytest.mark.parametrize("num_seeds", [2, 3, 5, 8])
@pytest.mark.parametrize("num_settings", [2, 7])
def test_coverage_and_family_error_over_many_draws(num_settings: int, num_seeds: int) -> None:
    random = np.random.default_rng(num_seeds)
    weights = np.zeros(num_settings)
    weights[:2] = FIRST_MINUS_SECOND
    held = wrong = 0
    for _ in range(4000):
        table = table_of(trials(random, num_settings, num_seeds, 100))
        one, family = estimate_contrast(table, weights), compare_with_best(table, 1)
        assert one.low is not None
        assert one.high is not None
        assert family is not None
        held += one.low <= 0 <= one.high
        wrong += len(family.tied) < num_settings
    assert 0.93 < held / 4000 < 0.975
    assert wrong / 4000 < 0.057
