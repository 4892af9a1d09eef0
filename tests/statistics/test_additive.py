"""The additive fit against least squares over all settings and seeds."""

import numpy as np
import pytest

from sweeplab.statistics.additive import fit_additive


@pytest.mark.parametrize("missing", [[], [(0, 2), (3, 0), (3, 1)]])
def test_it_is_least_squares_over_the_runs_that_exist(missing: list[tuple[int, int]]) -> None:
    values = np.random.default_rng(0).normal(size=(5, 4))
    for index in missing:
        values[index] = np.nan
    rows, columns = np.nonzero(~np.isnan(values))
    design = np.concatenate([rows[:, None] == np.arange(5), columns[:, None] == np.arange(4)], axis=1).astype(float)
    solved = np.linalg.lstsq(design, values[rows, columns], rcond=None)[0]
    fit = fit_additive(values)
    assert fit.residuals_KS[rows, columns] == pytest.approx(values[rows, columns] - design @ solved, abs=1e-10)
    assert fit.effects_K == pytest.approx(solved[:5] + solved[5:].mean(), abs=1e-10)
    assert fit.own_df_K.sum() == pytest.approx(len(rows) - np.linalg.matrix_rank(design))
