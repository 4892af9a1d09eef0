"""How much settings spread over seeds: one variance for those that spread alike, a moderated one for each setting.

Few seeds say little about the spread of one setting, so that settings share what is known. A single pooled variance is
too small for the settings that spread more than the others (of 64 settings with two seeds, one was called worse in 40 %
of studies in which all were alike and spreads were lognormal with a standard deviation of 0.5). So each setting has a
moderated variance, too: between its own and the common one, as far as the spreads of this study are alike (empirical
Bayes; Smyth 2004, doi 10.2202/1544-6115.1027). Comparisons take the wider of both intervals.
"""

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sweeplab.statistics.additive import AdditiveFit, fit_additive
from sweeplab.statistics.intervals import TINY, Array
from sweeplab.statistics.moderated import average_prior, draw_together

TEST_LEVEL: Final = 0.002  # chance that a setting is set apart although all spread alike
_ONE_APART_OF: Final = 8  # settings of which at most one is set apart
_MOST_STEPS: Final = 2.0  # items by which the share of a run moves at least, as a standard deviation
_A_RULE: Final = 2  # settings that are apart, from which on they are no accident but say that spreads are unlike
_NUM_DRAWS: Final = 8_000
_DRAWS_AT_ONCE: Final = 200
_SEED: Final = 0


def find_varied(values_KS: Array) -> NDArray[np.bool_]:
    """True for settings with a spread over seeds that is more than rounding, shape (K,); NaN is no run.

    The others say nothing about how much settings spread: a score of 0 with every seed is at its limit.
    """
    known_KS = np.where(np.isnan(values_KS), np.nanmean(values_KS, axis=1, keepdims=True), values_KS)
    varies_K: NDArray[np.bool_] = np.ptp(known_KS, axis=1) > TINY * np.maximum(1.0, np.abs(known_KS).max(axis=1))
    return varies_K


@dataclass(frozen=True)
class Spreads:
    """Variances of one run, over seeds, without what a seed does to all settings alike. K settings."""

    pooled: float  # of a setting that spreads as most do; 0 with `pooled_df` 0 where nothing can be pooled
    pooled_df: float
    own_K: Array  # moderated; of a setting that shares nothing the variance of its own runs, seeds' effects included
    own_df_K: Array
    shares_K: NDArray[np.bool_]  # settings to which the pooled variance applies
    apart_K: NDArray[np.bool_]  # settings that spread so much more than the others that they share nothing
    flat_K: NDArray[np.bool_]  # settings without any spread, which no seed moves
    common: float  # variance of what a seed does to all settings alike
    common_df: float

    @cached_property
    def num_apart(self) -> int:
        """Settings that are apart."""
        return int(self.apart_K.sum())


def estimate_spreads(values_KS: Array, floor_K: Array) -> Spreads:
    """The spreads of K settings with S seeds; NaN where there is no run.

    `floor_K` is what the variance of one run cannot be below, since values come in steps (`find_resolution`); 0 where
    they do not. A setting without any spread, such as a score of 0 with every seed, is not part of the pool, but gets
    its variance.
    """
    counts_K = (~np.isnan(values_KS)).sum(axis=1)
    varied_K = (counts_K > 1) & (find_varied(values_KS) | (floor_K > 0))
    flat_K = ~varied_K & (counts_K > 1)
    own_K, own_df_K = _compute_own_variances(values_KS), np.maximum(counts_K - 1.0, 0.0)
    apart_K = _find_apart(values_KS, varied_K)
    pool_K = varied_K & ~apart_K
    fit = fit_additive(values_KS[pool_K])
    df_P = fit.own_df_K
    if pool_K.sum() < 2 or not (df_P > 0).all():
        nothing = np.zeros(len(values_KS), dtype=bool)
        return Spreads(0.0, 0.0, own_K, own_df_K, nothing, apart_K, flat_K, 0.0, 0.0)
    variance_P = np.maximum((fit.residuals_KS**2).sum(axis=1) / df_P, floor_K[pool_K])
    pooled_df = float(df_P.sum())
    pooled = float(df_P @ variance_P / pooled_df)
    moderated_P, prior = variance_P, 0.0  # where seeds move all settings exactly alike
    if pooled > 0:
        variance_P = np.maximum(variance_P, TINY * pooled)
        prior = _find_prior(variance_P, fit, values_KS[apart_K])
        moderated_P = draw_together(variance_P, df_P, prior)
    own_K[pool_K], own_df_K[pool_K] = moderated_P, df_P + prior
    shares_K = ~apart_K
    own_K[shares_K & ~pool_K], own_df_K[shares_K & ~pool_K] = pooled, pooled_df
    counts_S = fit.has_run_KS.sum(axis=0)
    by_seed = float(fit.seeds_S[counts_S > 0].var(ddof=1)) - pooled / float(counts_S[counts_S > 0].mean())
    common_df = float((counts_S > 0).sum() - 1)
    return Spreads(pooled, pooled_df, own_K, own_df_K, shares_K, apart_K, flat_K, max(by_seed, 0.0), common_df)


