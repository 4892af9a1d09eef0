"""Which settings spread over seeds so much more than the others that they cannot share a variance with them."""

from functools import cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
MIN_OWN_SEEDS: Final = 6  # fewer give a setting's own variance too few degrees of freedom, so it is pooled
TEST_LEVEL: Final = 0.02  # chance that any of settings that spread alike is taken for a wide one
TINY: Final = 1e-12  # of a value: less is rounding
NUM_DRAWS: Final = 4000
DRAWN_AT_ONCE: Final = 200
SEED: Final = 0


def is_pooled(num_seeds: int, num_settings: int) -> bool:
    """True where settings share one variance over seeds, since each has too few seeds to know its own."""
    return num_settings > 1 and num_seeds < MIN_OWN_SEEDS


def compute_own_variances(values: Array) -> Array:
    """Variance over seeds; of (..., K, S) values (..., K)."""
    num_seeds = values.shape[-1]
    centred = values - (values @ np.full(num_seeds, 1 / num_seeds))[..., None]
    variances: Array = np.einsum("...s,...s->...", centred, centred) / (num_seeds - 1)  # `var` takes 4 times as long
    return variances


def compute_paired_variances(values: Array) -> Array:
    """Variance over seeds of what is left without the seeds' own effect, the median over settings."""
    centred = values - values.mean(axis=-1, keepdims=True)
    return compute_own_variances(centred - np.median(centred, axis=-2, keepdims=True))


def find_varied(values_KS: Array) -> NDArray[np.bool_]:
    """Settings with any spread over seeds beyond rounding.

    A setting without it says nothing of the spread of others: a score of 0 with every seed has reached its end.
    """
    varies_K: NDArray[np.bool_] = np.ptp(values_KS, axis=1) > TINY * np.maximum(1.0, np.abs(values_KS).max(axis=1))
    return varies_K


def compute_excesses(variances: Array) -> Array:
    """The m-th largest variance over the mean of all smaller ones, m = 1 to K // 2; (..., K) to (..., K // 2)."""
    falling = np.flip(np.sort(variances, axis=-1), axis=-1)
    num_settings = falling.shape[-1]
    means = np.flip(np.cumsum(np.flip(falling, axis=-1), axis=-1), axis=-1) / np.arange(num_settings, 0, -1)
    half = num_settings // 2
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Array = falling[..., :half] / means[..., 1 : half + 1]
    return found


class ExcessLimits(NamedTuple):
    """Of normal values with one variance; by simulation."""

    beyond: Array  # by m - 1: what any of the excesses goes beyond with `TEST_LEVEL`, each with the same share in that
    inflations: Array  # by m: the mean variance over that of all but the m largest


@cache
def simulate_limits(num_settings: int, num_seeds: int, paired: bool) -> ExcessLimits:
    """Drawn some studies at a time, and ranked one m at a time, so that thousands of settings fit in memory."""
    random = np.random.default_rng(SEED)
    drawn, rising = np.empty((NUM_DRAWS, num_settings // 2)), np.zeros(num_settings)
    for start in range(0, NUM_DRAWS, DRAWN_AT_ONCE):
        values = random.normal(size=(DRAWN_AT_ONCE, num_settings, num_seeds))
        variances = np.sort(compute_paired_variances(values) if paired else compute_own_variances(values), axis=1)
        drawn[start : start + DRAWN_AT_ONCE] = compute_excesses(variances)
        rising += variances.sum(axis=0) / NUM_DRAWS
    best_ranks = np.full(NUM_DRAWS, NUM_DRAWS)
    for column in drawn.T:
        ranks = np.empty(NUM_DRAWS, dtype=int)
        ranks[(-column).argsort()] = np.arange(NUM_DRAWS)
        best_ranks = np.minimum(best_ranks, ranks)
    share = float(np.quantile(best_ranks, TEST_LEVEL)) / NUM_DRAWS
    kept = np.cumsum(rising)[::-1][: num_settings // 2 + 1] / np.arange(num_settings, 0, -1)[: num_settings // 2 + 1]
    return ExcessLimits(np.quantile(drawn, 1 - share, axis=0), rising.mean() / kept)


class SpreadSplit(NamedTuple):
    """Settings that keep their own variance, and by what that of the others is raised."""

    wide_K: NDArray[np.bool_]
    inflation: float


def split_by_spread(values_KS: Array, paired: bool) -> SpreadSplit:
    """Which settings keep their own variance, since they spread more than the others; at most half of them.

    Rosner's procedure for many outliers (1983, doi 10.1080/00401706.1983.10487848) on the variances: the largest number
    m of settings for which the m-th largest variance is too large beside the mean of the smaller ones. It looks at all
    m, so that two settings that diverge do not hide each other, as they do from Cochran's test of the largest alone.
    Levene's and Brown and Forsythe's tests say nothing with two seeds, whose distances from their middle are equal.

    Args:
        values_KS: K settings, S seeds, at least 2.
        paired: for differences of settings, from which a seed's own effect on all of them cancels.

    The variance of the others is raised to what it would be, had they been alike with those: where that is so after
    all, the smallest of them were kept.

    A setting without any spread takes no part (`varied`).
    """
    found = np.zeros(len(values_KS), dtype=bool)
    spread = np.flatnonzero(find_varied(values_KS))
    if not is_pooled(values_KS.shape[1], len(values_KS)) or len(spread) < 2 + paired:
        return SpreadSplit(found, 1.0)
    variances = compute_paired_variances(values_KS[spread]) if paired else compute_own_variances(values_KS[spread])
    allowed = simulate_limits(len(spread), values_KS.shape[1], paired)
    beyond = np.flatnonzero(compute_excesses(variances) > allowed.beyond)
    num_wide = int(beyond[-1]) + 1 if len(beyond) else 0
    found[spread[np.argsort(-variances)[:num_wide]]] = True
    return SpreadSplit(found, float(allowed.inflations[num_wide]))
