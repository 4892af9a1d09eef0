"""Moderated variances: each between its own and that of all, as far as the variances are alike (empirical Bayes).

The variances are taken as drawn from a scaled inverse chi-squared distribution with `prior` degrees of freedom, which
each gains from the others: few where variances are unlike, many where they are alike (Smyth 2004,
doi 10.2202/1544-6115.1027).
"""

import math
from typing import Final

import numpy as np
from scipy import special

from sweeplab.statistics.intervals import Array

_LIKELY: Final = np.array([0.5, 1.0, 1.5, 2.0, 3.0, 4.0])
_AVERAGED: Final = np.array([0.5, 1.0, 2.0, 4.0, 8.0, 16.0])  # no study shows that spreads are equal
_NUM_STEPS: Final = 30  # of the fixed point
_STEPS: Final = 4  # to which an averaged prior is rounded, so that critical values are shared: 2^(1/4)


def moderate_variances(variance_K: Array, df_K: Array) -> tuple[Array, float]:
    """Moderated variances, shape (K,), and the degrees of freedom that each gains from the others.

    Both the prior and its scale maximize the likelihood (a scaled F distribution), the prior over a grid.
    """
    prior = float(_LIKELY[np.argmax(_find_log_likelihoods(variance_K, df_K, _LIKELY))])
    return draw_together(variance_K, df_K, prior), prior


def average_prior(variance_K: Array, df_K: Array) -> float:
    """The degrees of freedom that a variance gains from the others: 1 over the mean of 1 / prior, given the variances.

    Before the study, .5 to 16 are taken as equally likely on a logarithmic scale. The likeliest value is not enough:
    with two seeds and seven settings it is the largest of the grid in seven studies of ten whose spreads are as unlike
    as lognormal ones with a standard deviation of 1, and 16 % of these called a setting worse that was not.
    """
    log_likelihood_P = _find_log_likelihoods(variance_K, df_K, _AVERAGED)
    weight_P = np.exp(log_likelihood_P - log_likelihood_P.max())
    prior = float(weight_P.sum() / (weight_P / _AVERAGED).sum())
    return float(2 ** (round(_STEPS * math.log2(prior)) / _STEPS))


def draw_together(variance_K: Array, df_K: Array, prior: float) -> Array:
    """The moderated variances for a prior, with the scale of the largest likelihood."""
    (scale,) = _find_scales(variance_K, df_K, np.array([prior]))
    moderated_K: Array = (prior * scale + df_K * variance_K) / (prior + df_K)
    return moderated_K


def _find_scales(variance_K: Array, df_K: Array, prior_P: Array) -> Array:
    """The scale of the largest likelihood for each prior, by a fixed point."""
    prior_P1, weighed_K = prior_P[:, None], df_K * variance_K
    gap_K, gap_P1 = _find_log_gap(df_K), _find_log_gap(prior_P1)
    scale_P1 = np.exp((np.log(variance_K) - gap_K + gap_P1).mean(axis=1, keepdims=True))
    factor_PK = (df_K + prior_P1) / prior_P1 * weighed_K / df_K.sum()
    for _ in range(_NUM_STEPS):
        scale_P1 = (factor_PK / (1 + weighed_K / (prior_P1 * scale_P1))).sum(axis=1, keepdims=True)
    scale_P: Array = scale_P1[:, 0]
    return scale_P


def _find_log_likelihoods(variance_K: Array, df_K: Array, prior_P: Array) -> Array:
    """Of each prior with its best scale."""
    scale_P = _find_scales(variance_K, df_K, prior_P)
    log_density_PK = _compute_log_density(variance_K / scale_P[:, None], df_K, prior_P[:, None])
    log_likelihood_P: Array = log_density_PK.sum(axis=1) - len(df_K) * np.log(scale_P)
    return log_likelihood_P


def _find_log_gap(df: Array) -> Array:
    """The expected logarithm of a chi-squared variable over its degrees of freedom."""
    gap: Array = special.digamma(df / 2) - np.log(df / 2)
    return gap


def _compute_log_density(ratio: Array, df: Array, other_df: Array) -> Array:
    """Of the F distribution; SciPy's takes three times as long, most of it to check its arguments."""
    log_density: Array = (
        (df * np.log(df / other_df) + (df - 2) * np.log(ratio) - (df + other_df) * np.log1p(df / other_df * ratio)) / 2
        - special.betaln(df / 2, other_df / 2)
    )  # fmt: skip
    return log_density
