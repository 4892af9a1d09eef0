"""Which settings are worse than the best: differences with intervals that hold for all pairs at once, at any look."""

import math
from dataclasses import dataclass
from functools import cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from sweeplab.statistics.intervals import LARGEST_LOG, LEVEL, TINY, Estimate, find_t, level_with
from sweeplab.statistics.results import ResultTable, compute_item_variance

_DF_DIGITS: Final = 9  # a quantile takes a tenth of a second: degrees of freedom that differ by rounding share it


@dataclass(frozen=True)
class Comparison:
    """The mean of every setting minus that of the best, with simultaneous intervals. Lists are by setting."""

    best: int
    differences: list[Estimate]  # over the seeds that both have; that of the best itself is 0 without an interval
    tied: list[int]  # settings that are not significantly worse than the best, the best included
    seed_deviations: list[float] | None  # standard deviation of the difference over seeds; None for one seed
    item_deviations: list[float] | None  # standard deviation over items, without that of seeds; None without items
    num_items: int  # items that each trial was scored on; 0: not known
    factors: list[float]  # half the width of each interval in standard errors
    uncertain: list[int]  # settings whose difference has an error larger than rounding


class _Difference(NamedTuple):
    """One setting minus the best, on the scale of the analysis."""

    value: float
    num_seeds: int  # that both have
    seed_variance: float  # of the mean
    item_variance: float
    df: float
    reach: float


def find_best(table: ResultTable, sign: int) -> int:
    """The index of the best mean, as if all had run with every seed.

    Of the settings that may be the best those with two seeds, where there are any; else of those that may be it.
    `sign` is 1 where a larger value is better, else -1.
    """
    counts_K = table.counts_K
    eligible_K = np.ones(len(counts_K), dtype=bool) if table.eligible_K is None else table.eligible_K
    candidates_K = eligible_K & (counts_K >= min(2, int(counts_K.max())))
    chosen_K = next((mask for mask in (candidates_K, eligible_K) if mask.any()), ~eligible_K)
    return int(np.argmax(np.where(chosen_K, sign * table.effects_K, -np.inf)))


def compare_with_best(table: ResultTable, sign: int, level: float = LEVEL) -> Comparison | None:
    """Which settings are significantly worse than the best. None where no error is known.

    `sign` is 1 where a larger value is better, else -1. The best is chosen from the same data, so the corrections of
    Holm or Dunnett, for a reference chosen beforehand, would give intervals that are too short. The critical value is
    that for all K (K - 1) / 2 differences: the wider of the studentized range (Tukey 1953, Kramer 1956) with the pooled
    variance, and of Sidak's (1967) with the moderated variances of both. With probability `level`, no setting is called
    worse that is not, even where all are equal, at any number of seeds.

    With one seed none is called worse: its intervals are over items, and another seed may do as much.
    """
    best, num_settings = find_best(table, sign), len(table.values_KS)
    if num_settings < 2:
        return None
    pairs = [_compare_pair(table, index, best, level) for index in range(num_settings)]
    others = [index for index in range(num_settings) if index != best]
    if all(math.isinf(pairs[index].reach) for index in others):
        return None
    covers = _name_sources(table)
    estimates = [_express(table, best, one, covers) for one in pairs]
    rounding = TINY * max(1.0, float(np.abs(table.means_K).max()))
    worse = {
        index
        for index in others
        if pairs[index].num_seeds > 1 and sign * pairs[index].value + pairs[index].reach < -rounding
    }
    num_items = 0 if table.items_KSN is None else table.items_KSN.shape[2]
    units = [_find_unit(table, best, one) for one in pairs]
    by_seed = [unit * math.sqrt(one.seed_variance * one.num_seeds) for unit, one in zip(units, pairs, strict=True)]
    by_item = [unit * math.sqrt(one.item_variance * num_items) for unit, one in zip(units, pairs, strict=True)]
    return Comparison(
        best,
        estimates,
        [index for index in range(num_settings) if index not in worse],
        by_seed if table.num_seeds > 1 else None,
        by_item if num_items > 1 else None,
        num_items,
        [_divide(one.reach, math.sqrt(one.seed_variance + one.item_variance)) for one in pairs],
        [index for index in others if _has_error(estimates[index], rounding)],
    )


def _compare_pair(table: ResultTable, index: int, best: int, level: float) -> _Difference:
    seeds = table.find_common_seeds(np.array([index, best]))
    num_seeds = len(seeds)
    if index == best:
        return _Difference(0.0, num_seeds, 0.0, 0.0, math.inf, 0.0)
    if num_seeds == 0:
        return _Difference(float(table.effects_K[index] - table.effects_K[best]), 0, 0.0, 0.0, 0.0, math.inf)
    mean, of_best = (table.average_over(one, seeds) for one in (index, best))
    value = math.log(mean / of_best) if table.is_log else mean - of_best
    items, item_df = _find_item_error(table, index, best, seeds)
    item_factor = _find_family_factor(len(table.values_KS), item_df, True, level) if items > 0 else 0.0
    if num_seeds == 1:
        reach = item_factor * math.sqrt(items) if items > 0 else math.inf
        return _Difference(value, 1, 0.0, items, item_df, reach)
    num_apart = table.spreads.num_apart
    family = _Family(len(table.values_KS) - num_apart, num_apart, level_with(num_seeds, level))
    variance, df, seed_reach = _find_seed_error(table, index, best, seeds, family)
    return _Difference(value, num_seeds, variance, items, df, math.hypot(seed_reach, item_factor * math.sqrt(items)))


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
            return float(self.level ** (1 / max(self.num_alike * (self.num_alike - 1) / 2, 1)))
        return float(self.half ** (2 / (self.num_apart * (self.num_apart + 1))))


