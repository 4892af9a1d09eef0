"""Intervals for the mean of a setting: over seeds, or over items where there is one seed."""

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
    """A number with its interval; `low` and `high` are None where nothing is known about its error."""

    value: float
    se: float | None
    df: float | None  # degrees of freedom of `se`; infinite where it is exact or normal
    low: float | None
    high: float | None
    covers: str  # 'seeds', 'items', 'seeds and items', or 'nothing'
    is_wide: bool = False  # the setting spreads more than the others, so its own variance was used, not the pooled one

    @property
    def has_spread(self) -> bool:
        """True where its error is known and larger than rounding."""
        return self.se is not None and self.se > TINY * max(1.0, abs(self.value))


def clip_estimate(estimate: Estimate, low: float, high: float) -> Estimate:
    """The estimate with its interval cut to the possible values, from `low` to `high`."""
    if estimate.low is None or estimate.high is None:
        return estimate
    return replace(estimate, low=max(low, estimate.low), high=min(high, estimate.high))


def _estimate_by_t(value: float, se: float, df: float, covers: str, level: float = LEVEL) -> Estimate:
    """value ± t * se, t the (1 + level) / 2 quantile of Student's t with `df` degrees of freedom."""
    reach = float(stats.t.ppf((1 + level) / 2, df)) * se
    return Estimate(value, se, df, value - reach, value + reach, covers)


def estimate_without_error(value: float) -> Estimate:
    """An estimate without an interval."""
    return Estimate(value, None, None, None, None, "nothing")


def estimate_over_seeds(values_KS: Array, level: float = LEVEL) -> list[Estimate]:
    """The mean over seeds of every setting; `values_KS` has K settings and S seeds, S at least 2.

    With few seeds (`is_pooled`) the variance over seeds is pooled over the settings. It has K (S - 1) degrees of
    freedom instead of S - 1, but is assumed to be the same for all (one-way analysis of variance, Fisher 1925): with
    three seeds t is 4.30 for one setting and 2.14 for seven pooled ones. A setting that clearly spreads more than the
    others (`split_by_spread`) uses its own variance. One whose larger spread is not detected gets too short an
    interval; the tests say how much. A setting without any spread gets the pooled variance, but is not part of it.
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
    """The share of correct items with the interval of Wilson 1927, which stays within 0 and 1.

    It covers another sample of as many items, not another seed.
    """
    z = float(stats.norm.ppf((1 + level) / 2))
    middle = (share + z * z / (2 * num_items)) / (1 + z * z / num_items)
    reach = z / (1 + z * z / num_items) * math.sqrt(share * (1 - share) / num_items + (z / (2 * num_items)) ** 2)
    se = math.sqrt(share * (1 - share) / num_items)
    return Estimate(share, se, math.inf, max(0.0, middle - reach), min(1.0, middle + reach), "items")


def estimate_over_items(mean: float, stderr: float, num_items: int, level: float = LEVEL) -> Estimate:
    """A mean over independent items with the interval from its standard error (Miller 2024, arXiv 2411.00640).

    It covers another sample of items, not another seed.
    """
    return _estimate_by_t(mean, stderr, max(num_items - 1, 1), "items", level)


def estimate_from_items(values_N: Array, is_log: bool = False) -> Estimate:
    """The mean of values by item, as `estimate_over_items`; without an interval for a single item.

    With `is_log` the interval is that of the mean's logarithm, whose standard error is se / mean: a perplexity of few
    items is far from normal, its logarithm is not (of 20 items it covers 95 % where it would cover 92 %).
    """
    num_items, mean = len(values_N), float(values_N.mean())
    if num_items < 2:
        return estimate_without_error(mean)
    estimate = estimate_over_items(mean, float(values_N.std(ddof=1)) / math.sqrt(num_items), num_items)
    if not is_log or estimate.high is None:
        return estimate
    factor = math.exp((estimate.high - mean) / mean)
    return replace(estimate, low=mean / factor, high=mean * factor)
