"""Finds settings that spread over seeds so much more than the others that they must not share a pooled variance."""

from functools import cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_MIN_OWN_SEEDS: Final = 6  # fewer give a setting's own variance too few degrees of freedom, so it is pooled
TEST_LEVEL: Final = 0.02  # chance that a setting is called wide although all spread alike
TINY: Final = 1e-12  # relative size up to which a difference is rounding
_NUM_DRAWS: Final = 4000
_DRAWS_AT_ONCE: Final = 200
_SEED: Final = 0


def is_pooled(num_seeds: int, num_settings: int) -> bool:
    """True where the variance over seeds is pooled over settings, since each has too few seeds to estimate its own."""
    return num_settings > 1 and num_seeds < _MIN_OWN_SEEDS


def compute_own_variances(values: Array) -> Array:
    """Variance over the last dimension, the seeds: (..., K, S) to (..., K)."""
    num_seeds = values.shape[-1]
    centred = values - (values @ np.full(num_seeds, 1 / num_seeds))[..., None]
    variances: Array = np.einsum("...s,...s->...", centred, centred) / (num_seeds - 1)  # `var` takes 4 times as long
    return variances


def _compute_paired_variances(values: Array) -> Array:
    """As `compute_own_variances`, after the effect of each seed, its median over settings, is removed."""
    centred = values - values.mean(axis=-1, keepdims=True)
    return compute_own_variances(centred - np.median(centred, axis=-2, keepdims=True))


def find_varied(values_KS: Array) -> NDArray[np.bool_]:
    """True for settings with a spread over seeds that is more than rounding, shape (K,).

    The others say nothing about how much settings spread: a score of 0 with every seed is at its limit.
    """
    varies_K: NDArray[np.bool_] = np.ptp(values_KS, axis=1) > TINY * np.maximum(1.0, np.abs(values_KS).max(axis=1))
    return varies_K


def _compute_excesses(variances: Array) -> Array:
    """The m-th largest variance divided by the mean of all smaller ones, m = 1 to K // 2: (..., K) to (..., K // 2)."""
    falling = np.flip(np.sort(variances, axis=-1), axis=-1)
    num_settings = falling.shape[-1]
    means = np.flip(np.cumsum(np.flip(falling, axis=-1), axis=-1), axis=-1) / np.arange(num_settings, 0, -1)
    half = num_settings // 2
    with np.errstate(divide="ignore", invalid="ignore"):
        excesses: Array = falling[..., :half] / means[..., 1 : half + 1]
    return excesses


class _ExcessLimits(NamedTuple):
    """Limits for settings that all have the same variance and normal values, found by simulation."""

    beyond: Array  # at m - 1: any excess is above its limit with probability `TEST_LEVEL`, and each equally often
    inflations: Array  # at m: the mean variance divided by the mean without the m largest


@cache
def _simulate_limits(num_settings: int, num_seeds: int, paired: bool) -> _ExcessLimits:
    """The limits for so many settings and seeds. Works in blocks, so that thousands of settings fit into memory."""
    random = np.random.default_rng(_SEED)
    drawn, rising = np.empty((_NUM_DRAWS, num_settings // 2)), np.zeros(num_settings)
    for start in range(0, _NUM_DRAWS, _DRAWS_AT_ONCE):
        values = random.normal(size=(_DRAWS_AT_ONCE, num_settings, num_seeds))
        variances = np.sort(_compute_paired_variances(values) if paired else compute_own_variances(values), axis=1)
        drawn[start : start + _DRAWS_AT_ONCE] = _compute_excesses(variances)
        rising += variances.sum(axis=0) / _NUM_DRAWS
    best_ranks = np.full(_NUM_DRAWS, _NUM_DRAWS)
    for column in drawn.T:
        ranks = np.empty(_NUM_DRAWS, dtype=int)
        ranks[(-column).argsort()] = np.arange(_NUM_DRAWS)
        best_ranks = np.minimum(best_ranks, ranks)
    share = float(np.quantile(best_ranks, TEST_LEVEL)) / _NUM_DRAWS
    kept = np.cumsum(rising)[::-1][: num_settings // 2 + 1] / np.arange(num_settings, 0, -1)[: num_settings // 2 + 1]
    return _ExcessLimits(np.quantile(drawn, 1 - share, axis=0), rising.mean() / kept)


class _SpreadSplit(NamedTuple):
    """Which settings use their own variance, and the factor on the pooled variance of the others."""

    wide_K: NDArray[np.bool_]
    inflation: float


def split_by_spread(values_KS: Array, paired: bool) -> _SpreadSplit:
    """Which settings spread more than the others and must use their own variance; at most half of them.

    Rosner's procedure for several outliers (1983, doi 10.1080/00401706.1983.10487848), applied to the variances: the
    wide settings are the m largest, with the largest m for which the m-th largest variance is too large compared with
    the mean of the smaller ones. Because all m are tried, two diverging settings do not mask each other, as they do in
    Cochran's test of the largest variance. The tests of Levene and of Brown and Forsythe cannot be used with two seeds,
    which have the same distance from their middle.

    The pooled variance of the other settings is multiplied by `inflation`: if the wide ones were chosen by chance, the
    remaining variances are those that happened to be small. A setting without any spread is left out.

    Args:
        values_KS: K settings, S seeds, S at least 2.
        paired: true for differences between settings, in which a common effect of a seed cancels.
    """
    wide_K = np.zeros(len(values_KS), dtype=bool)
    spread = np.flatnonzero(find_varied(values_KS))
    if not is_pooled(values_KS.shape[1], len(values_KS)) or len(spread) < 2 + paired:
        return _SpreadSplit(wide_K, 1.0)
    variances = _compute_paired_variances(values_KS[spread]) if paired else compute_own_variances(values_KS[spread])
    allowed = _simulate_limits(len(spread), values_KS.shape[1], paired)
    beyond = np.flatnonzero(_compute_excesses(variances) > allowed.beyond)
    num_wide = int(beyond[-1]) + 1 if len(beyond) else 0
    wide_K[spread[np.argsort(-variances)[:num_wide]]] = True
    return _SpreadSplit(wide_K, float(allowed.inflations[num_wide]))
