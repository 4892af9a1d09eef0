"""Differences between settings, from results that are paired by seed and by item.

The model is a mixed model with variances estimated by moments: the result of a trial on an item is the mean of the
setting plus random effects of the seed, of the item, and of their combination (the residual). A contrast L (weights w
over the settings) gives one number L_si for every seed s and item i, and

    Var(mean of L) = V_seed / S + max(MS_item - MS_residual, 0) / (S N)

V_seed is the variance over seeds of the mean of L over items; it contains the residual already. MS_item and
MS_residual are the mean squares of the table of L with S rows and N columns. Obuchowski and Rockette 1995 (and
Hillis 2007, doi 10.1002/sim.2532) analyze readers and cases in the same way; Miller 2024 (arXiv 2411.00640) explains
why results must be paired by item. A bootstrap over seeds and then over items estimates the same (the pigeonhole
bootstrap of Owen 2007, doi 10.1214/07-AOAS122), but with three seeds it has ten different samples only, and its
intervals are too short. Student's t accounts for the small number of seeds, percentiles of a bootstrap do not.

Dimensions in names: K settings, S seeds, N items, M contrasts.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from sweeplab.statistics.intervals import LEVEL, Array, Estimate, estimate_without_error
from sweeplab.statistics.spreads import TINY, compute_own_variances, find_varied, is_pooled, split_by_spread

_CHUNK: Final = 250  # contrasts whose weights are in memory at a time


@dataclass(frozen=True)
class ResultTable:
    """One metric of K settings that all ran with the same S seeds, on the same N items where those are known."""

    values_KS: Array  # the number in each trial's record
    items_KSN: Array | None = None  # results by item; their mean over N is `values_KS`
    errors_KS: Array | None = None  # standard errors over items, used for one seed without items; NaN: unknown

    @property
    def num_seeds(self) -> int:
        return int(self.values_KS.shape[1])


def _compute_interaction_variance(values_KS: Array) -> tuple[float, int]:
    """Variance after the means of settings and of seeds are removed, with its (K - 1)(S - 1) degrees of freedom.

    The difference of two settings has twice this variance over seeds: what a seed does to all settings alike cancels.
    """
    residuals_KS = values_KS - values_KS.mean(axis=1, keepdims=True) - values_KS.mean(axis=0) + values_KS.mean()
    df = (values_KS.shape[0] - 1) * (values_KS.shape[1] - 1)
    return float((residuals_KS**2).sum() / df), df


class _SeedVariance(NamedTuple):
    """The variance over seeds of M contrasts."""

    variance_M: Array
    df_M: Array  # degrees of freedom
    shared_M: NDArray[np.bool_]  # true where the variance was pooled over settings


def _compute_seed_variance(table: ResultTable, weights_MK: Array) -> _SeedVariance:
    """Variance over seeds of M contrasts. Differences (weights sum to 0) and single means are treated separately.

    With few seeds the variance is pooled over the settings. A contrast that contains a setting which spreads more than
    the others uses its own variance with S - 1 degrees of freedom, as in a paired t test.

    Settings without any spread would make the pool too small and are left out, but get the pooled variance; the effect
    of a seed does not cancel in a difference from them, so it is added. Too few others: each has its own variance.
    """
    num_settings, num_seeds = table.values_KS.shape
    variance_M = compute_own_variances(weights_MK @ table.values_KS)
    df_M = np.full(len(weights_MK), num_seeds - 1.0)
    shared_M = np.zeros(len(weights_MK), dtype=bool)
    if not is_pooled(num_seeds, num_settings):
        return _SeedVariance(variance_M, df_M, shared_M)
    used_MK, squares_M = weights_MK != 0, (weights_MK**2).sum(axis=1)
    varied_K = find_varied(table.values_KS)
    uncancelled_M = (weights_MK @ varied_K) ** 2
    kinds_M = (np.abs(weights_MK.sum(axis=1)) < TINY, used_MK.sum(axis=1) == 1)
    for paired, kind_M in zip((True, False), kinds_M, strict=True):
        wide_K, inflation = split_by_spread(table.values_KS, paired)
        pool_K = ~wide_K & varied_K
        if pool_K.sum() < 1 + paired:
            continue
        chosen_M = kind_M & ~used_MK[:, wide_K].any(axis=1)
        within, df = _compute_within_variance(table.values_KS[pool_K])
        shared_variance_M = squares_M * within
        if paired:
            variance, df = _compute_interaction_variance(table.values_KS[pool_K])
            shared_variance_M = squares_M * variance + uncancelled_M * max(within - variance, 0.0)
        variance_M[chosen_M], df_M[chosen_M] = inflation * shared_variance_M[chosen_M], df
        shared_M |= chosen_M
    return _SeedVariance(variance_M, df_M, shared_M)


def _compute_within_variance(values_KS: Array) -> tuple[float, int]:
    """Mean of the settings' variances over seeds, with its K (S - 1) degrees of freedom."""
    return float(compute_own_variances(values_KS).mean()), values_KS.shape[0] * (values_KS.shape[1] - 1)


