"""Differences between settings, from results that are paired by seed and by item.

The model is a mixed one, its variances by moments: a trial's result on an item is the setting's mean plus random
parts of the seed, of the item, and of their meeting. For a contrast L (weights w over the settings) every seed s and
item i give one number L_si, and

    Var(mean of L) = V_seed / S + max(MS_item - MS_rest, 0) / (S N)

where V_seed is the variance over seeds of L's mean over items, which holds the rest already, and MS_item and MS_rest
are the mean squares of the table of L with S rows and N columns. So readers and cases are analysed in Obuchowski and
Rockette 1995 (and Hillis 2007, doi 10.1002/sim.2532); that results must be paired by item is Miller 2024
(arXiv 2411.00640). A bootstrap over seeds and then items estimates the same (the pigeonhole
bootstrap of Owen 2007, doi 10.1214/07-AOAS122), but of three seeds it can draw ten samples only, and its intervals are
then too short: Student's t knows how little three seeds say, a percentile does not.
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

_CHUNK: Final = 250  # contrasts whose weights are held together


@dataclass(frozen=True)
class ResultTable:
    """One metric of K settings that ran with the same S seeds, on the same N items where they are known."""

    values_KS: Array  # a trial's own number, as its record has it
    items_KSN: Array | None = None  # its parts; their mean over N is `values_KS`
    errors_KS: Array | None = None  # standard errors over items, for one seed without its items; NaN: unknown

    @property
    def num_seeds(self) -> int:
        return int(self.values_KS.shape[1])


def _compute_interaction_variance(values_KS: Array) -> tuple[float, int]:
    """Variance of what is left when settings and seeds have had their means, with its (K - 1)(S - 1) freedoms.

    A difference of two settings has twice this variance over seeds: what a seed does to all settings alike cancels.
    """
    rest_KS = values_KS - values_KS.mean(axis=1, keepdims=True) - values_KS.mean(axis=0) + values_KS.mean()
    freedoms = (values_KS.shape[0] - 1) * (values_KS.shape[1] - 1)
    return float((rest_KS**2).sum() / freedoms), freedoms


class SeedVariance(NamedTuple):
    """Of M contrasts over seeds."""

    variance_M: Array
    df_M: Array
    shared_M: NDArray[np.bool_]  # it is that of all settings that share one


def _compute_seed_variance(table: ResultTable, weights_MK: Array) -> SeedVariance:
    """Variance over seeds of M contrasts, whose weights add up to 0 or not.

    With few seeds it is the one that the settings share. A contrast with a setting in it that spreads more than the
    others has its own, S - 1 degrees of freedom, as in a paired t test, which takes no variance for another's.

    Settings without any spread have no part in the shared variance, which they would dilute, and are given it. What a
    seed does to all others alike does not cancel in a difference from one of them, and is added. Where too few others
    are left to share a variance, every contrast has its own.
    """
    num_settings, num_seeds = table.values_KS.shape
    variance_M = compute_own_variances(weights_MK @ table.values_KS)
    df_M = np.full(len(weights_MK), num_seeds - 1.0)
    shared_M = np.zeros(len(weights_MK), dtype=bool)
    if not is_pooled(num_seeds, num_settings):
        return SeedVariance(variance_M, df_M, shared_M)
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
    return SeedVariance(variance_M, df_M, shared_M)


def _compute_within_variance(values_KS: Array) -> tuple[float, int]:
    """Mean of the settings' variances over seeds, with its K (S - 1) freedoms."""
    return float(compute_own_variances(values_KS).mean()), values_KS.shape[0] * (values_KS.shape[1] - 1)


def _compute_item_variance(results_SN: Array) -> float:
    """The share of Var(mean of L) that other items would add to what other seeds do; never below 0."""
    num_seeds, num_items = results_SN.shape
    by_item_N = results_SN.mean(axis=0)
    if num_items < 2:
        return 0.0
    mean_square = num_seeds * by_item_N.var(ddof=1)
    if num_seeds == 1:
        return float(mean_square / num_items)
    rest_SN = results_SN - by_item_N - results_SN.mean(axis=1, keepdims=True) + results_SN.mean()
    rest = (rest_SN**2).sum() / ((num_seeds - 1) * (num_items - 1))
    return float(max(mean_square - rest, 0.0) / (num_seeds * num_items))


@dataclass(frozen=True)
class Errors:
    """Variances of M contrasts' means, by where they come from; 0 where a source is not covered."""

    seeds: SeedVariance
    items_M: Array
    item_df: float
    covers: str

    def se_M(self) -> Array:
        return np.sqrt(self.seeds.variance_M + self.items_M)

    def df_M(self) -> Array:
        """The degrees of freedom of the part that has the fewest."""
        return np.full(len(self.items_M), self.item_df) if self.covers == "items" else self.seeds.df_M

    def reach_M(self, factor: Callable[[float, bool], float], shared_items: bool) -> Array:
        """Half the intervals' widths, with `factor(df, shared)` the critical value for so many degrees of freedom.

        The two parts have their own: Howe 1974 (doi 10.1080/01621459.1974.10482991) adds the squares of the limits.
        One factor for the whole, with Satterthwaite's degrees of freedom, covers 88 % instead of 95 % with two seeds.
        """
        seeds, parts_M = self.seeds, np.zeros(len(self.items_M))
        if seeds.variance_M.any():
            pairs = zip(seeds.df_M, seeds.shared_M, strict=True)
            factors_M = np.array([factor(float(df), bool(shared)) for df, shared in pairs])
            parts_M = factors_M**2 * seeds.variance_M
        if self.items_M.any():
            parts_M = parts_M + factor(self.item_df, shared_items) ** 2 * self.items_M
        return np.sqrt(parts_M)


