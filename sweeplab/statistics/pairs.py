"""Differences of settings with intervals that hold for all pairs at once, at any look: many pairs in one computation.

The critical value is that for all K (K - 1) / 2 differences: the wider of the studentized range (Tukey 1953, Kramer
1956) with the pooled variance, and of that of a sum of two errors (`two_errors`) with the moderated variances of both,
at Sidak's level (1967).
"""

import math
from dataclasses import dataclass
from functools import cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from sweeplab.statistics.intervals import LEVEL, TINY, Array, combine_freedoms, find_t, level_with
from sweeplab.statistics.results import ResultTable
from sweeplab.statistics.spreads import Spreads
from sweeplab.statistics.two_errors import find_sum_factors

_DF_DIGITS: Final = 9  # a quantile takes a tenth of a second: degrees of freedom that differ by rounding share it


@dataclass(frozen=True)
class Differences:
    """All K settings (rows) minus B of them (columns), on the scale of the analysis, over the seeds that both have.

    A setting minus itself is 0 without an error. `reach_KB` is half the width of the interval: infinite where nothing
    is known. With one common seed it is over items.
    """

    value_KB: Array
    num_seeds_KB: NDArray[np.int_]
    seed_variance_KB: Array  # of the mean difference
    item_variance_KB: Array
    df_KB: Array
    reach_KB: Array


def compare_pairs(table: ResultTable, columns: NDArray[np.int_], level: float = LEVEL) -> Differences:
    """The differences from the settings at the indices `columns`, with intervals for all pairs of the table at once."""
    num_settings = len(table.values_KS)
    has_KS = table.has_run_KS
    num_seeds_KB = has_KS.astype(int) @ has_KS[columns].T.astype(int)
    value_KB = _compute_differences(table, columns, num_seeds_KB)
    items_KB, item_df_KB = _find_item_errors(table, columns, num_seeds_KB)
    seeds_KB, df_KB, reach_KB = np.zeros_like(value_KB), np.zeros_like(value_KB), np.full_like(value_KB, math.inf)
    item_reach_KB = np.zeros_like(value_KB)
    for num_seeds in np.unique(num_seeds_KB[num_seeds_KB > 0]):
        of_all, mask_KB = level_with(int(num_seeds), level), num_seeds_KB == num_seeds
        with_items_KB = mask_KB & (items_KB > 0)
        factors_P = _look_up(item_df_KB[with_items_KB], num_settings, level)
        item_reach_KB[with_items_KB] = factors_P * np.sqrt(items_KB[with_items_KB])
        if num_seeds == 1:
            df_KB[mask_KB] = item_df_KB[mask_KB]
            reach_KB[mask_KB] = np.where(items_KB > 0, item_reach_KB, math.inf)[mask_KB]
            continue
        seeds_P, df_P, reach_P = _find_seed_errors(table, columns, np.argwhere(mask_KB), int(num_seeds), of_all)
        seeds_KB[mask_KB], df_KB[mask_KB] = seeds_P, df_P
        reach_KB[mask_KB] = np.hypot(reach_P, item_reach_KB[mask_KB])
    itself = (columns, np.arange(len(columns)))
    for one, alone in ((value_KB, 0.0), (seeds_KB, 0.0), (items_KB, 0.0), (df_KB, math.inf), (reach_KB, 0.0)):
        one[itself] = alone
    return Differences(value_KB, num_seeds_KB, seeds_KB, items_KB, df_KB, reach_KB)


def find_better_pairs(table: ResultTable, sign: int, level: float = LEVEL) -> NDArray[np.bool_]:
    """True at [i, j] where setting i is better than j, for all pairs at once with probability `level`; shape (K, K).

    `sign` is 1 where a larger value is better, else -1. With one seed no setting is surely better than another, since
    another seed may do as much.
    """
    every = compare_pairs(table, np.arange(len(table.values_KS)), level)
    rounding = TINY * max(1.0, float(np.abs(table.means_K).max()))
    better_KK: NDArray[np.bool_] = (every.num_seeds_KB > 1) & (sign * every.value_KB - every.reach_KB > rounding)
    return better_KK


def _compute_differences(table: ResultTable, columns: NDArray[np.int_], num_seeds_KB: NDArray[np.int_]) -> Array:
    """Of means over the common seeds (of logarithms the log of their ratio), else of effects."""
    has_KS = table.has_run_KS
    known_KS = np.where(has_KS, table.values_KS, 0.0)
    own_KB = known_KS @ has_KS[columns].T
    other_KB = has_KS @ known_KS[columns].T
    apart_KB = num_seeds_KB == 0
    counts_KB = np.maximum(num_seeds_KB, 1)
    if not table.is_log:
        value_KB: Array = (own_KB - other_KB) / counts_KB
    else:
        value_KB = np.log(np.where(apart_KB, 1.0, own_KB) / np.where(apart_KB, 1.0, other_KB))
    value_KB[apart_KB] = (table.effects_K[:, None] - table.effects_K[None, columns])[apart_KB]
    return value_KB


