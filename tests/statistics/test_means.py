"""Means of settings: a single one against SciPy, several by hand, and what holds for all at once by simulation."""

import numpy as np
import pytest
from scipy import stats

from sweeplab.statistics.intervals import level_with
from sweeplab.statistics.means import estimate_means
from sweeplab.statistics.results import ResultTable


def test_one_setting_has_students_interval() -> None:
    values = np.array([[0.8, 0.9, 0.7]])
    (estimate,) = estimate_means(ResultTable(values))
    low, high = stats.ttest_1samp(values[0], 0.0).confidence_interval(level_with(3))
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=1e-12)
    assert estimate.covers == "seeds"


def test_one_setting_of_a_loss_has_the_interval_of_its_logarithm() -> None:
    values = np.array([[0.8, 0.9, 0.7]])
    (estimate,) = estimate_means(ResultTable(values, is_log=True))
    low, high = stats.ttest_1samp(np.log(values[0]), 0.0).confidence_interval(level_with(3))
    assert estimate.low is not None
    assert estimate.high is not None
    assert estimate.high / estimate.low == pytest.approx(np.exp(high - low))


def test_settings_share_a_variance_and_what_a_seed_does_to_all_has_its_own_freedoms() -> None:
    values = np.random.default_rng(3).normal(size=(7, 3)) * 0.01 + np.array([0.0, 0.5, -0.4])
    of_all = level_with(3)
    of_one = of_all ** (1 / 7)
    effects = values.mean(axis=0) - values.mean()
    residuals = values - values.mean(axis=1, keepdims=True) - effects
    pooled = (residuals**2).sum() / 12
    common = effects.var(ddof=1) - pooled / 7
    reach = np.hypot(
        stats.t.ppf((1 + of_one) / 2, 12) * np.sqrt(pooled / 3), stats.t.ppf((1 + of_all) / 2, 2) * np.sqrt(common / 3)
    )
    for estimate, mean in zip(estimate_means(ResultTable(values)), values.mean(axis=1), strict=True):
        assert estimate.low is not None
        assert estimate.value == pytest.approx(mean)
        assert mean - estimate.low == pytest.approx(reach, rel=0.05)  # wider where moderated
        assert mean - estimate.low >= reach * (1 - 1e-9)


def test_a_setting_with_one_seed_has_no_interval() -> None:
    estimates = estimate_means(ResultTable(np.array([[1.0, 2.0], [1.5, np.nan], [1.2, 2.1]])))
    assert [one.low is None for one in estimates] == [False, True, False]


@pytest.mark.parametrize("of_seeds", [0.0, 2.7])
@pytest.mark.parametrize(("num_settings", "num_seeds"), [(7, 3), (16, 2)])
def test_the_interval_of_whichever_is_picked_holds(num_settings: int, num_seeds: int, of_seeds: float) -> None:
    """That of the best, one mean at a time, held in 71 to 83 % of studies."""
    random, covered = np.random.default_rng(1), 0
    for _ in range(300):
        values = random.normal(size=(num_settings, num_seeds)) + of_seeds * random.normal(size=num_seeds)
        best = estimate_means(ResultTable(values))[int(np.argmin(values.mean(axis=1)))]
        covered += best.low is not None and best.high is not None and best.low <= 0 <= best.high
    assert covered / 300 > 0.95 - 3 * (0.05 * 0.95 / 300) ** 0.5


def test_a_loss_that_spreads_far_more_has_the_interval_of_its_own_values() -> None:
    random = np.random.default_rng(0)
    values = np.exp(0.01 * random.normal(size=(7, 3)))
    values[6] = (0.03, 0.1, 0.065)
    estimate = estimate_means(ResultTable(values, is_log=True))[6]
    assert estimate.is_apart
    low, high = stats.ttest_1samp(values[6], 0.0).confidence_interval(level_with(3) ** (1 / 7))
    assert (estimate.low, estimate.high) == pytest.approx((low, high))
