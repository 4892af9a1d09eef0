"""The queue of finals: settings that a sampler draws with one seed; then the best of them race with other seeds."""

from optuna.trial import FrozenTrial

from sweeplab.config.sampler import FinalsSampler
from sweeplab.config.space import Axis, Params
from sweeplab.config.study import StudyConfig
from sweeplab.report.evidence.race import RaceCourse, choose_finalists
from sweeplab.search.queue import SEED, Queue, Queued
from sweeplab.search.race import RaceQueue


class FinalsQueue(RaceQueue):
    """The trials of finals. The race has seeds that had no part in choosing the finalists."""

    def __init__(self, config: StudyConfig, varied: list[Axis], entries: list[Params]) -> None:
        super().__init__(config, varied, entries)
        assert isinstance(config.sampler, FinalsSampler)
        self._sampler = config.sampler
        self._num_begun = 0  # trials with the first seed
        self._races = False

    @property
    def draws(self) -> bool:
        """Whether a setting is still to be drawn."""
        return self._num_begun < self._sampler.num_drawn

    def fill(self, trials: list[FrozenTrial]) -> None:
        """Notes which trials have begun; entries of study.enqueue are the first settings."""
        super().fill(trials)
        self._num_begun = sum(trial.user_attrs.get(SEED) == self._seeds[0] for trial in trials)
        self._queue.extend(self._list_entries())

    def take_next(self) -> Queued | None:
        """An entry of study.enqueue, or None, while settings are drawn; then what the race asks for."""
        if self.draws:
            self._num_begun += 1
            return Queue.take_next(self)
        return super().take_next() if self._begin_race() else None

    def describe_round(self) -> str | None:
        """Where the race stands, each time that a round is over; else None."""
        return super().describe_round() if not self.draws and self._begin_race() else None

    def _list_points(self) -> list[Params]:
        """None before they are drawn."""
        return []

    def _begin_race(self) -> bool:
        """Whether every drawn setting has ended, so that the finalists are known."""
        earlier = self._course
        first = [one for one in earlier.records.values() if one.seed == self._seeds[0]]
        if not self._races and len(first) >= self._num_begun:
            finalists = choose_finalists(earlier.rules, first, self._sampler.num_finalists)
            self._course = RaceCourse(earlier.rules._replace(seeds=self._seeds[1:]), finalists)
            for record in earlier.records.values():
                self._course.note(record)
            self._races = True
        return self._races
