"""Values by item whose mean is a ratio, or the exponential of one: against resampling."""

import numpy as np
import pytest

from sweeplab.statistics.intervals import estimate_from_items
from sweeplab.statistics.items import exponentiate_mean, linearize_ratio, sum_clusters


def losses() -> tuple[np.ndarray, np.ndarray]:
    """Examples of 1 to 60 tokens; those of few tokens lose more a token."""
    rng = np.random.default_rng(3)
    counts_N = rng.geometric(0.08, 400)
    return counts_N * rng.gamma(4.0, 0.4 + 1.5 / counts_N), counts_N


def resample(sums_N: np.ndarray, counts_N: np.ndarray) -> np.ndarray:
    """The ratio in each of 4,000 draws of as many items."""
    chosen = np.random.default_rng(4).integers(0, len(sums_N), (4000, len(sums_N)))
    return np.asarray(sums_N[chosen].sum(axis=1) / counts_N[chosen].sum(axis=1))


def test_a_ratio_s_values_have_its_mean_and_the_bootstrap_s_error() -> None:
    sums_N, counts_N = losses()
    values_N = linearize_ratio(sums_N, counts_N)
    assert values_N.mean() == pytest.approx(sums_N.sum() / counts_N.sum(), rel=1e-14)
    assert values_N.std(ddof=1) / 20 == pytest.approx(resample(sums_N, counts_N).std(), rel=0.05)
    plain = sums_N / counts_N  # the losses per token, whose mean is another number, with another error
    assert plain.mean() != pytest.approx(values_N.mean(), rel=0.05)


def test_with_equal_counts_it_is_the_items_own_mean() -> None:
    sums_N, _ = losses()
    assert linearize_ratio(sums_N, np.full(400, 8)) == pytest.approx(sums_N / 8, rel=1e-12)


def test_a_perplexity_s_values_have_its_mean_and_the_bootstrap_s_error() -> None:
    sums_N, counts_N = losses()
    values_N = exponentiate_mean(linearize_ratio(sums_N, counts_N))
    assert values_N.mean() == pytest.approx(np.exp(sums_N.sum() / counts_N.sum()), rel=1e-14)
    assert values_N.std(ddof=1) / 20 == pytest.approx(np.exp(resample(sums_N, counts_N)).std(), rel=0.05)


def test_clusters_have_the_cluster_robust_standard_error() -> None:
    """Miller 2024, arXiv 2411.00640, equation 4, as a loop over all pairs of items of one cluster."""
    rng = np.random.default_rng(5)
    clusters_N = rng.permutation(np.repeat(np.arange(60), rng.integers(1, 12, 60)))
    values_N = (rng.random(60)[clusters_N] + rng.random(len(clusters_N)) > 1).astype(float)
    num_items, mean = len(values_N), values_N.mean()
    total = 0.0
    for first in range(num_items):
        for second in range(num_items):
            if clusters_N[first] == clusters_N[second]:
                total += (values_N[first] - mean) * (values_N[second] - mean)
    values_C = sum_clusters(values_N, clusters_N)
    assert values_C.mean() == pytest.approx(mean, rel=1e-14)
    error = values_C.std(ddof=1) / np.sqrt(60)
    assert error == pytest.approx(np.sqrt(total) / num_items * np.sqrt(60 / 59), rel=1e-12)
    assert error > 1.5 * values_N.std(ddof=1) / np.sqrt(num_items)


def test_items_that_are_each_a_cluster_stay_as_they_are() -> None:
    sums_N, _ = losses()
    assert sum_clusters(sums_N, np.arange(400)) == pytest.approx(sums_N, rel=1e-12)


@pytest.mark.parametrize("deviation", [1.0, 2.0])
def test_a_perplexity_of_few_items_has_the_interval_of_its_logarithm(deviation: float) -> None:
    """It covers what it promises; an interval that is as long on both sides does not."""
    nats_RN = np.random.default_rng(6).normal(3.0, deviation, (2000, 20))
    covered = []
    for nats_N in nats_RN:
        found = estimate_from_items(exponentiate_mean(nats_N), is_log=True)
        logs = estimate_from_items(nats_N)
        assert found.low is not None
        assert found.high is not None
        assert logs.low is not None
        assert logs.high is not None
        assert (found.low, found.high) == pytest.approx((np.exp(logs.low), np.exp(logs.high)), rel=1e-9)
        covered.append(found.low <= np.exp(3.0) <= found.high)
    assert np.mean(covered) == pytest.approx(0.95, abs=3 * np.sqrt(0.95 * 0.05 / 2000))
