"""A race of settings: how much may be lost by taking the leader, and which runs would tell.

Nothing is asked but whether a setting may be better than the leader (comparisons with the best; Hsu 1981, 1984), so
that fewer runs decide than where all pairs are compared. For each number n of common seeds the error 5 % / (n (n + 1))
is spent, which sums to 5 % over all n: what is stated holds at any look, and a study may be stopped and extended at
will. A wrong statement needs one event: the best setting, whichever it is, lies behind another one by more than the
one-sided critical value of Dunnett (1955). What was not run makes fewer statements, never wrong ones. Compare Paulson
(1964) and Kim and Nelson (2001), who eliminate; Darling and Robbins (1967), of bounds at any look.

A race may walk: once it is over, settings beside its leader join; before any second seed, rates further out where the
leader's is at an end. Each time is a stage, and the stages share the error, 1/2, 1/6, 1/12 ..., which sums to 1 over
all of them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

from sweeplab.statistics.intervals import LEVEL, TINY, Array, combine_freedoms
from sweeplab.statistics.moderated import moderate_variances

_DF_GRID: Final = (
    1,
    2,
    3,
    4,
    5,
    6,
    8,
    10,
    12,
    15,
    20,
    30,
    40,
    60,
    100,
    200,
)  # between them by 1 / df; the last for all above
_LEAST_DF: Final = 6  # with fewer the quadrature is too coarse, and Bonferroni's bound is used
_LEAST_SECOND: Final = 4  # settings that get a second seed at least
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(64)
_NUM_SCALES: Final = 100  # nodes over the chi-squared distribution of the variance


Value = bool | int | float | str | None
Point = tuple[Value, ...]  # a value of each axis


class Run(NamedTuple):
    """A run to make: a setting's index and a seed's."""

    setting: int
    seed: int


@dataclass(frozen=True)
class RaceTable:
    """What K settings have with S seeds, which are run in their order."""

    losses_KS: Array  # smaller is better; NaN is no run
    out_K: NDArray[np.bool_]  # settings that cannot be the best, such as those with a failed run
    is_log: bool = False  # the spread grows with the value, so that logarithms are analyzed
    error_share: float = 1.0  # of the whole error, that of this stage

    @cached_property
    def scaled_KS(self) -> Array:
        """The losses on the scale on which they are analyzed."""
        return np.log(self.losses_KS) if self.is_log else self.losses_KS

    @cached_property
    def counts_K(self) -> NDArray[np.int_]:
        """Seeds that a setting has."""
        counts: NDArray[np.int_] = (~np.isnan(self.losses_KS)).sum(axis=1)
        return counts


def share_error(stage: int) -> float:
    """The part of the error that a stage of a walk has, counted from 0."""
    return 1 / ((stage + 1) * (stage + 2))


def list_neighbors(axes: Sequence[Sequence[Value]], leader: Point, tried: set[Point]) -> list[Point]:
    """The points beside the leader that were not tried: on each axis the next smaller and the next larger number, or
    every other value where there are words among them."""
    found = []
    for place, values in enumerate(axes):
        beside: Sequence[Value] = values
        if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
            ordered = sorted(values)  # type: ignore[type-var]
            index = ordered.index(leader[place])
            beside = ordered[max(0, index - 1) : index + 2]
        found += [(*leader[:place], value, *leader[place + 1 :]) for value in beside]
    return [point for point in found if point not in tried]


def list_further(values: Sequence[Value], place: int, leader: Point, tried: Sequence[Point]) -> list[Point]:
    """What lies further out where the leader has the smallest or the largest number that was tried of an axis: the
    tried points at that end, each with the next of the axis's `values`. `place`: the axis's in a point."""
    ordered, end = sorted(values), leader[place]  # type: ignore[type-var]
    places = sorted({ordered.index(point[place]) for point in tried})
    index = ordered.index(end)
    beyond = [index - 1] * (index == places[0]) + [index + 1] * (index == places[-1])
    following = [ordered[one] for one in beyond if len(places) > 1 and 0 <= one < len(ordered)]
    at_end = [point for point in tried if point[place] == end]
    return [(*point[:place], value, *point[place + 1 :]) for value in following for point in at_end]


@dataclass(frozen=True)
class Standing:
    """Who leads, and how far ahead of the leader each setting may be, in the unit of the losses."""

    leader: int
    bounds_K: Array  # the leader's mean loss minus that of each setting at most; -inf: out; inf: nothing is known

    @property
    def bound(self) -> float:
        """What may be lost at most by taking the leader."""
        return max(0.0, float(self.bounds_K.max()))

    def find_open(self, within: float) -> NDArray[np.int_]:
        """Settings that may be better than the leader by more than `within`."""
        open_K = self.bounds_K > within
        open_K[self.leader] = False
        return np.flatnonzero(open_K)


@dataclass(frozen=True)
class _Spread:
    """Variances of one run, without what a seed does to all settings alike."""

    pooled: float
    pooled_df: int
    own_K: Array  # each setting's own, drawn towards the others'
    own_df_K: Array


def judge_race(table: RaceTable, level: float = LEVEL) -> Standing | None:
    """Where a race stands. None where every setting is out or has no run.

    The leader is the best of those with the most seeds. That it is the best but for the bounds holds with probability
    `level`, at any look.
    """
    scaled_KS, counts_K = table.scaled_KS, table.counts_K
    in_K = ~table.out_K & (counts_K > 0)
    if not in_K.any():
        return None
    deepest = np.flatnonzero(in_K & (counts_K == counts_K[in_K].max()))
    leader = int(deepest[np.nanmean(table.losses_KS[deepest], axis=1).argmin()])
    common_KS = ~np.isnan(scaled_KS) & ~np.isnan(scaled_KS[leader])
    number_K = common_KS.sum(axis=1)
    bounds_K, spread = np.full(len(scaled_KS), math.inf), _measure_spread(scaled_KS)
    if spread.pooled_df > 0:
        ahead_K = np.where(common_KS, scaled_KS[leader] - scaled_KS, 0.0).sum(axis=1) / np.maximum(number_K, 1)
        known_K = in_K & (number_K > 0)
        reach_K = _find_reach(spread, leader, number_K, 1 - table.error_share * (1 - level))
        bounds_K[known_K] = (ahead_K + reach_K)[known_K]
    if table.is_log:  # at most so much of the leader's loss may be lost
        bounds_K = float(np.nanmean(table.losses_KS[leader])) * -np.expm1(-bounds_K)
        bounds_K[~in_K | (number_K == 0)] = math.inf
    bounds_K[table.out_K] = -math.inf
    bounds_K[leader] = 0.0
    return Standing(leader, bounds_K)


def choose_runs(table: RaceTable, standing: Standing | None, within: float) -> list[Run]:
    """The next runs of a race; empty where it is decided, or where no seed is left.

    First one seed of every setting, then a second one of the better half. Then the leader and those that may be better
    by more than `within` go on together; one that has fallen behind the leader's number of seeds catches up first.
    """
    num_settings, num_seeds = table.losses_KS.shape
    counts_K, in_race = table.counts_K, np.flatnonzero(~table.out_K)
    fresh = in_race[counts_K[in_race] == 0]
    if len(fresh):
        return [Run(int(one), 0) for one in fresh]
    if counts_K[in_race].max(initial=0) <= 1:
        half = max(min(num_settings, _LEAST_SECOND), (num_settings + 1) // 2)
        better = in_race[np.argsort(table.losses_KS[in_race, 0], kind="stable")[:half]]
        return [Run(int(one), 1) for one in sorted(better)] if num_seeds > 1 and len(in_race) > 1 else []
    if standing is None:
        return []
    open_ones, deepest = standing.find_open(within), int(counts_K[standing.leader])
    behind = [Run(int(one), seed) for one in open_ones for seed in range(counts_K[one], deepest)]
    if behind or not len(open_ones):
        return behind
    return [Run(int(one), deepest) for one in sorted({*open_ones, standing.leader})] if deepest < num_seeds else []


def _find_reach(spread: _Spread, leader: int, number_K: NDArray[np.int_], level: float) -> Array:
    """How far chance goes in each setting's mean difference: the wider of Dunnett's with the pooled variance, and of
    Bonferroni's with the variances of both, whose degrees of freedom are Welch's (1947)."""
    num_settings = len(number_K)
    factors_N = [
        0.0,  # without a common seed nothing is known, and this has no use
        *(_find_factor(num_settings, spread.pooled_df, n, level) for n in range(1, max(number_K) + 1)),
    ]
    pooled_K = np.array(factors_N)[number_K] * math.sqrt(2 * spread.pooled)
    both_K2 = np.stack([spread.own_K, np.full(num_settings, spread.own_K[leader])], axis=1)
    df_K2 = np.stack([spread.own_df_K, np.full(num_settings, spread.own_df_K[leader])], axis=1)
    error_K = (1 - level) / (np.maximum(number_K, 1) * (number_K + 1)) / (num_settings - 1)
    own_K = stats.t.isf(error_K, combine_freedoms(both_K2, df_K2)) * np.sqrt(both_K2.sum(axis=1))
    wider: Array = np.maximum(pooled_K, own_K) / np.sqrt(np.maximum(number_K, 1))
    return wider


def _measure_spread(scaled_KS: Array) -> _Spread:
    """Round by round, each run against its setting's earlier ones: unbiased although results decide who goes on.

    (Helmert's residuals: a setting's n-th run is independent of what was seen before, however it was chosen.)
    """
    num_settings, num_seeds = scaled_KS.shape
    has_KS = ~np.isnan(scaled_KS)
    squares_K, df_K = np.zeros(num_settings), np.zeros(num_settings)
    for seed in range(1, num_seeds):
        ran = has_KS[:, : seed + 1].all(axis=1)
        count = int(ran.sum())
        if count > 1:
            news = scaled_KS[ran, seed] - scaled_KS[ran, :seed].mean(axis=1)
            squares_K[ran] += (news - news.mean()) ** 2 * seed / (seed + 1)
            df_K[ran] += (count - 1) / count
    pooled_df = round(float(df_K.sum()))
    pooled = float(squares_K.sum() / pooled_df) if pooled_df else 0.0
    own_K, own_df_K, varied_K = np.full(num_settings, pooled), np.zeros(num_settings), df_K > 0
    if pooled > 0:
        variance_K = np.maximum(squares_K[varied_K] / df_K[varied_K], TINY * pooled)
        own_K[varied_K], prior = moderate_variances(variance_K, df_K[varied_K])
        own_df_K = df_K + prior
    return _Spread(pooled, pooled_df, own_K, own_df_K)


def _find_factor(num_settings: int, df: float, num_seeds: int, level: float) -> float:
    """Dunnett's one-sided value with the share of the error that `num_seeds` common seeds have, for any `df`."""
    share = (1 - level) / (num_seeds * (num_seeds + 1))
    df = min(max(df, _DF_GRID[0]), _DF_GRID[-1])
    upper = next(place for place, one in enumerate(_DF_GRID) if one >= df)
    if _DF_GRID[upper] == df:
        return _find_dunnett(num_settings, int(df), share)
    low, high = _DF_GRID[upper - 1], _DF_GRID[upper]
    weight = (1 / low - 1 / df) / (1 / low - 1 / high)
    return (1 - weight) * _find_dunnett(num_settings, low, share) + weight * _find_dunnett(num_settings, high, share)


@cache
def _find_dunnett(num_settings: int, df: int, error: float) -> float:
    """What the largest of `num_settings` - 1 differences from one setting exceeds with probability `error`, in standard
    errors: one-sided, correlated by 1/2."""
    if num_settings == 2:
        return float(stats.t.ppf(1 - error, df))
    bonferroni = float(stats.t.ppf(1 - error / (num_settings - 1), df))
    if df < _LEAST_DF:
        return bonferroni
    half_U, density_U = special.roots_genlaguerre(_NUM_SCALES, df / 2 - 1)
    scale_U = np.sqrt(2 * half_U / df)[:, None]
    weights, density_U = _WEIGHTS / _WEIGHTS.sum(), density_U / density_U.sum()

    def exceed(value: float) -> float:
        below = stats.norm.cdf(_NODES + math.sqrt(2) * value * scale_U) ** (num_settings - 1)
        return float(density_U @ (below @ weights)) - (1 - error)

    lowest = float(stats.t.ppf(1 - error, df))
    return bonferroni if exceed(bonferroni) < 0 else float(optimize.brentq(exceed, lowest, bonferroni, xtol=1e-3))