def _compute_item_variance(results_SN: Array) -> float:
    """The part max(MS_item - MS_residual, 0) / (S N) of Var(mean of L): what other items would change."""
    num_seeds, num_items = results_SN.shape
    by_item_N = results_SN.mean(axis=0)
    if num_items < 2:
        return 0.0
    mean_square = num_seeds * by_item_N.var(ddof=1)
    if num_seeds == 1:
        return float(mean_square / num_items)
    residuals_SN = results_SN - by_item_N - results_SN.mean(axis=1, keepdims=True) + results_SN.mean()
    residual_mean_square = (residuals_SN**2).sum() / ((num_seeds - 1) * (num_items - 1))
    return float(max(mean_square - residual_mean_square, 0.0) / (num_seeds * num_items))


@dataclass(frozen=True)
class _Errors:
    """Variances of the means of M contrasts, from seeds and from items; 0 for a source that is not covered."""

    seeds: _SeedVariance
    items_M: Array
    item_df: float
    covers: str

    def se_M(self) -> Array:
        return np.sqrt(self.seeds.variance_M + self.items_M)

    def df_M(self) -> Array:
        """Degrees of freedom: those of the seeds, or those of the items where seeds are not covered."""
        return np.full(len(self.items_M), self.item_df) if self.covers == "items" else self.seeds.df_M

    def reach_M(self, factor: Callable[[float, bool], float], shared_items: bool) -> Array:
        """Half the widths of the intervals; `factor(df, shared)` is the critical value for `df` degrees of freedom.

        Seeds and items have their own critical values; the squares of the two limits are added (Howe 1974,
        doi 10.1080/01621459.1974.10482991). With one factor by Satterthwaite two seeds would cover 88 %, not 95 %.
        """
        seeds, parts_M = self.seeds, np.zeros(len(self.items_M))
        if seeds.variance_M.any():
            pairs = zip(seeds.df_M, seeds.shared_M, strict=True)
            factors_M = np.array([factor(float(df), bool(shared)) for df, shared in pairs])
            parts_M = factors_M**2 * seeds.variance_M
        if self.items_M.any():
            parts_M = parts_M + factor(self.item_df, shared_items) ** 2 * self.items_M
        return np.sqrt(parts_M)


