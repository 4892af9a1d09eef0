"""Moderated variances: the likelihood by brute force with SciPy's F distribution."""

import numpy as np
import pytest
from scipy import optimize, stats

from sweeplab.statistics.intervals import Array
from sweeplab.statistics.moderated import average_prior, draw_together, moderate_variances


def draw_variances(num_settings: int, df: float, spread: float) -> Array:
    random = np.random.default_rng(0)
    variances: Array = random.chisquare(df, size=num_settings) / df * np.exp(spread * random.normal(size=num_settings))
    return variances


def fit_scale(variances: Array, df: Array, prior: float) -> tuple[float, float]:
    """The best scale, and minus its log-likelihood."""

    def loss(log_scale: float) -> float:
        return -float(stats.f.logpdf(variances / np.exp(log_scale), df, prior).sum() - len(df) * log_scale)

    fit = optimize.minimize_scalar(loss, bounds=(-5, 5), method="bounded", options={"xatol": 1e-9})
    return float(np.exp(fit.x)), float(fit.fun)


def test_moderated_variances_maximize_the_likelihood() -> None:
    df, variances = np.full(30, 2.0), draw_variances(30, 2.0, 1.0)
    fits = {one: fit_scale(variances, df, one) for one in (0.5, 1.0, 1.5, 2.0, 3.0, 4.0)}
    best = min(fits, key=lambda one: fits[one][1])
    moderated, prior = moderate_variances(variances, df)
    assert prior == best
    assert moderated == pytest.approx((prior * fits[best][0] + df * variances) / (prior + df), rel=1e-3)


@pytest.mark.parametrize("spread", [0.0, 1.0, 3.0])
def test_an_averaged_prior_is_that_of_all_by_their_likelihoods(spread: float) -> None:
    df, variances = np.full(9, 1.0), draw_variances(9, 1.0, spread)
    priors = np.array([0.5, 1.0, 2.0, 4.0, 8.0, 16.0])
    losses = np.array([fit_scale(variances, df, one)[1] for one in priors])
    likelihoods = np.exp(losses.min() - losses)
    exact = likelihoods.sum() / (likelihoods / priors).sum()
    prior = average_prior(variances, df)
    assert prior == pytest.approx(exact, rel=2 ** (1 / 8) - 1 + 1e-3)  # to the next of four steps of an octave
    assert 4 * np.log2(prior) == pytest.approx(round(4 * np.log2(prior)), abs=1e-9)
    scale, _ = fit_scale(variances, df, prior)
    assert draw_together(variances, df, prior) == pytest.approx((prior * scale + variances) / (prior + 1), rel=1e-3)


def test_alike_spreads_are_drawn_together_and_unlike_ones_are_not() -> None:
    df, alike, unlike = np.full(40, 4.0), draw_variances(40, 4.0, 0.0), draw_variances(40, 4.0, 2.0)
    assert moderate_variances(alike, df)[1] == 4 > 2 * moderate_variances(unlike, df)[1]
    assert average_prior(alike, df) > 8 > 4 * average_prior(unlike, df)


def test_few_variances_are_not_taken_for_alike_and_many_are() -> None:
    few, many = draw_variances(7, 1.0, 0.0), draw_variances(64, 1.0, 0.0)
    assert average_prior(few, np.ones(7)) < 8 < average_prior(many, np.ones(64))
