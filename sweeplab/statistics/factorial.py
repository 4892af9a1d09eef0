"""Analysis of variance of a full grid: the share of each axis (main effect) and of each pair of axes (interaction)."""

import itertools
import math
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from sweeplab.statistics.intervals import LEVEL, TINY, Array, level_with

_ALIKE_LEVEL: Final = 0.05  # of the test that seeds act on the effects of one order alike


@dataclass(frozen=True)
class Effect:
    """One line of the analysis of variance; `axes` are indices of axes, empty for seeds and residual together."""

    axes: tuple[int, ...]
    df: int
    share: float  # of the total sum of squares
    p: float | None  # of the F test, by Holm over all lines, at any look; None without replicates


def _adjust_by_holm(p_values: list[float]) -> list[float]:
    """Adjusted p values in the given order (Holm 1979): comparing all with 0.05 keeps the family error at 0.05."""
    order = np.argsort(p_values)
    factors = len(p_values) - np.arange(len(p_values))
    adjusted = np.minimum(1.0, np.maximum.accumulate(factors * np.asarray(p_values)[order]))
    in_given_order = np.empty(len(p_values))
    in_given_order[order] = adjusted
    return [float(p) for p in in_given_order]


def _isolate_effect(means: Array, axes: tuple[int, ...]) -> Array:
    """The part of the cell means that belongs to exactly these axes: marginal means by inclusion and exclusion."""
    total = np.zeros([means.shape[axis] if axis in axes else 1 for axis in range(means.ndim)])
    for size in range(len(axes) + 1):
        for kept in itertools.combinations(axes, size):
            averaged = tuple(axis for axis in range(means.ndim) if axis not in kept)
            total = total + (-1) ** (len(axes) - size) * means.mean(axis=averaged, keepdims=True)
    return total


def build_main_effects(levels_KA: NDArray[np.int_]) -> Array:
    """Columns of the main effects of A axes, shape (K, Q), from the index of each setting's value on each axis.

    An axis has a column for each value but one. One whose values are nearly all different, such as a rate that was
    drawn, has one column, its rank.
    """
    columns = []
    for values_K in levels_KA.T:
        levels = np.unique(values_K)
        if len(levels) > len(values_K) // 2:
            columns.append(stats.rankdata(values_K))
        else:
            columns += [(values_K == level).astype(float) for level in levels[1:]]
    return np.stack(columns, axis=1) if columns else np.zeros((len(levels_KA), 0))


class _Line(NamedTuple):
    """An effect with what seeds do to it; the mean squares of both are equal where there is no effect."""

    axes: tuple[int, ...]
    df: int
    squares: float
    by_seed: float  # sum of squares of the effect's own differences between seeds
    by_seed_df: int


def analyze_variance(values: Array, num_axes: int) -> list[Effect]:
    """Effects of one and of two axes of a balanced grid, and those of more axes as one line.

    `values` has one dimension for each axis, and the last one for the seeds. Seeds are blocks: an effect of a seed on
    all settings alike is not part of the error. The error of an effect is what the seeds do to that effect, since a
    seed may act on all settings with one value of an axis alike (the seeds are a random factor; Montgomery 2017,
    chapters 5 and 13); it is pooled over the effects of as many axes, where these errors are alike (Bartlett's test).
    All sums of squares add up to the total. p accounts for the number of effects, and for looks at fewer seeds.
    """
    num_seeds = values.shape[-1]
    means = values.mean(axis=-1)
    total = float(((values - values.mean()) ** 2).sum())
    left = values - means[..., None] - _average_by_seed(values) + values.mean()
    lines = [_measure_line(values, left, axes) for axes in _list_low_orders(num_axes)]
    between = float(((means - means.mean()) ** 2).sum()) * num_seeds
    higher_df = means.size - 1 - sum(line.df for line in lines)
    if higher_df > 0:
        squares = max(0.0, between - sum(line.squares for line in lines))
        by_seed = max(0.0, float((left**2).sum()) - sum(line.by_seed for line in lines))
        lines.append(_Line(tuple(range(num_axes)), higher_df, squares, by_seed, higher_df * (num_seeds - 1)))
    terms = [
        Effect(line.axes, line.df, line.squares / total if total else 0.0, p)
        for line, p in zip(lines, _test_lines(lines, num_seeds), strict=True)
    ]
    rest = max(0.0, total - between)
    df = values.size - means.size
    return [*terms, Effect((), df, rest / total if total else 0.0, None)] if num_seeds > 1 else terms


def _list_low_orders(num_axes: int) -> list[tuple[int, ...]]:
    return [axes for size in (1, 2) for axes in itertools.combinations(range(num_axes), size)]


def _average_by_seed(values: Array) -> Array:
    by_seed: Array = values.reshape(-1, values.shape[-1]).mean(axis=0)
    return by_seed


def _measure_line(values: Array, left: Array, axes: tuple[int, ...]) -> _Line:
    means, num_seeds = values.mean(axis=-1), values.shape[-1]
    df = int(np.prod([means.shape[axis] - 1 for axis in axes]))
    part = _isolate_effect(means, axes)
    by_seed = [_isolate_effect(left[..., seed], axes) for seed in range(num_seeds)]
    repeats = means.size / part.size
    squares = float((part**2).sum()) * repeats * num_seeds
    return _Line(axes, df, squares, sum(float((one**2).sum()) for one in by_seed) * repeats, df * (num_seeds - 1))


def _test_lines(lines: list[_Line], num_seeds: int) -> list[float | None]:
    """The p value of each line, adjusted over the lines by Holm and over looks; None without replicates."""
    errors = [_find_error(line, [one for one in lines if _order_of(one) == _order_of(line)]) for line in lines]
    if num_seeds < 2 or any(error == 0 for error, _ in errors):
        return [None] * len(lines)
    tails = [
        float(stats.f.sf(line.squares / line.df / error, line.df, df))
        for line, (error, df) in zip(lines, errors, strict=True)
    ]
    looks = (1 - LEVEL) / (1 - level_with(num_seeds))
    return [min(1.0, looks * p) for p in _adjust_by_holm(tails)]


def _order_of(line: _Line) -> int:
    return min(len(line.axes), 3)


def _find_error(line: _Line, alike: list[_Line]) -> tuple[float, int]:
    """The mean square that a line is tested with, and its degrees of freedom: pooled over lines of the same order."""
    df = sum(one.by_seed_df for one in alike)
    pooled = sum(one.by_seed for one in alike) / df if df else 0.0
    if pooled == 0 or len(alike) == 1 or _is_alike(alike, pooled, df):
        return pooled, df
    return line.by_seed / line.by_seed_df, line.by_seed_df


def _is_alike(lines: list[_Line], pooled: float, df: int) -> bool:
    """Bartlett's test (1937) of equal variances, which may have unlike degrees of freedom."""
    means = [max(one.by_seed / one.by_seed_df, TINY * pooled) for one in lines]
    logs = sum(one.by_seed_df * math.log(mean) for one, mean in zip(lines, means, strict=True))
    correction = 1 + (sum(1 / one.by_seed_df for one in lines) - 1 / df) / (3 * (len(lines) - 1))
    return float(stats.chi2.sf((df * math.log(pooled) - logs) / correction, len(lines) - 1)) >= _ALIKE_LEVEL
