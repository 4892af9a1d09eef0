"""Intervals of one setting's mean: over seeds, or over items where there is one seed."""

import math
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from scipy import stats

from sweeplab.statistics.spreads import TINY, compute_own_variances, find_varied, is_pooled, split_by_spread
from sweeplab.statistics.spreads import Array as Array

LEVEL: Final = 0.95


@dataclass(frozen=True)
class Estimate:
    """A number with its interval; without one (`low` is None) nothing is known of its error."""

    value: float
    se: float | None
    df: float | None  # degrees of freedom of `se`; infinite where it is exact or normal
    low: float | None
    high: float | None
    covers: str  # 'seeds', 'items', 'seeds and items', or 'nothing'
    is_wide: bool = False  # among settings that share a variance one that spreads more, and stands on its own seeds

    @property
    def has_spread(self) -> bool:
        """True where its error is known and more than rounding."""
        return self.se is not None and self.se > TINY * max(1.0, abs(self.value))


def clip_estimate(estimate: Estimate, low: float, high: float) -> Estimate:
    """Without what lies outside of what can be; the cut takes nothing from what the interval covers."""
    if estimate.low is None or estimate.high is None:
        return estimate
    return replace(estimate, low=max(low, estimate.low), high=min(high, estimate.high))


def _estimate_by_t(value: float, se: float, df: float, covers: str, level: float = LEVEL) -> Estimate:
    """value ± t * se, t the (1 + level) / 2 quantile of Student's t with `df` degrees of freedom."""
    reach = float(stats.t.ppf((1 + level) / 2, df)) * se
    return Estimate(value, se, df, value - reach, value + reach, covers)


def estimate_without_error(value: float) -> Estimate:
    return Estimate(value, None, None, None, None, "nothing")


def estimate_over_seeds(values_KS: Array, level: float = LEVEL) -> list[Estimate]:
    """The mean over seeds of every setting; values are (K settings, S seeds), S at least 2.

    With fewer than `MIN_OWN_SEEDS` seeds the variance over seeds is pooled over the settings: K (S - 1) degrees of
    freedom instead of S - 1, at the price of assuming that it is the same for all (one-way analysis of variance,
    Fisher 1925). Three seeds alone would need t = 4.30; with seven settings together it is 2.14. A setting that is seen
    to spread more than the others (`split`) stands on its own seeds. One that does and is not seen to has too short an
    interval; the tests say how much. A setting without any spread is given the others' variance and has no part in it.
    """
    num_settings, num_seeds = values_KS.shape
    variance_K = compute_own_variances(values_KS)
    df_K = np.full(num_settings, num_seeds - 1.0)
    wide_K, inflation = split_by_spread(values_KS, paired=False)
    pool_K = ~wide_K & find_varied(values_KS)
    if is_pooled(num_seeds, num_settings) and pool_K.any():
        variance_K[~wide_K] = inflation * variance_K[pool_K].mean()
        df_K[~wide_K] *= pool_K.sum()
    se_K = np.sqrt(variance_K / num_seeds)
    reach_K = stats.t.ppf((1 + level) / 2, df_K) * se_K
    columns = (values_KS.mean(axis=1), se_K, df_K, reach_K, wide_K)
    return [
        Estimate(mean, se, df, mean - reach, mean + reach, "seeds", is_wide)
        for mean, se, df, reach, is_wide in zip(*(column.tolist() for column in columns), strict=True)
    ]


def estimate_share(share: float, num_items: int, level: float = LEVEL) -> Estimate:
    """A share right of independent items, by Wilson 1927, which keeps within 0 and 1 and holds near both ends.

    Covers another draw of as many items, not another seed.
    """
    z = float(stats.norm.ppf((1 + level) / 2))
    middle = (share + z * z / (2 * num_items)) / (1 + z * z / num_items)
    reach = z / (1 + z * z / num_items) * math.sqrt(share * (1 - share) / num_items + (z / (2 * num_items)) ** 2)
    se = math.sqrt(share * (1 - share) / num_items)
    return Estimate(share, se, math.inf, max(0.0, middle - reach), min(1.0, middle + reach), "items")


def estimate_over_items(mean: float, stderr: float, num_items: int, level: float = LEVEL) -> Estimate:
    """A mean over independent items from its standard error; covers items, not seeds. Miller 2024, arXiv 2411.00640."""
    return _estimate_by_t(mean, stderr, max(num_items - 1, 1), "items", level)