class _Family(NamedTuple):
    """The differences that intervals hold for at once.

    Where m settings are apart, the level is split: its square root for the differences among the others, and its square
    root for those with such a setting. All differences of one such setting from the others depend almost only on its
    own spread and count as one; among the m settings there are m (m - 1) / 2 more.
    """

    num_alike: int
    num_apart: int
    level: float

    @property
    def half(self) -> float:
        return self.level**0.5 if self.num_apart else self.level

    def own_level(self) -> float:
        """The level of one difference with a setting that is apart; of all where no setting shares its variance."""
        if self.num_apart == 0:
            return _find_sidak_level(self.num_alike, self.level)
        return float(self.half ** (2 / (self.num_apart * (self.num_apart + 1))))


def _find_seed_errors(
    table: ResultTable, columns: NDArray[np.int_], pairs_P2: NDArray[np.int_], num_seeds: int, level: float
) -> tuple[Array, Array, Array]:
    """The variance over seeds of P mean differences, its degrees of freedom, and half the width of their intervals."""
    spreads = table.spreads
    family = _Family(len(spreads.apart_K) - spreads.num_apart, spreads.num_apart, level)
    ends_P2 = np.stack([pairs_P2[:, 0], columns[pairs_P2[:, 1]]], axis=1)
    share_P = spreads.shares_K[ends_P2].all(axis=1)
    variance_P, df_P, reach_P = np.zeros(len(ends_P2)), np.full(len(ends_P2), num_seeds - 1.0), np.zeros(len(ends_P2))
    if share_P.any():
        variance_P[share_P], df_P[share_P], reach_P[share_P] = _share_errors(
            spreads, ends_P2[share_P], num_seeds, family
        )
    own_P2 = ends_P2[~share_P]
    if len(own_P2):
        by_seed_PS = table.scaled_KS[own_P2[:, 0]] - table.scaled_KS[own_P2[:, 1]]
        variance_P[~share_P] = np.nanvar(by_seed_PS, axis=1, ddof=1) / num_seeds
        reach_P[~share_P] = find_t(family.own_level(), num_seeds - 1.0) * np.sqrt(variance_P[~share_P])
    return variance_P, df_P, reach_P


def _share_errors(
    spreads: Spreads, ends_P2: NDArray[np.int_], num_seeds: int, family: _Family
) -> tuple[Array, Array, Array]:
    """`_find_seed_errors` of pairs that share a variance: the wider of the pooled and of the moderated interval.

    The critical value of the moderated one is that of a sum of two errors (`two_errors`).
    """
    pooled = 2 * spreads.pooled / num_seeds
    reach = _find_range_factor(family.num_alike, spreads.pooled_df, family.half) * math.sqrt(pooled)
    moderated_P = spreads.own_K[ends_P2].sum(axis=1) / num_seeds
    moderated_df_P = combine_freedoms(spreads.own_K[ends_P2], spreads.own_df_K[ends_P2])
    of_one = _find_sidak_level(family.num_alike, family.half)
    factor_P = find_sum_factors(spreads.own_K[ends_P2], spreads.own_df_K[ends_P2], of_one)
    wider_P = factor_P * np.sqrt(moderated_P)
    is_wider_P = wider_P > reach
    variance_P = np.where(is_wider_P, moderated_P, pooled)
    df_P, reach_P = np.where(is_wider_P, moderated_df_P, spreads.pooled_df), np.maximum(wider_P, reach)
    unlike_P = (
        spreads.flat_K[ends_P2[:, 0]] != spreads.flat_K[ends_P2[:, 1]]
    )  # no seed moves one: effects do not cancel
    if unlike_P.any():
        common = spreads.common / num_seeds
        factor = find_t(family.level, spreads.common_df)
        variance_P[unlike_P] += common
        reach_P[unlike_P] = np.hypot(reach_P[unlike_P], factor * math.sqrt(common))
    return variance_P, df_P, reach_P


