"""Values by item whose mean is a ratio, or the exponential of one: against resampling."""

import numpy as np
import pytest

from sweeplab.statistics.items import exponentiate_mean, linearize_ratio


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
