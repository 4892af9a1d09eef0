"""The share that a place takes: its interval leaves a half out exactly where the sign test rejects, and covers."""

import numpy as np
import pytest
from scipy import stats

from sweeplab.statistics.places import estimate_first_share


@pytest.mark.parametrize("num_first", range(13))
def test_it_is_the_sign_test(num_first: int) -> None:
    values_N = np.array([1.0] * num_first + [0.25] * (12 - num_first) + [0.5] * 20)
    found = estimate_first_share(values_N)
    assert found.value == pytest.approx((num_first + 10) / 32)
    assert found.low is not None
    assert found.high is not None
    assert (found.low <= 0.5 <= found.high) == (stats.binomtest(num_first, 12).pvalue > 0.05)


def test_items_that_lean_nowhere_give_no_interval() -> None:
    found = estimate_first_share(np.full(9, 0.5))
    assert (found.value, found.low) == (0.5, None)


def test_it_warns_of_a_fair_judge_in_one_of_twenty_studies_at_most() -> None:
    rng = np.random.default_rng(0)
    drawn = [rng.choice([0.0, 0.5, 1.0], 60, p=[0.2, 0.6, 0.2]) for _ in range(150)]
    bounds = [(one.low, one.high) for one in map(estimate_first_share, drawn)]
    assert sum(low is not None and high is not None and not low <= 0.5 <= high for low, high in bounds) <= 7