def _find_item_errors(
    table: ResultTable, columns: NDArray[np.int_], num_seeds_KB: NDArray[np.int_]
) -> tuple[Array, Array]:
    """The variances over items of the mean differences with their degrees of freedom; 0 where items do not count.

    Without results by item and with one seed they are those of other items for each setting, which are never too small
    if the same items are hard for all.
    """
    variance_KB, df_KB = np.zeros(num_seeds_KB.shape), np.zeros(num_seeds_KB.shape)
    items_KSN = table.scaled_items_KSN
    if items_KSN is not None and items_KSN.shape[2] > 1:
        has_KS = table.has_run_KS
        patterns_XS = np.unique((has_KS[:, None] & has_KS[None, columns]).reshape(-1, has_KS.shape[1]), axis=0)
        for pattern_S in patterns_XS[patterns_XS.any(axis=1)]:
            is_common_KB = (has_KS[:, None] & has_KS[None, columns] == pattern_S).all(axis=2)
            rows, of_columns = is_common_KB.any(axis=1).nonzero()[0], is_common_KB.any(axis=0).nonzero()[0]
            block = np.ix_(rows, of_columns)
            variances = _compute_item_variances(
                items_KSN[rows][:, pattern_S], items_KSN[columns[of_columns]][:, pattern_S]
            )
            variance_KB[block] = np.where(is_common_KB[block], variances, variance_KB[block])
        df_KB[num_seeds_KB > 0] = items_KSN.shape[2] - 1.0
        return variance_KB, df_KB
    if table.errors_KS is None:
        return variance_KB, df_KB
    errors_KS = table.errors_KS / (table.values_KS if table.is_log else 1)
    one_KB = (num_seeds_KB == 1) & ~np.isnan(errors_KS[:, 0])[:, None] & ~np.isnan(errors_KS[columns, 0])[None]
    variance_KB[one_KB] = (errors_KS[:, 0, None] ** 2 + errors_KS[None, columns, 0] ** 2)[one_KB]
    df_KB[one_KB & (variance_KB > 0)] = math.inf
    return variance_KB, df_KB


def _compute_item_variances(rows_KSN: Array, columns_BSN: Array) -> Array:
    """`results.compute_item_variance` of every row minus every column, shape (K, B), by products of matrices."""
    num_seeds, num_items = rows_KSN.shape[1:]
    by_item_KB = num_seeds * _sum_squared_differences(*(_center(one.mean(axis=1)) for one in (rows_KSN, columns_BSN)))
    mean_square_KB = by_item_KB / (num_items - 1)
    if num_seeds == 1:
        of_items_KB: Array = mean_square_KB / num_items
        return of_items_KB
    flat = [_center(_center(one).swapaxes(1, 2)).reshape(len(one), -1) for one in (rows_KSN, columns_BSN)]
    residual_KB = _sum_squared_differences(*flat) / ((num_seeds - 1) * (num_items - 1))
    left_KB: Array = np.maximum(mean_square_KB - residual_KB, 0.0) / (num_seeds * num_items)
    return left_KB


def _center(values: Array) -> Array:
    """Without the mean over the last axis."""
    centered: Array = values - values.mean(axis=-1, keepdims=True)
    return centered


def _sum_squared_differences(rows_KN: Array, columns_BN: Array) -> Array:
    """Over N; exactly 0 where it is rounding."""
    of_both_KB = np.einsum("kn,kn->k", rows_KN, rows_KN)[:, None] + np.einsum("bn,bn->b", columns_BN, columns_BN)[None]
    squares_KB = of_both_KB - 2 * rows_KN @ columns_BN.T
    cleaned_KB: Array = np.where(squares_KB > TINY * of_both_KB, squares_KB, 0.0)
    return cleaned_KB


def _look_up(df_P: Array, num_settings: int, level: float) -> Array:
    """`_find_range_factor` for each of the degrees of freedom."""
    distinct, inverse = np.unique(df_P, return_inverse=True)
    factors = np.array([_find_range_factor(num_settings, float(df), level) for df in distinct])
    return factors[inverse] if len(distinct) else np.zeros(0)


def _find_range_factor(num_settings: int, df: float, level: float) -> float:
    """The quantile `level` of the largest of all differences of `num_settings` equal means, in standard errors."""
    if df <= 0:
        return math.inf
    return _find_studentized_range(level, num_settings, round(df, _DF_DIGITS)) / 2**0.5


@cache
def _find_studentized_range(level: float, num_settings: int, df: float) -> float:
    return float(stats.studentized_range.ppf(level, num_settings, df))


def _find_sidak_level(num_settings: int, level: float) -> float:
    """The level of one of all differences of `num_settings`, so that all hold with `level` (Sidak 1967)."""
    return float(level ** (2 / max(num_settings * (num_settings - 1), 2)))
