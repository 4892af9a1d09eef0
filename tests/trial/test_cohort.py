"""Which trials of a cohort train at the same time."""

from types import SimpleNamespace
from typing import Any

import pytest

from sweeplab.trial.cohort import choose_active


def runs(*places: tuple[int, int]) -> list[Any]:
    """Trials with a seed and a step each, numbered from 0."""
    return [
        SimpleNamespace(spec=SimpleNamespace(number=number, seed=seed), step=step)
        for number, (seed, step) in enumerate(places)
    ]


def numbers(chosen: list[Any]) -> list[int]:
    return [run.spec.number for run in chosen]


@pytest.mark.parametrize(
    ("capacity", "expected"),
    [
        pytest.param(1, [0], id="one at a time"),
        pytest.param(2, [0, 2], id="of the first one's data order"),
        pytest.param(4, [0, 2, 4], id="more than half of the places taken: the others wait"),
        pytest.param(None, [0, 2, 4], id="as many as there are"),
        pytest.param(8, [0, 2, 4, 1, 3], id="fewer than half: they join"),
    ],
)
def test_trials_of_one_data_order_train_together(capacity: int | None, expected: list[int]) -> None:
    assert numbers(choose_active(runs((0, 0), (1, 0), (0, 0), (1, 0), (0, 0)), capacity)) == expected


def test_a_newcomer_waits_for_those_that_are_further_on_unless_they_are_few() -> None:
    """It has another batch than they, though the seed is the same."""
    assert numbers(choose_active(runs((0, 5), (0, 5), (0, 0)), 4)) == [0, 1]
    assert numbers(choose_active(runs((0, 5), (0, 0), (0, 0)), 4)) == [0, 1, 2]


def test_where_no_two_have_the_same_order_they_are_mixed() -> None:
    assert numbers(choose_active(runs((3, 0), (1, 0), (2, 0)), 4)) == [0, 1, 2]
