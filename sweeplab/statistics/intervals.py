"""Intervals of one setting's mean: over seeds, or over items where there is one seed."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]
LEVEL: Final = 0.95
MIN_OWN_SEEDS: Final = 6  # fewer give a setting's own variance too few degrees of freedom, so it is pooled


@dataclass(frozen=True)
class Estimate:
    """A number with its interval; without one (`low` is None) nothing is known of its error."""

    value: float
    se: float | None
    df: float | None  # degrees of freedom of `se`; infinite where it is exact or normal
    low: float | None
    high: float | None
    covers: str  # 'seeds', 'items', 'seeds and items', or 'nothing'


def pooled(num_seeds: int, num_settings: int) -> bool:
    """True where settings share one variance over seeds, since each has too few seeds to know its own."""
    return num_settings > 1 and num_seeds < MIN_OWN_SEEDS


def t_estimate(value: float, se: float, df: float, covers: str, level: float = LEVEL) -> Estimate:
    """value ± t * se, t the (1 + level) / 2 quantile of Student's t with `df` degrees of freedom."""
    reach = float(stats.t.ppf((1 + level) / 2, df)) * se
    return Estimate(value, se, df, value - reach, value + reach, covers)


def unknown(value: float) -> Estimate:
    return Estimate(value, None, None, None, None, "nothing")


def seed_intervals(values_KS: Array, level: float = LEVEL) -> list[Estimate]:
    """The mean over seeds of every setting; values are (K settings, S seeds), S at least 2.

    With fewer than `MIN_OWN_SEEDS` seeds the variance over seeds is pooled over the settings: K (S - 1) degrees of
    freedom instead of S - 1, at the price of assuming that it is the same for all (one-way analysis of variance,
    Fisher 1925). Three seeds alone would need t = 4.30; with seven settings together it is 2.14. Where one setting
    spreads much more than the others its own interval is too short; the tests say how much.
    """
    num_settings, num_seeds = values_KS.shape
    variance_K = values_KS.var(axis=1, ddof=1)
    df = num_seeds - 1
    if pooled(num_seeds, num_settings):
        variance_K, df = np.full(num_settings, variance_K.mean()), num_settings * df
    se_K = np.sqrt(variance_K / num_seeds)
    return [
        t_estimate(float(mean), float(se), df, "seeds", level)
        for mean, se in zip(values_KS.mean(axis=1), se_K, strict=True)
    ]


def share_interval(share: float, num_items: int, level: float = LEVEL) -> Estimate:
    """A share right of independent items, by Wilson 1927, which keeps within 0 and 1 and holds near both ends.

    Covers another draw of as many items, not another seed.
    """
    z = float(stats.norm.ppf((1 + level) / 2))
    middle = (share + z * z / (2 * num_items)) / (1 + z * z / num_items)
    reach = z / (1 + z * z / num_items) * math.sqrt(share * (1 - share) / num_items + (z / (2 * num_items)) ** 2)
    se = math.sqrt(share * (1 - share) / num_items)
    return Estimate(share, se, math.inf, max(0.0, middle - reach), min(1.0, middle + reach), "items")


def item_interval(mean: float, stderr: float, num_items: int, level: float = LEVEL) -> Estimate:
    """A mean over independent items from its standard error; covers items, not seeds. Miller 2024, arXiv 2411.00640."""
    return t_estimate(mean, stderr, max(num_items - 1, 1), "items", level)
