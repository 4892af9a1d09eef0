"""Main effects and interactions of a full grid: how much of the variance belongs to which axis or pair of axes."""

import itertools
from dataclasses import dataclass

import numpy as np
from scipy import stats

from sweeplab.statistics.intervals import Array


@dataclass(frozen=True)
class Term:
    """One line of the analysis of variance; `axes` are places of axes, none for the seeds and what is left."""

    axes: tuple[int, ...]
    df: int
    sum_of_squares: float
    share: float  # of the total sum of squares
    p: float | None  # by the F test, Holm's correction over all tested terms; None: no replicates


def adjust_by_holm(p_values: list[float]) -> list[float]:
    """Holm 1979: adjusted p values, in the given order; comparing them with 0.05 keeps the family's error at 0.05."""
    order = np.argsort(p_values)
    factors = len(p_values) - np.arange(len(p_values))
    adjusted = np.minimum(1.0, np.maximum.accumulate(factors * np.asarray(p_values)[order]))
    found = np.empty(len(p_values))
    found[order] = adjusted
    return [float(p) for p in found]


def _isolate_effect(means: Array, axes: tuple[int, ...]) -> Array:
    """The part of the cell means that belongs to exactly these axes, by inclusion and exclusion of their margins."""
    total = np.zeros([means.shape[axis] if axis in axes else 1 for axis in range(means.ndim)])
    for size in range(len(axes) + 1):
        for kept in itertools.combinations(axes, size):
            gone = tuple(axis for axis in range(means.ndim) if axis not in kept)
            total = total + (-1) ** (len(axes) - size) * means.mean(axis=gone, keepdims=True)
    return total


def analyze_variance(values: Array, num_axes: int) -> list[Term]:
    """Terms of one and of two axes, larger ones as one 'rest', of a balanced grid; the last dimension holds the seeds.

    Seeds are blocks: what a seed does to all settings alike is taken out of the error. Fisher 1925; Montgomery 2017,
    chapter 5. The terms' sums of squares and what is left add up to the total.
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
        p_values = list(adjust_by_holm(tails))
    left = Term((), num_seeds - 1 + error_df, block + error, (block + error) / total if total else 0.0, None)
    terms = [
        Term(axes, df, squares, squares / total if total else 0.0, p)
        for (axes, df, squares), p in zip(lines, p_values, strict=True)
    ]
    return [*terms, left] if num_seeds > 1 else terms
