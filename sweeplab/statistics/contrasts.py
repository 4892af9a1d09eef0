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
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from scipy import stats

from sweeplab.statistics.intervals import LEVEL, Array, Estimate, pooled, unknown

TINY: Final = 1e-12  # of a value: less is rounding


@dataclass(frozen=True)
class Table:
    """One metric of K settings that ran with the same S seeds, on the same N items where they are known."""

    values_KS: Array  # a trial's own number, as its record has it
    items_KSN: Array | None = None  # its parts; their mean over N is `values_KS`
    errors_KS: Array | None = None  # standard errors over items, for one seed without its items; NaN: unknown

    @property
    def num_seeds(self) -> int:
        return int(self.values_KS.shape[1])


def interaction_variance(values_KS: Array) -> tuple[float, int]:
    """Variance of what is left when settings and seeds have had their means, with its (K - 1)(S - 1) freedoms.

    A difference of two settings has twice this variance over seeds: what a seed does to all settings alike cancels.
    """
    rest_KS = values_KS - values_KS.mean(axis=1, keepdims=True) - values_KS.mean(axis=0) + values_KS.mean()
    freedoms = (values_KS.shape[0] - 1) * (values_KS.shape[1] - 1)
    return float((rest_KS**2).sum() / freedoms), freedoms


def seed_variance(table: Table, weights_MK: Array) -> tuple[Array, int]:
    """Variance over seeds of M contrasts (weights add up to 0 or not), with its degrees of freedom."""
    num_settings, num_seeds = table.values_KS.shape
    balanced = np.abs(weights_MK.sum(axis=1)) < TINY
    if pooled(num_seeds, num_settings) and balanced.all():
        variance, df = interaction_variance(table.values_KS)
        return (weights_MK**2).sum(axis=1) * variance, df
    if pooled(num_seeds, num_settings) and ((weights_MK != 0).sum(axis=1) == 1).all():
        variance = float(table.values_KS.var(axis=1, ddof=1).mean())
        return (weights_MK**2).sum(axis=1) * variance, num_settings * (num_seeds - 1)
    return (weights_MK @ table.values_KS).var(axis=1, ddof=1), num_seeds - 1


def item_variance(results_SN: Array) -> float:
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

    seeds_M: Array
    seed_df: float
    items_M: Array
    item_df: float
    covers: str

    def se_M(self) -> Array:
        return np.sqrt(self.seeds_M + self.items_M)

    def df(self) -> float:
        """The degrees of freedom of the part that has the fewest."""
        return self.item_df if self.covers == "items" else self.seed_df

    def reach_M(self, factor: Callable[[float], float]) -> Array:
        """Half the intervals' widths, with `factor(df)` the critical value for so many degrees of freedom.

        The two parts have their own: Howe 1974 (doi 10.1080/01621459.1974.10482991) adds the squares of the limits.
        One factor for the whole, with Satterthwaite's degrees of freedom, covers 88 % instead of 95 % with two seeds.
        """
        parts_M = np.zeros(len(self.seeds_M))
        for variance_M, df in ((self.seeds_M, self.seed_df), (self.items_M, self.item_df)):
            if variance_M.any():
                parts_M = parts_M + factor(df) ** 2 * variance_M
        return np.sqrt(parts_M)