def _find_errors(table: ResultTable, weights_MK: Array) -> _Errors | None:
    """The errors of M contrasts; None where nothing is known about them.

    With one seed and without results by item, the standard errors of the settings are combined as if each had other
    items. That is too wide for paired results, but never too narrow if the same items are hard for all settings.
    """
    num_contrasts, num_items = weights_MK.shape[0], 0 if table.items_KSN is None else table.items_KSN.shape[2]
    none_M = np.zeros(num_contrasts)
    items_M, item_df = none_M.copy(), math.inf
    if table.items_KSN is not None and num_items > 1:
        item_df = num_items - 1.0
        for index, weights_K in enumerate(weights_MK):
            used = weights_K != 0
            items_M[index] = _compute_item_variance(np.tensordot(weights_K[used], table.items_KSN[used], axes=1))
    elif table.num_seeds == 1:
        if table.errors_KS is None or np.isnan(table.errors_KS).any():
            return None
        items_M = weights_MK**2 @ table.errors_KS[:, 0] ** 2
    if table.num_seeds == 1:
        no_seeds = _SeedVariance(none_M, np.full(num_contrasts, math.inf), none_M > 0)
        return _Errors(no_seeds, items_M, item_df, "items")
    seeds = _compute_seed_variance(table, weights_MK)
    covers = "seeds and items" if num_items > 1 else "seeds"
    return _Errors(seeds._replace(variance_M=seeds.variance_M / table.num_seeds), items_M, item_df, covers)


def _find_errors_from_best(table: ResultTable, best: int) -> _Errors | None:
    """The errors of every setting's difference from the best, `_CHUNK` at a time: all weights are K * K numbers."""
    num_settings = len(table.values_KS)
    parts = []
    for start in range(0, num_settings, _CHUNK):
        indices_M = np.arange(start, min(start + _CHUNK, num_settings))
        weights_MK = np.zeros((len(indices_M), num_settings))
        weights_MK[indices_M - start, indices_M] = 1.0
        weights_MK[:, best] -= 1.0
        errors = _find_errors(table, weights_MK)
        if errors is None:
            return None
        parts.append(errors)
    seeds = _SeedVariance(*(np.concatenate(columns) for columns in zip(*(one.seeds for one in parts), strict=True)))
    return replace(parts[0], seeds=seeds, items_M=np.concatenate([one.items_M for one in parts]))


def estimate_contrast(table: ResultTable, weights_K: Array, level: float = LEVEL) -> Estimate:
    """The sum of weights times means of settings, with its interval."""
    value = float(weights_K @ table.values_KS.mean(axis=1))
    errors = _find_errors(table, weights_K[None])
    if errors is None:
        return estimate_without_error(value)
    reach = float(errors.reach_M(lambda df, shared: float(stats.t.ppf((1 + level) / 2, df)), True)[0])
    return Estimate(
        value, float(errors.se_M()[0]), float(errors.df_M()[0]), value - reach, value + reach, errors.covers
    )


@dataclass(frozen=True)
class Comparison:
    """The mean of every setting minus that of the best, with simultaneous intervals. Lists are by setting."""

    best: int
    differences: list[Estimate]  # that of the best itself is 0 without an interval
    tied: list[int]  # settings that are not significantly worse than the best, the best included
    seed_deviations: list[float] | None  # standard deviation of the difference over seeds; None for one seed
    item_deviations: list[float] | None  # standard deviation over items, without that of seeds; None without items
    num_items: int  # items that each trial was scored on; 0: not known
    factors: list[float]  # half the width of each interval in standard errors
    wide: list[int]  # settings that spread more than the others, and use their own variance
    num_alike: int  # settings in the pooled variance
    uncertain: list[int]  # settings whose difference has an error larger than rounding


