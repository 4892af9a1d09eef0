"""Power of a comparison: how many seeds or items are needed to detect a difference."""

import math
from functools import cache
from typing import Final

import numpy as np
from scipy import optimize, stats

from sweeplab.statistics.intervals import LEVEL, Array, level_with

POWER: Final = 0.8
_MAX_SEEDS: Final = 1000
_NUM_QUANTILES: Final = 400


@cache
def _list_deviation_ratios(df: float) -> Array:
    """Quantiles of estimated over true standard deviation, chi / sqrt(df); a mean over them replaces an integral."""
    shares_Q = (np.arange(_NUM_QUANTILES) + 0.5) / _NUM_QUANTILES
    scales_Q: Array = np.sqrt(stats.chi2.ppf(shares_Q, df) / df)
    return scales_Q


@cache
def _find_t_quantile(share: float, df: float) -> float:
    return float(stats.t.ppf(share, df))


def _compute_power(
    difference: float,
    deviation: float,
    num_seeds: int,
    level: float = LEVEL,
    item_variance: float = 0.0,
    item_df: float = math.inf,
    item_level: float = LEVEL,
) -> float:
    """Probability that a two-sided paired test with `num_seeds` seeds detects a true `difference`.

    Without items it is the power of the t test: a noncentral t with noncentrality difference / (deviation / sqrt(S))
    (Cohen 1988, chapter 2), without the chance of a significant result of the wrong sign. The integral over the chi
    distribution is computed from quantiles, because SciPy's noncentral t is inaccurate in the tails.

    Args:
        deviation: standard deviation of the difference over seeds.
        item_variance: variance of the mean over other samples of items, whatever the number of seeds; the test adds
            the squares of both limits, as the intervals do (`contrasts.reach_of`).
        item_df: its degrees of freedom.
        item_level: of the items' part, which more seeds do not draw again.
    """
    df, by_seed = num_seeds - 1, deviation**2 / num_seeds
    error = math.sqrt(by_seed + item_variance)
    if error == 0:
        return 1.0
    seeds_Q = (_find_t_quantile((1 + level) / 2, df) * _list_deviation_ratios(df)) ** 2 * by_seed
    items = _find_t_quantile((1 + item_level) / 2, item_df) ** 2 * item_variance
    return float(stats.norm.sf((np.sqrt(seeds_Q + items) - abs(difference)) / error).mean())


def count_seeds_needed(
    difference: float,
    deviation: float,
    level: float = LEVEL,
    power: float = POWER,
    item_variance: float = 0.0,
    item_df: float = math.inf,
) -> int | None:
    """The smallest number of seeds with which a two-sided paired test has this power; arguments as `_compute_power`.

    The test is that of the reports, which holds at any look: with more seeds its level is stricter.

    None where that is more than `_MAX_SEEDS`, where the difference is 0, and where the items alone are too few for
    any number of seeds.
    """

    def suffices(num_seeds: int) -> bool:
        of_seeds = level_with(num_seeds, level)
        return _compute_power(difference, deviation, num_seeds, of_seeds, item_variance, item_df, level) >= power

    if difference == 0:
        return None
    low, high = 1, 2
    while not suffices(high):
        if high == _MAX_SEEDS:
            return None
        low, high = high, min(2 * high, _MAX_SEEDS)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if suffices(middle) else (middle, high)
    return high


def count_items_needed(difference: float, deviation: float, level: float = LEVEL, power: float = POWER) -> int | None:
    """Items for a paired comparison of two settings, (z_level + z_power)^2 deviation^2 / difference^2.

    `deviation` is the standard deviation of the difference over items. Miller 2024, arXiv 2411.00640, section 5.
    """
    if difference == 0:
        return None
    z = float(stats.norm.ppf((1 + level) / 2) + stats.norm.ppf(power))
    return max(2, math.ceil((z * deviation / difference) ** 2))


def find_least_difference(se: float, df: float, critical: float, power: float = POWER) -> float:
    """The smallest difference that a test detects with probability `power`.

    `se` is its standard error with `df` degrees of freedom, `critical` the critical value in standard errors. The
    noncentral t is used as in `_compute_power`. The usual sum of two quantiles, (critical + t_power) se, is exact only
    for a known standard deviation: with two degrees of freedom that difference is detected in 77 % of the cases, and
    in fewer with one, or with a critical value for many differences.
    """
    if math.isinf(df):
        return (critical + _find_t_quantile(power, df)) * se

    def missing(shift: float) -> float:
        return float(stats.norm.sf(critical * _list_deviation_ratios(df) - shift).mean()) - power

    highest = 2 * critical * float(_list_deviation_ratios(df)[-1]) + _find_t_quantile(power, math.inf)
    return float(optimize.brentq(missing, 0.0, highest)) * se
