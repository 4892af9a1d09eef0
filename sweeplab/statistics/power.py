"""How many seeds, or items, a difference needs to be seen."""

import math
from functools import cache
from typing import Final

import numpy as np
from scipy import optimize, stats

from sweeplab.statistics.spreads import Array

POWER: Final = 0.8
MOST_SEEDS: Final = 1000
NUM_QUANTILES: Final = 400


@cache
def _list_deviation_ratios(df: float) -> Array:
    """Quantiles of an estimated deviation over the true one, chi / sqrt(df); their mean stands for an integral."""
    shares_Q = (np.arange(NUM_QUANTILES) + 0.5) / NUM_QUANTILES
    scales_Q: Array = np.sqrt(stats.chi2.ppf(shares_Q, df) / df)
    return scales_Q


@cache
def _quantile(share: float, df: float) -> float:
    return float(stats.t.ppf(share, df))


def compute_power(
    difference: float,
    deviation: float,
    num_seeds: int,
    level: float = 0.95,
    item_variance: float = 0.0,
    item_df: float = math.inf,
) -> float:
    """Probability that a two-sided paired test of S seeds finds a true `difference`; `deviation` is that of one seed's.

    Without items it is the t test: the noncentral t with noncentrality difference / (deviation / sqrt(S)), Cohen 1988,
    chapter 2; the chance to find it with the wrong sign is left out. The integral over the chi distribution is taken by
    its quantiles, since SciPy's own noncentral t loses its digits far from the middle. `item_variance`, with its
    degrees of freedom, is what other items would change in the mean whatever the number of seeds is; the test adds the
    squares of both limits, as the intervals do (`contrasts.Errors.reach_M`).
    """
    df, by_seed = num_seeds - 1, deviation**2 / num_seeds
    error = math.sqrt(by_seed + item_variance)
    if error == 0:
        return 1.0
    seeds_Q = (_quantile((1 + level) / 2, df) * _list_deviation_ratios(df)) ** 2 * by_seed
    items = _quantile((1 + level) / 2, item_df) ** 2 * item_variance
    return float(stats.norm.sf((np.sqrt(seeds_Q + items) - abs(difference)) / error).mean())


def count_seeds_needed(
    difference: float,
    deviation: float,
    level: float = 0.95,
    power: float = POWER,
    item_variance: float = 0.0,
    item_df: float = math.inf,
) -> int | None:
    """Seeds for a two-sided paired test of two settings, as `power_of` has it.

    None beyond `MOST_SEEDS`, without a difference, and where the items alone leave too much to chance for any number.
    """

    def found(num_seeds: int) -> bool:
        return compute_power(difference, deviation, num_seeds, level, item_variance, item_df) >= power

    if difference == 0 or not found(MOST_SEEDS):
        return None
    low, high = 1, 2
    while not found(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if found(middle) else (middle, high)
    return high


def count_items_needed(difference: float, deviation: float, level: float = 0.95, power: float = POWER) -> int | None:
    """Items for a paired comparison of two settings, (z_level + z_power)^2 deviation^2 / difference^2.

    `deviation` is that of one item's difference. Miller 2024, arXiv 2411.00640, section 5.
    """
    if difference == 0:
        return None
    z = float(stats.norm.ppf((1 + level) / 2) + stats.norm.ppf(power))
    return max(2, math.ceil((z * deviation / difference) ** 2))


def find_least_difference(se: float, df: float, critical: float, power: float = POWER) -> float:
    """The difference that a test with this standard error finds with probability `power`.

    Of the noncentral t, as `power_of` has it. The sum of two quantiles, (critical + t_power) se, is exact without an
    estimated deviation only: with two freedoms it is found 77 % of the time, and with the critical value of many
    differences, or with one freedom, less.
    """
    if math.isinf(df):
        return (critical + _quantile(power, df)) * se

    def missing(shift: float) -> float:
        return float(stats.norm.sf(critical * _list_deviation_ratios(df) - shift).mean()) - power

    highest = 2 * critical * float(_list_deviation_ratios(df)[-1]) + _quantile(power, math.inf)
    return float(optimize.brentq(missing, 0.0, highest)) * se