def errors_of(table: Table, weights_MK: Array) -> Errors | None:
    """The errors of M contrasts; None where nothing is known.

    One seed without its items: the items' standard errors as if the settings had seen other items, which is too wide
    for results that are paired, and never too short as long as settings find the same items hard.
    """
    num_contrasts, num_items = weights_MK.shape[0], 0 if table.items_KSN is None else table.items_KSN.shape[2]
    none_M = np.zeros(num_contrasts)
    items_M, item_df = none_M.copy(), math.inf
    if table.items_KSN is not None and num_items > 1:
        item_df = num_items - 1.0
        for place, weights_K in enumerate(weights_MK):
            used = weights_K != 0
            items_M[place] = item_variance(np.tensordot(weights_K[used], table.items_KSN[used], axes=1))
    elif table.num_seeds == 1:
        if table.errors_KS is None or np.isnan(table.errors_KS).any():
            return None
        items_M = weights_MK**2 @ table.errors_KS[:, 0] ** 2
    if table.num_seeds == 1:
        return Errors(none_M, math.inf, items_M, item_df, "items")
    variance_M, df = seed_variance(table, weights_MK)
    covers = "seeds and items" if num_items > 1 else "seeds"
    return Errors(variance_M / table.num_seeds, float(df), items_M, item_df, covers)


def contrast(table: Table, weights_K: Array, level: float = LEVEL) -> Estimate:
    """Sum of weights times settings' means, with its interval."""
    value = float(weights_K @ table.values_KS.mean(axis=1))
    errors = errors_of(table, weights_K[None])
    if errors is None:
        return unknown(value)
    reach = float(errors.reach_M(lambda df: float(stats.t.ppf((1 + level) / 2, df)))[0])
    return Estimate(value, float(errors.se_M()[0]), errors.df(), value - reach, value + reach, errors.covers)


@dataclass(frozen=True)
class Comparison:
    """Every setting's mean minus the best's, with intervals that hold all at once."""

    best: int
    differences: list[Estimate]  # by setting; the best's own is 0 with no interval
    tied: list[int]  # settings that cannot be told from the best, itself included
    seed_deviations: list[float] | None  # of one seed's difference, by setting; None for one seed
    item_deviations: list[float] | None  # of one item's, where one seed is all; None with more, or without items
    factor: float  # standard errors that the intervals reach, at the degrees of freedom of the estimates


def compare_with_best(table: Table, sign: int, level: float = LEVEL) -> Comparison | None:
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
    weights_KK = np.eye(num_settings)
    weights_KK[:, best] -= 1.0
    errors = errors_of(table, weights_KK) if num_settings > 1 else None
    if errors is None:
        return None
    shared = table.num_seeds == 1 or pooled(table.num_seeds, num_settings)
    se_K, df, covers = errors.se_M(), errors.df(), errors.covers
    others = np.arange(num_settings) != best
    differences_K = means_K - means_K[best]
    reach_K = errors.reach_M(lambda df: family_factor(num_settings, df, shared, level))
    rounding = TINY * max(1.0, float(np.abs(means_K).max()))
    apart_K = others & (sign * differences_K + reach_K < -rounding)
    estimates = [
        Estimate(float(value), float(se), df, float(value - reach), float(value + reach), covers)
        for value, se, reach in zip(differences_K, se_K, reach_K, strict=True)
    ]
    num_items = 0 if table.items_KSN is None else table.items_KSN.shape[2]
    seeds = np.sqrt(errors.seeds_M * table.num_seeds).tolist() if table.num_seeds > 1 else None
    items = np.sqrt(errors.items_M * num_items).tolist() if num_items > 1 and table.num_seeds == 1 else None
    tied = [int(place) for place in np.flatnonzero(~apart_K)]
    return Comparison(best, estimates, tied, seeds, items, family_factor(num_settings, df, shared, level))


@cache
def family_factor(num_settings: int, df: float, shared: bool, level: float = LEVEL) -> float:
    """How many standard errors the largest of all differences of `num_settings` equal means reaches, by chance.

    Where the settings do not share a variance the studentized range is too small (a family error of 6 % with seven
    settings and eight seeds); then every difference is taken at Sidak's level (Sidak 1967), as in Dunnett's T3 of 1980.
    """
    if shared:
        return float(stats.studentized_range.ppf(level, num_settings, df)) / 2**0.5
    num_pairs = num_settings * (num_settings - 1) / 2
    return float(stats.t.ppf((1 + level ** (1 / num_pairs)) / 2, df))