def _find_errors(table: ResultTable, weights_MK: Array) -> Errors | None:
    """The errors of M contrasts; None where nothing is known.

    One seed without its items: the items' standard errors as if the settings had seen other items, which is too wide
    for results that are paired, and never too short as long as settings find the same items hard.
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
        nowhere = SeedVariance(none_M, np.full(num_contrasts, math.inf), none_M > 0)
        return Errors(nowhere, items_M, item_df, "items")
    seeds = _compute_seed_variance(table, weights_MK)
    covers = "seeds and items" if num_items > 1 else "seeds"
    return Errors(seeds._replace(variance_M=seeds.variance_M / table.num_seeds), items_M, item_df, covers)


def _find_errors_from_best(table: ResultTable, best: int) -> Errors | None:
    """The errors of every setting's difference from the best, some at a time, since all weights are K * K numbers."""
    num_settings = len(table.values_KS)
    parts = []
    for start in range(0, num_settings, _CHUNK):
        places_M = np.arange(start, min(start + _CHUNK, num_settings))
        weights_MK = np.zeros((len(places_M), num_settings))
        weights_MK[places_M - start, places_M] = 1.0
        weights_MK[:, best] -= 1.0
        errors = _find_errors(table, weights_MK)
        if errors is None:
            return None
        parts.append(errors)
    seeds = SeedVariance(*(np.concatenate(columns) for columns in zip(*(one.seeds for one in parts), strict=True)))
    return replace(parts[0], seeds=seeds, items_M=np.concatenate([one.items_M for one in parts]))


def estimate_contrast(table: ResultTable, weights_K: Array, level: float = LEVEL) -> Estimate:
    """Sum of weights times settings' means, with its interval."""
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
    """Every setting's mean minus the best's, with intervals that hold all at once."""

    best: int
    differences: list[Estimate]  # by setting; the best's own is 0 with no interval
    tied: list[int]  # settings that cannot be told from the best, itself included
    seed_deviations: list[float] | None  # of one seed's difference, by setting; None for one seed
    item_deviations: list[float] | None  # of one item's, beside what seeds do; None without items
    num_items: int  # that each trial was scored on; 0: not known
    factors: list[float]  # standard errors that the intervals reach, at the degrees of freedom of the estimates
    wide: list[int]  # settings that spread more than the others, and share no variance with them
    num_alike: int  # settings whose spread over seeds is the variance that is shared
    uncertain: list[int]  # settings whose difference from the best has an error beyond rounding


def compare_with_best(table: ResultTable, sign: int, level: float = LEVEL) -> Comparison | None:
    """Which settings are told from the best; `sign` is 1 where more is better. None where no error is known.

    The best is chosen by the same data, so that Holm's or Dunnett's correction for a reference named beforehand would
    promise too much. The critical value is that of all K (K - 1) / 2 differences, the studentized range over the
    square root of 2 (Tukey 1953, Kramer 1956) where the settings share a variance: with probability `level` no
    setting at all is called worse that is not, even where all are alike, and the true best is among the tied ones.
    Hsu 1981 has a smaller set for the second promise alone.
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
    """Of one difference among all; `shared`: of two settings that share a variance, `pools`: there are such settings.

    Where some settings are wide, they and the others have half of the promise each. All differences of a wide setting
    from those that are not stand on its own spread, beside which theirs is small, so that they are right or wrong
    together, and count as one; those among m wide settings are m (m - 1) / 2 more.
    """
    if not pools:
        return find_family_factor(num_settings, df, False, level)
    if num_wide == 0:
        return find_family_factor(num_settings, df, True, level)
    half = level**0.5
    if shared:
        return find_family_factor(num_settings - num_wide, df, True, half)
    return float(stats.t.ppf((1 + half ** (2 / (num_wide * (num_wide + 1)))) / 2, df))


@cache
def find_family_factor(num_settings: int, df: float, shared: bool, level: float = LEVEL) -> float:
    """How many standard errors the largest of all differences of `num_settings` equal means reaches, by chance.

    Where the settings do not share a variance the studentized range is too small (a family error of 6 % with seven
    settings and eight seeds); then every difference is taken at Sidak's level (Sidak 1967), as in Dunnett's T3 of 1980:
    there 2.8 % of 3,000 simulated studies, and 0.4 % in which the best is not among those that cannot be told from it.
    """
    if shared:
        return float(stats.studentized_range.ppf(level, num_settings, df)) / 2**0.5
    num_pairs = num_settings * (num_settings - 1) / 2
    return float(stats.t.ppf((1 + level ** (1 / num_pairs)) / 2, df))
