"""Intervals against SciPy, and how the error is spent over looks."""

import numpy as np
import pytest
from scipy import stats

from sweeplab.statistics.intervals import (
    estimate_from_items,
    estimate_over_items,
    estimate_share,
    level_with,
    shrink_best,
)


def test_the_errors_of_all_looks_sum_to_that_of_the_study() -> None:
    assert sum(1 - level_with(count) for count in range(2, 5000)) == pytest.approx(0.05, rel=1e-3)
    assert level_with(2) == pytest.approx(0.975)
    assert level_with(1) == 0.95


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


def test_values_by_item_have_the_same_interval() -> None:
    values = np.random.default_rng(0).normal(size=50)
    low, high = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    estimate = estimate_from_items(values)
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=1e-12)
    assert estimate_from_items(values[:1]).low is None


def test_the_best_is_drawn_towards_the_others_as_far_as_chance_goes() -> None:
    means = np.array([1.0, 2.0, 3.0, 4.0, 10.0])
    squares = ((means - 4.0) ** 2).sum()
    assert shrink_best(means, 4, 2.0) == pytest.approx(4 + (1 - 2 * 4.0 / squares) * 6)
    assert shrink_best(means, 4, 0.0) == 10.0
    assert shrink_best(means, 4, 100.0) == 4.0
    assert shrink_best(means[:3], 2, 5.0) == 3.0


def test_without_a_difference_the_best_of_many_is_expected_in_the_middle() -> None:
    random = np.random.default_rng(0)
    draws = random.normal(size=(500, 16))
    shrunken = np.mean([shrink_best(means, int(means.argmax()), 1.0) for means in draws])
    assert draws.max(axis=1).mean() > 1.7
    assert shrunken < 0.5