def _find_seed_error(
    table: ResultTable, index: int, best: int, seeds: NDArray[np.int_], family: _Family
) -> tuple[float, float, float]:
    """The variance over seeds of a mean difference, its degrees of freedom, and half the width of its interval."""
    spreads, num_seeds = table.spreads, len(seeds)
    if not (spreads.shares_K[index] and spreads.shares_K[best]):
        by_seed_S = table.scaled_KS[index, seeds] - table.scaled_KS[best, seeds]
        variance, df = float(by_seed_S.var(ddof=1)) / num_seeds, num_seeds - 1.0
        return variance, df, find_t(family.own_level(), df) * math.sqrt(variance)
    pooled = 2 * spreads.pooled / num_seeds
    moderated = float(spreads.own_K[index] + spreads.own_K[best]) / num_seeds
    moderated_df = min(float(spreads.own_df_K[index]), float(spreads.own_df_K[best]))
    reach = _find_family_factor(family.num_alike, spreads.pooled_df, True, family.half) * math.sqrt(pooled)
    wider = _find_family_factor(family.num_alike, moderated_df, False, family.half) * math.sqrt(moderated)
    variance, df = (pooled, spreads.pooled_df) if reach >= wider else (moderated, moderated_df)
    reach = max(reach, wider)
    if spreads.flat_K[index] != spreads.flat_K[best]:  # no seed moves one of them, so that seeds' effects do not cancel
        common = spreads.common / num_seeds
        variance, reach = variance + common, math.hypot(reach, find_t(family.level, spreads.common_df) * common**0.5)
    return variance, df, reach


def _find_item_error(table: ResultTable, index: int, best: int, seeds: NDArray[np.int_]) -> tuple[float, float]:
    """The variance over items of a mean difference with its degrees of freedom; 0 where items do not count.

    Without results by item and with one seed it is that of other items for each setting, which is never too small if
    the same items are hard for all.
    """
    items_KSN = table.scaled_items_KSN
    if items_KSN is not None and items_KSN.shape[2] > 1:
        return compute_item_variance(items_KSN[index, seeds] - items_KSN[best, seeds]), items_KSN.shape[2] - 1.0
    if len(seeds) > 1 or table.errors_KS is None:
        return 0.0, 0.0
    errors = table.errors_KS[[index, best], seeds[0]] / (
        table.values_KS[[index, best], seeds[0]] if table.is_log else 1
    )
    return (0.0, 0.0) if np.isnan(errors).any() else (float(errors @ errors), math.inf)


def _find_family_factor(num_settings: int, df: float, shared: bool, level: float) -> float:
    """The quantile `level` of the largest of all differences of `num_settings` equal means, in standard errors.

    Without a shared variance each difference is tested at Sidak's level (1967), as in Dunnett's T3 (1980).
    """
    if df <= 0:
        return math.inf
    if shared:
        return _find_studentized_range(level, num_settings, round(df, _DF_DIGITS)) / 2**0.5
    return find_t(level ** (2 / (num_settings * (num_settings - 1))), df)


@cache
def _find_studentized_range(level: float, num_settings: int, df: float) -> float:
    return float(stats.studentized_range.ppf(level, num_settings, df))


def _find_unit(table: ResultTable, best: int, one: _Difference) -> float:
    """What a small change on the scale of the analysis is in the unit of the metric, at the setting's mean."""
    return float(table.means_K[best]) * math.exp(one.value) if table.is_log else 1.0


def _express(table: ResultTable, best: int, one: _Difference, covers: str) -> Estimate:
    """The difference in the unit of the metric; of logarithms, the best's mean times (ratio - 1)."""
    middle = float(table.means_K[best])

    def convert(value: float) -> float:
        return middle * math.expm1(min(value, LARGEST_LOG)) if table.is_log else value

    if math.isinf(one.reach):
        return Estimate(convert(one.value), None, None, None, None, "nothing")
    se = _find_unit(table, best, one) * math.sqrt(one.seed_variance + one.item_variance)
    return Estimate(
        convert(one.value), se, one.df, convert(one.value - one.reach), convert(one.value + one.reach), covers
    )


def _name_sources(table: ResultTable) -> str:
    if table.num_seeds == 1:
        return "items"
    return "seeds" if table.items_KSN is None or table.items_KSN.shape[2] < 2 else "seeds and items"


def _has_error(estimate: Estimate, rounding: float) -> bool:
    return estimate.se is not None and estimate.se > rounding


def _divide(reach: float, error: float) -> float:
    return reach / error if error else 0.0
