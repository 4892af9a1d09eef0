"""The analysis of variance against least squares over the full design, Holm against its definition, fronts by hand."""

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from sweeplab.statistics.factorial import _adjust_by_holm, analyze_variance, build_main_effects


def residual(columns: list[NDArray[np.float64]], values: NDArray[np.float64]) -> float:
    design = np.column_stack(columns)
    left = values - design @ np.linalg.lstsq(design, values, rcond=None)[0]
    return float(left @ left)


def dummies(*codes: NDArray[np.int64]) -> list[NDArray[np.float64]]:
    levels = [np.unique(code) for code in codes]
    return [
        np.prod([code == level for code, level in zip(codes, point, strict=True)], axis=0).astype(float)
        for point in itertools.product(*levels)
    ]


def test_sums_of_squares_are_those_of_nested_least_squares() -> None:
    values = np.random.default_rng(0).normal(size=(3, 2, 4, 3))
    flat = values.ravel()
    a, _, c, _ = (grid.ravel() for grid in np.indices(values.shape))
    one = [np.ones(flat.size)]
    terms = {term.axes: term for term in analyze_variance(values, 3)}
    total = residual(one, flat)
    main = residual(one, flat) - residual(dummies(a), flat)
    assert terms[0,].share == pytest.approx(main / total)
    both = residual(dummies(a) + dummies(c), flat) - residual(dummies(a, c), flat)
    assert terms[0, 2].share == pytest.approx(both / total)
    assert (terms[0,].df, terms[0, 2].df, terms[0, 1, 2].df) == (2, 6, 6)
    assert sum(term.share for term in terms.values()) == pytest.approx(1.0)
    assert sum(term.df for term in terms.values()) == flat.size - 1


def random_grid(by_seed: float) -> NDArray[np.float64]:
    """Two axes with three and two values, and four seeds that act on all settings with one value of the first alike."""
    random = np.random.default_rng(0)
    return random.normal(size=(3, 2, 4)) + by_seed * random.normal(size=(3, 1, 4))


def test_an_effect_is_tested_against_what_seeds_do_to_it() -> None:
    """By least squares: the error of the main effects is their interaction with the seeds, pooled over both axes."""
    values = random_grid(0.0)
    flat = values.ravel()
    a, b, seed = (grid.ravel() for grid in np.indices(values.shape))
    one, of_seed = [np.ones(flat.size)], dummies(seed)
    error = sum(residual(dummies(axis) + of_seed, flat) - residual(dummies(axis, seed), flat) for axis in (a, b)) / 9
    main = [(residual(one, flat) - residual(dummies(axis), flat)) / df for axis, df in ((a, 2), (b, 1))]
    tails = [stats.f.sf(mean / error, df, 9) for mean, df in zip(main, (2, 1), strict=True)]
    both = residual(dummies(a) + dummies(b), flat) - residual(dummies(a, b), flat)
    left = residual(dummies(a, b) + dummies(a, seed) + dummies(b, seed), flat) / 6
    tails.append(stats.f.sf(both / 2 / left, 2, 6))
    looks = 4 * 3
    expected = [min(1.0, looks * p) for p in _adjust_by_holm(tails)]
    assert [term.p for term in analyze_variance(values, 2) if term.axes] == pytest.approx(expected)


def test_where_seeds_act_on_the_axes_unlike_each_has_its_own_error() -> None:
    values = random_grid(50.0)
    flat = values.ravel()
    a, seed = (np.indices(values.shape)[axis].ravel() for axis in (0, 2))
    own = (residual(dummies(a) + dummies(seed), flat) - residual(dummies(a, seed), flat)) / 6
    main = (residual([np.ones(flat.size)], flat) - residual(dummies(a), flat)) / 2
    first = next(term for term in analyze_variance(values, 2) if term.axes == (0,))
    assert first.p is not None
    assert first.p >= min(1.0, 12 * float(stats.f.sf(main / own, 2, 6))) * (1 - 1e-9)


def test_main_effects_are_columns_of_the_values() -> None:
    levels = np.array([[0, 5], [0, 3], [1, 9], [1, 1], [2, 7], [2, 0]])
    columns = build_main_effects(levels)
    assert columns.shape == (6, 3)  # two of the first axis; the second's six values are a rank
    assert columns[:, 2].tolist() == [4, 3, 6, 2, 5, 1]


def test_one_seed_has_shares_without_tests() -> None:
    terms = analyze_variance(np.arange(6.0).reshape(3, 2, 1), 2)
    assert [term.p for term in terms] == [None, None, None]
    assert [term.share for term in terms] == pytest.approx([16 / 17.5, 1.5 / 17.5, 0.0])


def test_holm_steps_down() -> None:
    assert _adjust_by_holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert _adjust_by_holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
