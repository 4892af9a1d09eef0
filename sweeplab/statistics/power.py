"""How many seeds, or items, a difference needs to be seen."""

import math
from typing import Final

from scipy import stats

POWER: Final = 0.8
MOST_SEEDS: Final = 1000


def power_of(difference: float, deviation: float, num_seeds: int, df: float, critical: float) -> float:
    """Probability that a true `difference` is found; `deviation` is that of one seed's difference.

    Of a t test with noncentrality difference / (deviation / sqrt(S)): Cohen 1988, chapter 2.
    """
    shift = abs(difference) / deviation * math.sqrt(num_seeds)
    return float(1 - stats.nct.cdf(critical, df, shift) + stats.nct.cdf(-critical, df, shift))


def seeds_needed(difference: float, deviation: float, level: float = 0.95, power: float = POWER) -> int | None:
    """Seeds for a two-sided paired t test of two settings; None beyond `MOST_SEEDS`, or where there is no difference."""
    if difference == 0:
        return None
    if deviation == 0:
        return 2

    def enough(num_seeds: int) -> bool:
        df = num_seeds - 1
        return power_of(difference, deviation, num_seeds, df, float(stats.t.ppf((1 + level) / 2, df))) >= power

    low, high = 1, 2
    while not enough(high):
        low, high = high, 2 * high
        if low >= MOST_SEEDS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high if high <= MOST_SEEDS else None


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
