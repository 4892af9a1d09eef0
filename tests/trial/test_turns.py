"""Which trials of a cohort train at the same time."""

from types import SimpleNamespace
from typing import Any

import pytest

from sweeplab.records.record import Status
from sweeplab.training.running_trial import EarlyEnd
from sweeplab.trial.turns import Vacancies, choose_active


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


def leave(vacancies: Vacancies, trials: list[Any], number: int, status: Status) -> None:
    (ended,) = (one for one in trials if one.spec.number == number)
    trials.remove(ended)
    ended.early_end, ended.num_steps = EarlyEnd(status, "why"), 9
    vacancies.note(ended, trials)


@pytest.mark.parametrize(("status", "expected"), [(Status.STOPPED, [0, 2]), (Status.PRUNED, [0, 2, 1, 3])])
def test_nobody_joins_in_the_place_of_a_trial_that_a_person_stopped(status: Status, expected: list[int]) -> None:
    """With it three of six places were taken, so that the other seed waited; nobody's rows are padded otherwise now."""
    trials, vacancies = runs((0, 5), (1, 0), (0, 5), (1, 0), (0, 5)), Vacancies()
    assert numbers(choose_active(trials, 6, vacancies.count(trials))) == [0, 2, 4]
    leave(vacancies, trials, 4, status)
    assert numbers(choose_active(trials, 6, vacancies.count(trials))) == expected


def test_a_place_is_free_once_its_trial_would_have_ended_or_those_beside_it_have() -> None:
    trials, vacancies = runs((0, 5), (1, 0), (0, 5)), Vacancies()
    leave(vacancies, trials, 2, Status.STOPPED)
    assert vacancies.count(trials) == 1
    assert vacancies.count(trials[1:]) == 0
    trials, vacancies = runs((0, 5), (1, 0), (0, 5)), Vacancies()
    leave(vacancies, trials, 2, Status.STOPPED)
    trials[0].step = 9
    assert vacancies.count(trials) == 0
