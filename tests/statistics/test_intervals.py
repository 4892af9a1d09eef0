"""Intervals against SciPy, and by simulation: what they promise is what they hold, with two and three seeds too."""

import numpy as np
import pytest
from scipy import stats

from sweeplab.statistics.intervals import estimate_over_items, estimate_over_seeds, estimate_share


def test_one_setting_has_students_interval() -> None:
    values = np.array([[0.8, 0.9, 0.7]])
    (found,) = estimate_over_seeds(values)
    low, high = stats.ttest_1samp(values[0], 0.0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-12)
    assert (found.df, found.covers) == (2, "seeds")


def test_few_seeds_share_the_variance_of_the_one_way_analysis() -> None:
    values = np.array([[1.0, 2.0], [5.0, 5.5], [7.0, 9.0]])
    within = sum(((row - row.mean()) ** 2).sum() for row in values) / 3
    reach = stats.t.ppf(0.975, 3) * np.sqrt(within / 2)
    for found, row in zip(estimate_over_seeds(values), values, strict=True):
        assert (found.low, found.high) == pytest.approx((row.mean() - reach, row.mean() + reach), abs=1e-12)


def test_settings_without_any_spread_have_no_part_in_the_shared_variance() -> None:
    """Four settings beside four that are 0 with every seed: with a variance of all eight, intervals hold 82 %."""
    values = np.array([[0.0, 0.0], [1.0, 2.0], [0.0, 0.0], [5.0, 5.5]])
    reach = stats.t.ppf(0.975, 2) * np.sqrt((0.5 + 0.125) / 2 / 2)
    for found, row in zip(estimate_over_seeds(values), values, strict=True):
        assert (found.low, found.high) == pytest.approx((row.mean() - reach, row.mean() + reach), abs=1e-12)
        assert found.df == 2
    random, held = np.random.default_rng(0), 0
    for _ in range(600):
        values = np.vstack([np.zeros((4, 2)), random.normal(0.5, 0.05, (4, 2))])
        made = estimate_over_seeds(values)[4:]
        held += sum(one.low is not None and one.high is not None and one.low <= 0.5 <= one.high for one in made)
    assert 0.925 < held / 2400 < 0.97
    assert [(one.low, one.high) for one in estimate_over_seeds(np.ones((3, 2)))] == [(1.0, 1.0)] * 3


def test_six_seeds_keep_their_own_variance() -> None:
    values = np.random.default_rng(0).normal(size=(3, 6)) * [[1.0], [2.0], [3.0]]
    for found, row in zip(estimate_over_seeds(values), values, strict=True):
        low, high = stats.ttest_1samp(row, 0.0).confidence_interval(0.95)
        assert (found.low, found.high) == pytest.approx((low, high), abs=1e-12)


@pytest.mark.parametrize(("hits", "num_items"), [(0, 20), (3, 20), (150, 200), (200, 200)])
def test_a_share_has_wilsons_interval(hits: int, num_items: int) -> None:
    found = estimate_share(hits / num_items, num_items)
    told = stats.binomtest(hits, num_items).proportion_ci(0.95, method="wilson")
    assert (found.low, found.high) == pytest.approx((told.low, told.high), abs=1e-9)
    assert found.covers == "items"


def test_a_mean_over_items_has_its_standard_error() -> None:
    values = np.random.default_rng(0).normal(size=50)
    found = estimate_over_items(values.mean(), values.std(ddof=1) / 50**0.5, 50)
    low, high = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-12)


def coverage(num_seeds: int, ratio: float, num_settings: int = 7, draws: int = 700) -> list[float]:
    """Share of draws in which each setting's interval has its mean 0; deviations grow evenly from 1 to `ratio`."""
    random = np.random.default_rng(num_seeds)
    deviations_K = np.geomspace(1, ratio, num_settings)
    held_K = np.zeros(num_settings)
    for _ in range(draws):
        values_KS = random.normal(size=(num_settings, num_seeds)) * deviations_K[:, None]
        held_K += [
            one.low is not None and one.high is not None and one.low <= 0 <= one.high
            for one in estimate_over_seeds(values_KS)
        ]
    return list(held_K / draws)


@pytest.mark.parametrize("num_seeds", [2, 3, 8])
def test_intervals_of_nominal_95_percent_hold_95_percent(num_seeds: int) -> None:
    assert 0.93 < np.mean(coverage(num_seeds, ratio=1)) < 0.97


@pytest.mark.parametrize(("num_seeds", "num_wide"), [(2, 1), (3, 1), (3, 2), (5, 2)])
def test_a_setting_that_diverges_has_its_own_interval_and_leaves_the_others_theirs(
    num_seeds: int, num_wide: int
) -> None:
    """Deviations of 1 and, for one or two of seven settings, 100: one variance for all holds 46 to 68 % for these, and
    makes the others' intervals some thirty times too long."""
    random = np.random.default_rng(num_seeds)
    deviations_K = np.array([1.0] * (7 - num_wide) + [100.0] * num_wide)
    draws = random.normal(size=(400, 7, num_seeds)) * deviations_K[:, None]
    made = [estimate_over_seeds(values_KS) for values_KS in draws]
    ends_DK2 = np.array([[(one.low, one.high) for one in row] for row in made])
    held_K = ((ends_DK2[..., 0] <= 0) & (ends_DK2[..., 1] >= 0)).mean(axis=0)
    assert held_K.min() > 0.91
    assert 0.93 < held_K.mean() < 0.985
    reach_DK = (ends_DK2[..., 1] - ends_DK2[..., 0]) / 2
    together_D = np.sqrt(draws.var(axis=2, ddof=1).mean(axis=1) / num_seeds)
    together_D *= stats.t.ppf(0.975, 7 * (num_seeds - 1))
    assert (np.abs(draws.mean(axis=2)[:, -1]) < together_D).mean() < 0.75
    assert np.median(together_D) > 10 * np.median(reach_DK[:, 0])


def test_a_setting_that_spreads_more_has_too_short_an_interval_until_it_has_six_seeds() -> None:
    """What the report warns of: with a spread twice the smallest, three seeds give about 87 % instead of 95 %."""
    few, many = coverage(3, ratio=2), coverage(6, ratio=2)
    assert 0.93 < np.mean(few) < 0.97
    assert 0.82 < few[-1] < 0.92
    assert 0.92 < many[-1] < 0.98
