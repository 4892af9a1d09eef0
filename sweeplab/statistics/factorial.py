"""Analysis of variance of a full grid: the share of each axis (main effect) and of each pair of axes (interaction)."""

import itertools
from dataclasses import dataclass

import numpy as np
from scipy import stats

from sweeplab.statistics.intervals import Array


@dataclass(frozen=True)
class Effect:
    """One line of the analysis of variance; `axes` are indices of axes, empty for seeds and residual together."""

    axes: tuple[int, ...]
    df: int
    sum_of_squares: float
    share: float  # of the total sum of squares
    p: float | None  # of the F test, with Holm's correction over all lines; None without replicates


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


def analyze_variance(values: Array, num_axes: int) -> list[Effect]:
    """Effects of one and of two axes of a balanced grid, and those of more axes as one line.

    `values` has one dimension for each axis, and the last one for the seeds. Seeds are blocks: an effect of a seed on
    all settings alike is not part of the error (Fisher 1925; Montgomery 2017, chapter 5). All sums of squares add up
    to the total.
    """
    num_seeds = values.shape[-1]
    means = values.mean(axis=-1)
    per_cell = values.size / means.size
    total = float(((values - values.mean()) ** 2).sum())
    choices = [axes for size in (1, 2) for axes in itertools.combinations(range(num_axes), size)]
    lines: list[tuple[tuple[int, ...], int, float]] = []
    for axes in choices:
        part = _isolate_effect(means, axes)
        df = int(np.prod([means.shape[axis] - 1 for axis in axes]))
        lines.append((axes, df, float((part**2).sum() * per_cell * means.size / part.size)))
    between = float(((means - means.mean()) ** 2).sum() * per_cell)
    higher_df = means.size - 1 - sum(df for _, df, _ in lines)
    if higher_df > 0:
        squares = max(0.0, between - sum(squares for *_, squares in lines))
        lines.append((tuple(range(num_axes)), higher_df, squares))
    by_seed = values.reshape(-1, num_seeds).mean(axis=0)
    block = float(((by_seed - values.mean()) ** 2).sum() * means.size)
    error = max(0.0, total - between - block)
    error_df = (means.size - 1) * (num_seeds - 1)
    p_values: list[float | None] = [None] * len(lines)
    if error_df > 0 and error > 0:
        tails = [float(stats.f.sf(squares / df / (error / error_df), df, error_df)) for _, df, squares in lines]
        p_values = list(_adjust_by_holm(tails))
    residual = Effect((), num_seeds - 1 + error_df, block + error, (block + error) / total if total else 0.0, None)
    terms = [
        Effect(axes, df, squares, squares / total if total else 0.0, p)
        for (axes, df, squares), p in zip(lines, p_values, strict=True)
    ]
    return [*terms, residual] if num_seeds > 1 else terms