def _find_prior(variance_P: Array, fit: AdditiveFit, apart_AS: Array) -> float:
    """`average_prior` of the settings that share a variance, and of those that are apart where these are several.

    Without them, what is left looks alike: of 64 settings with lognormal spreads (a standard deviation of 1) and two
    seeds up to eight are apart, and most studies that called a setting worse that was not were of this kind.
    """
    if len(apart_AS) < _A_RULE:
        return average_prior(variance_P, fit.own_df_K)
    apart_A = (apart_AS - fit.seeds_S).var(axis=1, ddof=1)
    df_A = np.full(len(apart_A), apart_AS.shape[1] - 1.0)
    return average_prior(np.concatenate([variance_P, apart_A]), np.concatenate([fit.own_df_K, df_A]))


def _compute_own_variances(values_KS: Array) -> Array:
    """Variance over the seeds of each setting; 0 where it has fewer than two."""
    counts_K = (~np.isnan(values_KS)).sum(axis=1)
    means_K = np.nansum(values_KS, axis=1) / np.maximum(counts_K, 1)
    squares_K = np.nansum((values_KS - means_K[:, None]) ** 2, axis=1)
    variances_K: Array = squares_K / np.maximum(counts_K - 1, 1)
    return variances_K


def find_resolution(values_KS: Array, num_items: int) -> Array:
    """What the variance of one run cannot be below for a share of `num_items` items, shape (K,).

    A share moves in steps of one item, so that few seeds often agree by chance, with a spread of 0 (near 0 and 1 that
    made 7 to 27 % of studies call a setting worse that is not). The least spread is that of the number of right items
    by chance, p (1 - p) N with two items of each kind added (Agresti and Coull 1998), and at most that of two items,
    beyond which steps do not matter.
    """
    counts_K = (~np.isnan(values_KS)).sum(axis=1)
    trials_K = counts_K * num_items
    hits_K = np.nansum(values_KS, axis=1) * num_items
    shares_K = (hits_K + 2) / (trials_K + 4)
    floors_K: Array = np.minimum(num_items * shares_K * (1 - shares_K), _MOST_STEPS**2) / num_items**2
    return floors_K


def _find_apart(values_KS: Array, varied_K: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Settings that spread so much more than the others that they must not share a variance.

    Rosner's procedure for several outliers (1983, doi 10.1080/00401706.1983.10487848), applied to the variances: the m
    largest, with the largest m for which the m-th largest variance is too large compared with the mean of the smaller
    ones. Because all m are tried, two diverging settings do not mask each other. Where more than one of eight would be
    set apart, unlike spreads are the rule, and none is: the moderated variances account for them.
    """
    apart_K = np.zeros(len(values_KS), dtype=bool)
    complete = np.flatnonzero(varied_K & ~np.isnan(values_KS).any(axis=1))
    num_most = max(1, len(values_KS) // _ONE_APART_OF)
    if len(complete) < 3 or values_KS.shape[1] < 2:
        return apart_K
    variances = _compute_paired_variances(values_KS[complete])
    limits = _simulate_limits(len(complete), values_KS.shape[1])
    beyond = np.flatnonzero(_compute_excesses(variances) > limits)
    num_apart = int(beyond[-1]) + 1 if len(beyond) else 0
    if num_apart <= num_most:
        apart_K[complete[np.argsort(-variances)[:num_apart]]] = True
    return apart_K


def _compute_paired_variances(values: Array) -> Array:
    """Variance over seeds after the effect of each, its median over settings, is removed: (..., K, S) to (..., K)."""
    centred = values - values.mean(axis=-1, keepdims=True)
    variances: Array = (centred - np.median(centred, axis=-2, keepdims=True)).var(axis=-1, ddof=1)
    return variances


def _compute_excesses(variances: Array) -> Array:
    """The m-th largest variance divided by the mean of all smaller ones, m = 1 to K // 2: (..., K) to (..., K // 2)."""
    falling = np.flip(np.sort(variances, axis=-1), axis=-1)
    num_settings = falling.shape[-1]
    means = np.flip(np.cumsum(np.flip(falling, axis=-1), axis=-1), axis=-1) / np.arange(num_settings, 0, -1)
    half = num_settings // 2
    with np.errstate(divide="ignore", invalid="ignore"):
        excesses: Array = falling[..., :half] / means[..., 1 : half + 1]
    return excesses


@cache
def _simulate_limits(num_settings: int, num_seeds: int) -> Array:
    """At m - 1 the limit of the m-th excess, for settings that spread alike and values that are normal, by simulation.

    Any excess is beyond its limit with probability `TEST_LEVEL`, and each equally often.
    """
    random = np.random.default_rng(_SEED)
    drawn = np.empty((_NUM_DRAWS, num_settings // 2))
    for start in range(0, _NUM_DRAWS, _DRAWS_AT_ONCE):
        values = random.normal(size=(_DRAWS_AT_ONCE, num_settings, num_seeds))
        drawn[start : start + _DRAWS_AT_ONCE] = _compute_excesses(_compute_paired_variances(values))
    best_ranks = np.full(_NUM_DRAWS, _NUM_DRAWS)
    for column in drawn.T:
        ranks = np.empty(_NUM_DRAWS, dtype=int)
        ranks[(-column).argsort()] = np.arange(_NUM_DRAWS)
        best_ranks = np.minimum(best_ranks, ranks)
    share = float(np.quantile(best_ranks, TEST_LEVEL)) / _NUM_DRAWS
    limits: Array = np.quantile(drawn, 1 - share, axis=0)
    return limits
