"""Which settings are worse than the best: differences with intervals that hold for all pairs at once, at any look."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sweeplab.statistics.intervals import LARGEST_LOG, LEVEL, TINY, Estimate
from sweeplab.statistics.pairs import compare_pairs
from sweeplab.statistics.results import ResultTable


@dataclass(frozen=True)
class Comparison:
    """The mean of every setting minus that of the best, with simultaneous intervals. Lists are by setting."""

    best: int
    differences: list[Estimate]  # over the seeds that both have; that of the best itself is 0 without an interval
    tied: list[int]  # settings that are not significantly worse than the best, the best included
    seed_deviations: list[float] | None  # standard deviation of the difference over seeds; None for one seed, NaN for a
    # pair without two seeds in common
    item_deviations: list[float] | None  # standard deviation over items, without that of seeds; None without items
    num_items: int  # items that each trial was scored on; 0: not known
    factors: list[float]  # half the width of each interval in standard errors
    uncertain: list[int]  # settings whose difference has an error larger than rounding
    num_common: list[int]  # seeds that each setting has in common with the best


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
    pairs = _list_differences(table, best, level)
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
    by_seed = [
        unit * math.sqrt(one.seed_variance * one.num_seeds) if one.num_seeds > 1 else math.nan
        for unit, one in zip(units, pairs, strict=True)
    ]
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
        [one.num_seeds for one in pairs],
    )


def _list_differences(table: ResultTable, best: int, level: float) -> list[_Difference]:
    """Every setting minus the best."""
    all_pairs = compare_pairs(table, np.array([best]), level)
    columns = (
        all_pairs.value_KB,
        all_pairs.num_seeds_KB,
        all_pairs.seed_variance_KB,
        all_pairs.item_variance_KB,
        all_pairs.df_KB,
        all_pairs.reach_KB,
    )
    return [_Difference(*one) for one in zip(*(column[:, 0].tolist() for column in columns), strict=True)]


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
