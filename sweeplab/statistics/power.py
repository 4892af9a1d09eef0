"""How many seeds, or items, a difference needs to be seen."""

import math
from typing import Final

import numpy as np
from scipy import stats

POWER: Final = 0.8
MOST_SEEDS: Final = 1000
NUM_QUANTILES: Final = 400


def power_of(difference: float, deviation: float, num_seeds: int, level: float = 0.95) -> float:
    """Probability that a two-sided paired t test finds a true `difference`; `deviation` is that of one seed's.

    The noncentral t with noncentrality difference / (deviation / sqrt(S)), Cohen 1988, chapter 2; the chance to find it
    with the wrong sign is left out. The integral over the chi distribution is taken by its quantiles, since SciPy's own
    noncentral t loses its digits far from the middle.
    """
    df, shift = num_seeds - 1, abs(difference) / deviation * math.sqrt(num_seeds)
    critical = float(stats.t.ppf((1 + level) / 2, df))
    scales_Q = np.sqrt(stats.chi2.ppf((np.arange(NUM_QUANTILES) + 0.5) / NUM_QUANTILES, df) / df)
    return float(stats.norm.sf(critical * scales_Q - shift).mean())


def seeds_needed(difference: float, deviation: float, level: float = 0.95, power: float = POWER) -> int | None:
    """Seeds for a two-sided paired t test of two settings; None beyond `MOST_SEEDS` or without a difference."""
    if difference == 0:
        return None
    if deviation == 0 or power_of(difference, deviation, 2, level) >= power:
        return 2
    low, high = 2, 4
    while power_of(difference, deviation, high, level) < power:
        low, high = high, 2 * high
        if low >= MOST_SEEDS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power_of(difference, deviation, middle, level) >= power else (middle, high)
    return high


def items_needed(difference: float, deviation: float, level: float = 0.95, power: float = POWER) -> int | None:
    """Items for a paired comparison of two settings, (z_level + z_power)^2 deviation^2 / difference^2.

    `deviation` is that of one item's difference. Miller 2024, arXiv 2411.00640, section 5.
    """
    if difference == 0:
        return None
    z = float(stats.norm.ppf((1 + level) / 2) + stats.norm.ppf(power))
    return max(2, math.ceil((z * deviation / difference) ** 2))


def least_difference(se: float, df: float, critical: float, power: float = POWER) -> float:
    """The difference that a test with this standard error finds with probability `power`: (critical + t_power) se.

    The sum of two quantiles in place of the noncentral t, which is exact to a few percent from 2 freedoms on.
    """
    return (critical + float(stats.t.ppf(power, df))) * se