def compare_with_best(table: ResultTable, sign: int, level: float = LEVEL) -> Comparison | None:
    """Which settings are significantly worse than the best. None where no error is known.

    `sign` is 1 where a larger value is better, else -1. The best is chosen from the same data, so the corrections of
    Holm or Dunnett, for a reference chosen beforehand, would give intervals that are too short. The critical value is
    that for all K (K - 1) / 2 differences: the studentized range divided by the square root of 2 (Tukey 1953,
    Kramer 1956) where the settings share a variance. With probability `level`, no setting is called worse that is not,
    even where all are equal, and the true best is among the tied ones. For the second guarantee alone, Hsu 1981 has a
    smaller set.
    """
    means_K = table.values_KS.mean(axis=1)
    num_settings = len(means_K)
    best = int(np.argmax(sign * means_K))
    errors = _find_errors_from_best(table, best) if num_settings > 1 else None
    if errors is None:
        return None
    shared = table.num_seeds == 1 or is_pooled(table.num_seeds, num_settings)
    none_K = np.zeros(num_settings, dtype=bool)
    wide_K = split_by_spread(table.values_KS, paired=True).wide_K if table.num_seeds > 1 else none_K
    factor = cache(partial(_find_critical_value, num_settings, int(wide_K.sum()), shared, level))
    se_K, df_K, covers = errors.se_M(), errors.df_M(), errors.covers
    others = np.arange(num_settings) != best
    differences_K = means_K - means_K[best]
    reach_K = errors.reach_M(factor, shared)
    rounding = TINY * max(1.0, float(np.abs(means_K).max()))
    apart_K = others & (sign * differences_K + reach_K < -rounding)
    estimates = [
        Estimate(float(value), float(se), float(df), float(value - reach), float(value + reach), covers)
        for value, se, df, reach in zip(differences_K, se_K, df_K, reach_K, strict=True)
    ]
    num_items = 0 if table.items_KSN is None else table.items_KSN.shape[2]
    seeds = np.sqrt(errors.seeds.variance_M * table.num_seeds).tolist() if table.num_seeds > 1 else None
    items = np.sqrt(errors.items_M * num_items).tolist() if num_items > 1 else None
    tied = [int(index) for index in np.flatnonzero(~apart_K)]
    shared_K = np.full(num_settings, True) if errors.covers == "items" else errors.seeds.shared_M
    factors = [factor(float(df), bool(one)) for df, one in zip(df_K, shared_K, strict=True)]
    num_alike = int((~wide_K & find_varied(table.values_KS)).sum())
    uncertain = np.flatnonzero(others & (se_K > rounding)).tolist()
    wide = np.flatnonzero(wide_K).tolist()
    return Comparison(best, estimates, tied, seeds, items, num_items, factors, wide, num_alike, uncertain)


def _find_critical_value(num_settings: int, num_wide: int, pools: bool, level: float, df: float, shared: bool) -> float:
    """The critical value of one difference, so that all intervals hold with probability `level`.

    Args:
        num_wide: settings that use their own variance.
        pools: true where settings share a pooled variance.
        df: degrees of freedom of this difference.
        shared: true where both settings of this difference share the pooled variance.

    Where m settings are wide, the level is split: its square root for the differences among the others, and its square
    root for those with a wide setting. All differences of one wide setting from settings that are not wide depend
    almost only on its own spread and count as one; among the m wide settings there are m (m - 1) / 2 more.
    """
    if not pools:
        return _find_family_factor(num_settings, df, False, level)
    if num_wide == 0:
        return _find_family_factor(num_settings, df, True, level)
    half = level**0.5
    if shared:
        return _find_family_factor(num_settings - num_wide, df, True, half)
    return float(stats.t.ppf((1 + half ** (2 / (num_wide * (num_wide + 1)))) / 2, df))


@cache
def _find_family_factor(num_settings: int, df: float, shared: bool, level: float = LEVEL) -> float:
    """The quantile `level` of the largest of all differences of `num_settings` equal means, in standard errors.

    Without a shared variance the studentized range is too small (family error 6 % with seven settings, eight seeds), so
    each difference is tested at Sidak's level (1967), as in Dunnett's T3 (1980): of 3,000 simulated studies of that
    size the family error was 2.8 %, and the true best was not among the tied settings in 0.4 %.
    """
    if shared:
        return float(stats.studentized_range.ppf(level, num_settings, df)) / 2**0.5
    num_pairs = num_settings * (num_settings - 1) / 2
    return float(stats.t.ppf((1 + level ** (1 / num_pairs)) / 2, df))
