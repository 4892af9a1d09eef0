"""The sample that `evaluation.limit` takes."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from sweeplab.config.trial import TrialConfig
from sweeplab.evaluation.sampling import draw_sample
from tests.evaluation.conftest import settings


def sample(num_items: int, limit: int | None, seed: int | None) -> list[int]:
    return draw_sample(num_items, settings("tiny_new_facts", limit=limit, limit_seed=seed))


def test_a_smaller_sample_is_a_part_of_every_larger_one() -> None:
    drawn = [sample(50, limit, 0) for limit in (1, 7, 20, 49, 50, 60)]
    assert [len(one) for one in drawn] == [1, 7, 20, 49, 50, 50]
    assert all(set(smaller) <= set(larger) for smaller, larger in pairwise(drawn))
    assert all(one == sorted(one) for one in drawn)
    assert sample(50, 7, 0) == drawn[1] != sample(50, 7, 1)
    assert sample(50, None, 0) == list(range(50))


def test_without_a_seed_it_is_the_file_s_head() -> None:
    assert sample(50, 7, None) == list(range(7))


def test_every_item_is_as_likely_as_another() -> None:
    """Each of 20 items in a quarter of 2,000 samples of 5: the counts' standard deviation is 19.4."""
    counts_N = np.bincount([index for seed in range(2000) for index in sample(20, 5, seed)], minlength=20)
    assert np.abs(counts_N - 500).max() < 4 * np.sqrt(2000 * 0.25 * 0.75)


def test_conf_has_one_seed_where_there_is_a_limit(compose_trial: Callable[..., TrialConfig]) -> None:
    assert compose_trial("evaluation.limit=100").evaluation.limit_seed == 0
    assert compose_trial("evaluation.limit=100", "evaluation.limit_seed=null").evaluation.limit_seed is None
    assert compose_trial().evaluation.limit_seed is None  # as in a study of before there was the key
