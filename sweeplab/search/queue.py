"""What is to be asked before the sampler draws: seeds of settings that were drawn, enqueued points, a grid."""

from collections import deque
from collections.abc import Iterable
from typing import Final, NamedTuple

from optuna.trial import FrozenTrial

from sweeplab.config.space import Axis, Params, fits, grid
from sweeplab.config.study import StudyConfig
from sweeplab.records.record import Status
from sweeplab.search.outcome import STATUS

SEED: Final = "seed"
ENTRY: Final = "enqueued"  # the entry of study.enqueue that a trial began with


class Queued(NamedTuple):
    """A trial that is to be asked before the sampler draws more; `entry` of study.enqueue may leave axes to draw."""

    params: Params
    seed: int
    entry: str | None = None


def identity(params: Params) -> str:
    """The same for the same setting."""
    return repr(sorted(params.items()))


class Queue:
    """Follows from the trials that were asked for: a study that goes on has the queue of an unbroken one."""

    def __init__(self, config: StudyConfig, varied: list[Axis], entries: list[Params]) -> None:
        self._entries = entries  # points of study.enqueue
        self._varied = varied
        self._is_grid = config.sampler.name == "grid"
        self._seeds = config.study.seeds
        self._begun_seeds: dict[str, set[int]] = {}  # settings that were drawn, with the seeds that have a trial
        self._begun_entries: set[str] = set()  # entries of study.enqueue that have a trial
        self._pruned: set[str] = set()
        self._queue: deque[Queued] = deque()

    @property
    def num_settings(self) -> int:
        """Settings that have a trial."""
        return len(self._begun_seeds)

    @property
    def num_left_out(self) -> int:
        """Seeds that do not run, since another seed of their setting was pruned."""
        return sum(len(set(self._seeds) - self._begun_seeds.get(setting, set())) for setting in self._pruned)

    def fill(self, trials: list[FrozenTrial]) -> None:
        """Seeds that were added or cut off, and entries; a grid seed by seed, a drawn point for all its seeds."""
        drawn = [params for trial in trials if (params := self._note_trial(trial)) is not None]
        self._queue.extend(self.list_missing(drawn))
        entries = [Queued(one, self._seeds[0], repr(one)) for one in self._entries]
        self._queue.extend(one for one in entries if not self._is_begun(one))

    def list_missing(self, drawn: Iterable[Params]) -> list[Queued]:
        """What has no trial yet: of a grid, in its order; of samplers that draw, each `drawn` point with all seeds."""
        if self._is_grid:
            wanted = [Queued(point, seed) for seed in self._seeds for point in grid(self._varied)]
        else:
            points = {identity(params): params for params in drawn}
            wanted = [Queued(point, seed) for point in points.values() for seed in self._seeds]
        return [one for one in wanted if not self._is_begun(one)]

    def _note_trial(self, trial: FrozenTrial) -> Params | None:
        """Its setting, where it is whole and of this space."""
        if ENTRY in trial.user_attrs:
            self._begun_entries.add(trial.user_attrs[ENTRY])
        params = read_params(trial, self._varied)
        if not fits(params, self._varied):
            return None
        self.note(params, trial.user_attrs[SEED])
        if trial.user_attrs.get(STATUS) == Status.PRUNED:
            self.note_pruned(params)
        return params

    def note(self, params: Params, seed: int) -> None:
        """A setting has a trial with `seed`."""
        self._begun_seeds.setdefault(identity(params), set()).add(seed)

    def note_pruned(self, params: Params) -> None:
        """A trial of the setting was stopped early."""
        self._pruned.add(identity(params))

    def _is_begun(self, queued: Queued) -> bool:
        """True where it has a trial."""
        if queued.entry is not None:
            return queued.entry in self._begun_entries
        return queued.seed in self._begun_seeds.get(identity(queued.params), ())

    def put_other_seeds_first(self, params: Params) -> None:
        """Of a setting that was drawn with one seed; a grid has them in its own order."""
        if self._is_grid or len(self._begun_seeds[identity(params)]) > 1:
            return
        others = (Queued(params, seed) for seed in reversed(self._seeds))
        self._queue.extendleft(one for one in others if not self._is_begun(one))

    def take_next(self) -> Queued | None:
        """Leaves out further seeds of a setting that was pruned: what those cost is better spent on another setting."""
        while self._queue:
            queued = self._queue.popleft()
            if self._is_begun(queued):
                continue
            if queued.entry is not None or identity(queued.params) not in self._pruned:
                return queued
        return None


def read_params(trial: FrozenTrial, varied: list[Axis]) -> Params:
    """The values of a trial as conf spells them."""
    by_key = {axis.key: axis for axis in varied}
    return {key: by_key[key].exact(value) for key, value in trial.params.items() if key in by_key}
