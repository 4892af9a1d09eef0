"""What is to be asked before the sampler draws: seeds of settings that were drawn, enqueued points, a grid."""

from collections import deque
from collections.abc import Iterable
from typing import Final, NamedTuple

from optuna.trial import FrozenTrial, TrialState

from sweeplab.config.space import Axis, Params, fits, grid
from sweeplab.config.study import StudyConfig
from sweeplab.records.record import Status

SEED: Final = "seed"
STATUS: Final = "status"  # of a trial that did not finish, in a record's words
ENTRY: Final = "enqueued"  # the entry of study.enqueue that a trial began with


class Queued(NamedTuple):
    """A trial that is to be asked before the sampler draws more; `entry` of study.enqueue may leave axes to draw."""

    params: Params
    seed: int
    entry: str | None = None


def identity(params: Params) -> str:
    """The same for the same setting."""
    return repr(sorted(params.items()))


class Backlog:
    """Follows from the trials that are in the storage."""

    def __init__(self, config: StudyConfig, varied: list[Axis], entries: list[Params]) -> None:
        self.config = config
        self.entries = entries  # points of study.enqueue
        self.varied = varied
        self.seeds = config.study.seeds
        self.seen: dict[str, set[int]] = {}  # settings that were drawn, with the seeds that they have a trial for
        self.begun: set[str] = set()  # entries of study.enqueue that have a trial
        self.pruned: set[str] = set()
        self.num_left_out = 0  # seeds that did not run, since another seed of their setting was pruned
        self.queue: deque[Queued] = deque()

    def fill(self, trials: list[FrozenTrial]) -> None:
        """Seeds that were added or cut off, and entries; a grid seed by seed, a drawn point for all its seeds."""
        found = [params for trial in trials if (params := self.learn(trial)) is not None]
        drawn = {identity(params): params for params in found}
        wanted = self.wanted(drawn.values())
        wanted += [Queued(one, self.seeds[0], repr(one)) for one in self.entries]
        self.queue.extend(one for one in wanted if not self.is_begun(one))

    def wanted(self, drawn: Iterable[Params]) -> list[Queued]:
        """Every trial of a grid in its order; of samplers that draw, each `drawn` point with all its seeds."""
        if self.config.sampler.name == "grid":
            return [Queued(point, seed) for seed in self.seeds for point in grid(self.varied)]
        return [Queued(point, seed) for point in drawn for seed in self.seeds]

    def params_of(self, trial: FrozenTrial) -> Params:
        """The values of a trial as conf spells them; of axes whose values have gone, as they were drawn."""
        waiting = trial.state == TrialState.WAITING
        params = trial.system_attrs["fixed_params"] if waiting else trial.params
        known = {axis.key: axis for axis in self.varied}
        return {key: known[key].exact(value) if known[key].holds(value) else value for key, value in params.items()}

    def learn(self, trial: FrozenTrial) -> Params | None:
        """Takes note of a trial in the storage. Its setting, where it is whole and of this space."""
        if ENTRY in trial.user_attrs:
            self.begun.add(trial.user_attrs[ENTRY])
        params = self.params_of(trial)
        if not fits(params, self.varied):
            return None
        self.see(params, self.seed_of(trial))
        if trial.user_attrs.get(STATUS) == Status.PRUNED:
            self.pruned.add(identity(params))
        return params

    def see(self, params: Params, seed: int) -> None:
        self.seen.setdefault(identity(params), set()).add(seed)

    def seed_of(self, trial: FrozenTrial) -> int:
        """A fresh point is asked with the study's first seed; the others are queued with theirs."""
        seed: int = trial.user_attrs.get(SEED, self.seeds[0])
        return seed

    def is_begun(self, queued: Queued) -> bool:
        """True where it has a trial."""
        if queued.entry is not None:
            return queued.entry in self.begun
        return queued.seed in self.seen.get(identity(queued.params), ())

    def queue_seeds(self, params: Params) -> None:
        """Puts the other seeds of a fresh point first in the queue; a grid has them there."""
        if self.config.sampler.name == "grid":
            return
        seen = self.seen[identity(params)]
        self.queue.extendleft(Queued(params, seed) for seed in reversed(self.seeds) if seed not in seen)

    def next(self) -> Queued | None:
        """Leaves out what has begun, and further seeds of a setting that was pruned: what those cost is
        better spent on another setting.
        """
        while self.queue:
            queued = self.queue.popleft()
            if self.is_begun(queued):
                continue
            if queued.entry is not None or identity(queued.params) not in self.pruned:
                return queued
            self.num_left_out += 1
        return None
