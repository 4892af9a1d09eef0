"""The analysis of variance against least squares over the full design, Holm against its definition, fronts by hand."""

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from sweeplab.statistics.factorial import _adjust_by_holm, analyze_variance


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
    a, b, c, seed = (grid.ravel() for grid in np.indices(values.shape))
    one = [np.ones(flat.size)]
    terms = {term.axes: term for term in analyze_variance(values, 3)}
    main = residual(one, flat) - residual(dummies(a), flat)
    assert terms[0,].sum_of_squares == pytest.approx(main)
    both = residual(dummies(a) + dummies(c), flat) - residual(dummies(a, c), flat)
    assert terms[0, 2].sum_of_squares == pytest.approx(both)
    assert (terms[0,].df, terms[0, 2].df, terms[0, 1, 2].df) == (2, 6, 6)
    assert sum(term.share for term in terms.values()) == pytest.approx(1.0)
    assert sum(term.df for term in terms.values()) == flat.size - 1
    error = residual(dummies(a, b, c) + dummies(seed), flat) / (23 * 2)
    tails = [stats.f.sf(term.sum_of_squares / term.df / error, term.df, 46) for axes, term in terms.items() if axes]
    assert [term.p for axes, term in terms.items() if axes] == pytest.approx(_adjust_by_holm(tails))


def test_one_seed_has_shares_without_tests() -> None:
    terms = analyze_variance(np.arange(6.0).reshape(3, 2, 1), 2)
    assert [term.p for term in terms] == [None, None, None]
    assert [term.share for term in terms] == pytest.approx([16 / 17.5, 1.5 / 17.5, 0.0])


def test_holm_steps_down() -> None:
    assert _adjust_by_holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert _adjust_by_holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
