"""The mean of every setting, with intervals that hold for all settings at once: whichever a reader picks."""

import math

import numpy as np

from sweeplab.statistics.contrasts import Part, reach_of
from sweeplab.statistics.intervals import LARGEST_LOG, LEVEL, Estimate, estimate_without_error, find_t, level_with
from sweeplab.statistics.results import ResultTable


def estimate_means(table: ResultTable, level: float = LEVEL, with_common: bool = True) -> list[Estimate]:
    """The mean over its seeds of every setting; no interval for one with fewer than two.

    The level is Sidak's (1967) for K means, since the best is picked by the same values: of 64 settings alike with two
    seeds, the interval of one mean held for the best in 22 % of studies. What a seed does to all settings alike is an
    error of every mean, with S - 1 degrees of freedom; without `with_common` it is left out.
    """
    return [_estimate_mean(table, index, level, with_common) for index in range(len(table.values_KS))]


def _estimate_mean(table: ResultTable, index: int, level: float, with_common: bool) -> Estimate:
    spreads, mean = table.spreads, float(table.means_K[index])
    num_seeds = int(table.counts_K[index])
    if num_seeds < 2:
        return estimate_without_error(mean)
    of_all = level_with(num_seeds, level)
    of_one = of_all ** (1 / len(table.values_KS))
    own = Part(float(spreads.own_K[index]) / num_seeds, float(spreads.own_df_K[index]))
    reach, variance = reach_of([own], of_one), own.variance
    if spreads.shares_K[index]:
        pooled = Part(spreads.pooled / num_seeds, spreads.pooled_df)
        reach, variance = max((reach, own.variance), (reach_of([pooled], of_one), pooled.variance))
    if spreads.shares_K[index] and with_common:
        common = Part(spreads.common / num_seeds, spreads.common_df)
        reach, variance = math.hypot(reach, reach_of([common], of_all)), variance + common.variance
    se, df, is_apart = math.sqrt(variance), own.df, bool(spreads.apart_K[index])
    if table.is_log and is_apart:  # a few seeds of its own: an interval by the logarithm would reach for thousands
        se = float(np.nanstd(table.values_KS[index], ddof=1)) / math.sqrt(num_seeds)
        reach = find_t(of_one, df) * se
    elif table.is_log:
        reach = min(reach, LARGEST_LOG)
        return Estimate(mean, mean * se, df, mean * math.exp(-reach), mean * math.exp(reach), "seeds", is_apart)
    return Estimate(mean, se, df, mean - reach, mean + reach, "seeds", is_apart)
