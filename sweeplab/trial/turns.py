"""Chooses the trials of a cohort that train next."""

from collections.abc import Sequence
from typing import NamedTuple

from sweeplab.records.record import Status
from sweeplab.training.running_trial import RunningTrial


def choose_active(trials: Sequence[RunningTrial], capacity: int | None, num_vacant: int = 0) -> list[RunningTrial]:
    """The trials that train next, at most `capacity` of them (None: all).

    Trials with the seed and step of the first one are preferred. They read the same rows, so no row is padded to the
    length of another trial's row, and sums are rounded as in a trial that trains by itself. Other trials are added
    only where these fill less than half of `capacity`, the `num_vacant` places of `Vacancies` included.
    """
    most = len(trials) + num_vacant if capacity is None else capacity
    alike = [trial for trial in trials if _is_alike(trial, trials[0])][:most]
    others = [trial for trial in trials if not _is_alike(trial, trials[0])]
    joining = others if 2 * (len(alike) + num_vacant) < most else []
    return [*alike, *joining[: max(0, most - num_vacant - len(alike))]]


def _is_alike(one: RunningTrial, other: RunningTrial) -> bool:
    return (one.spec.seed, one.step) == (other.spec.seed, other.step)


class _Vacancy(NamedTuple):
    """The place of a trial that a person stopped, and the trials that trained beside it at its seed and step."""

    beside: list[RunningTrial]
    num_steps: int


class Vacancies:
    """Places of trials that a person stopped. Until their last step they count as taken, so that no trial joins the
    others that would not have joined them: their rows would be padded to its rows, and their sums rounded otherwise."""

    def __init__(self) -> None:
        self.places: list[_Vacancy] = []

    def note(self, ended: RunningTrial, trials: Sequence[RunningTrial]) -> None:
        """Notes that a trial has left; `trials`: those that stay."""
        if ended.early_end is not None and ended.early_end.status is Status.STOPPED:
            self.places.append(_Vacancy([one for one in trials if _is_alike(one, ended)], ended.num_steps))

    def count(self, trials: Sequence[RunningTrial]) -> int:
        """The places beside the first of the trials."""
        first = trials[0]
        left = [place for place in self.places if any(one in trials for one in place.beside)]
        self.places = [place for place in left if max(one.step for one in place.beside) < place.num_steps]
        return sum(any(one in trials and _is_alike(one, first) for one in place.beside) for place in self.places)
