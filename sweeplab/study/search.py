"""The search: Optuna's storage, asked for trials and told how they ended."""

import math
import warnings
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from optuna.samplers import RandomSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from sweeplab.checks.searches import LISTING
from sweeplab.config import StudyConfig
from sweeplab.records import Status, TrialRecord
from sweeplab.store import make_folder
from sweeplab.study.outcome import TOLD, constraint_values, objective_values
from sweeplab.study.presets import enqueued_points
from sweeplab.study.samplers import build_sampler, check_space, suggest
from sweeplab.study.space import Axis, Params, fits, grid
from sweeplab.study.storage import DATABASE, open_study
from sweeplab.study.warmstart import FROM, earlier_trials

SEED: Final = "seed"
REASON: Final = "reason"
STATUS: Final = "status"  # of a trial that did not finish, in a record's words
PRUNE: Final = "prune"  # why the pruner stopped it
ENTRY: Final = "enqueued"  # the entry of study.enqueue that a trial began with
GENERATIONS: Final = ("cmaes", "nsga2")


class Asked(NamedTuple):
    """A trial that is to run: its number in the study, the values that vary, and its seed."""

    number: int
    params: Params
    seed: int


class Queued(NamedTuple):
    """A trial that is to be asked before the sampler draws more; `entry` of study.enqueue may leave axes to draw."""

    params: Params
    seed: int
    entry: str | None = None


def num_planned(config: StudyConfig, varied: list[Axis]) -> int:
    """Trials in total, seeds included."""
    most = config.study.num_trials
    if config.sampler.name not in LISTING:
        assert most is not None
        return most
    points = len(grid(varied)) * len(config.study.seeds)
    return points if most is None else min(most, points)


def identity(params: Params) -> str:
    """The same for the same setting."""
    return repr(sorted(params.items()))


class Search:
    """An Optuna study in `folder`; the only writer of its storage. Raises `ConfigError` where it cannot be opened.

    Trials that were taken over from another study come first in the storage and have no number here.
    """

    def __init__(self, config: StudyConfig, varied: list[Axis], folder: Path) -> None:
        check_space(config, varied)
        self.entries = enqueued_points(config.study.enqueue, varied)
        self.config = config
        self.varied = varied
        self.num_planned = num_planned(config, varied)
        self.num_points = len(grid(varied)) if config.sampler.name in LISTING else None
        make_folder(folder)
        self.study = open_study(config, varied, folder / DATABASE)
        self.num_taken_over = self.take_over()
        self.live: dict[int, Trial] = {}  # asked and not told yet, by number
        self.seen: dict[str, set[int]] = {}  # settings that were drawn, with the seeds that they have a trial for
        self.pruned: set[str] = set()
        self.num_left_out = 0  # seeds that did not run, since another seed of their setting was pruned
        self.interrupted = [self.again(trial) for trial in self.own_trials() if trial.state == TrialState.RUNNING]
        trials = self.own_trials()
        self.num_waiting = sum(trial.state == TrialState.WAITING for trial in trials)
        self.num_started = len(trials) - self.num_waiting
        self.queue: deque[Queued] = deque()
        self.fill_queue(trials, self.entries)
        self.lost: list[Asked] = []  # told in an earlier run, and without a record now

    def take_over(self) -> int:
        """Adds the trials of study.warm_start that are not there yet; how many there are. Raises `ConfigError`."""
        trials = self.study.get_trials(deepcopy=False)
        there = sum(FROM in trial.user_attrs for trial in trials)
        if self.config.study.warm_start is None or len(trials) > there:
            return there
        found = earlier_trials(self.config, self.varied)
        for trial in found[there:]:
            self.study.add_trial(trial)
        return max(there, len(found))

    def own_trials(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)[self.num_taken_over :]

    def fill_queue(self, trials: list[FrozenTrial], entries: list[Params]) -> None:
        """What is to be asked before the sampler draws: seeds that were added or cut off, and enqueued points.

        A grid is queued seed by seed, and a drawn point for all its seeds before the next.
        """
        begun = {trial.user_attrs.get(ENTRY) for trial in trials}
        drawn: dict[str, Params] = {}
        for trial in trials:
            params = self.params_of(trial)
            if not fits(params, self.varied):
                continue
            drawn.setdefault(identity(params), params)
            self.see(params, self.seed_of(trial))
            if trial.user_attrs.get(STATUS) == Status.PRUNED:
                self.pruned.add(identity(params))
        seeds = self.config.study.seeds
        if self.config.sampler.name == "grid":
            wanted = self.listed()
        else:
            wanted = [Queued(point, seed) for point in drawn.values() for seed in seeds]
        self.queue.extend(one for one in wanted if one.seed not in self.seen.get(identity(one.params), ()))
        self.queue.extend(Queued(one, seeds[0], repr(one)) for one in entries if repr(one) not in begun)

    def listed(self) -> list[Queued]:
        """Every trial of a grid in its order; nothing for samplers that draw."""
        if self.config.sampler.name != "grid":
            return []
        points = grid(self.varied)
        return [Queued(point, seed) for seed in self.config.study.seeds for point in points]

    def params_of(self, trial: FrozenTrial) -> Params:
        """The values of a trial as conf spells them; of axes whose values have gone, as they were drawn."""
        waiting = trial.state == TrialState.WAITING
        params = trial.system_attrs["fixed_params"] if waiting else trial.params
        known = {axis.key: axis for axis in self.varied}
        return {key: known[key].exact(value) if known[key].holds(value) else value for key, value in params.items()}

    def see(self, params: Params, seed: int) -> None:
        self.seen.setdefault(identity(params), set()).add(seed)

    def seed_of(self, trial: FrozenTrial) -> int:
        """A fresh point is asked with the study's first seed; the others are queued with theirs."""
        seed: int = trial.user_attrs.get(SEED, self.config.study.seeds[0])
        return seed

    def num_ended(self) -> int:
        """Trials that are over, and have a record."""
        return sum(trial.state.is_finished() for trial in self.own_trials()) - len(self.lost)

    def close(self) -> None:
        """Lets go of the storage, so that its file can be renamed."""
        storage: Any = self.study._storage
        storage.remove_session()

    def asked(self) -> Iterator[Asked]:
        """Trials to run, until the study has as many as planned, or no point is left.

        First those that were interrupted, and those whose records were lost, under their own numbers.
        """
        yield from self.interrupted
        yield from self.lost
        while self.num_started < self.num_planned:
            asked = self.ask()
            if asked is None:
                return
            yield asked

    def again(self, trial: FrozenTrial) -> Asked:
        """A trial that an earlier driver started and never ended: it runs again under its own number.

        Where the driver was killed while it drew, the rest is drawn now.
        """
        return self.drawn(Trial(self.study, trial._trial_id), self.seed_of(trial))

    def ask(self) -> Asked | None:
        """The next trial: one that waits in the storage, one that is queued here, or one that the sampler draws."""
        queued = None
        if self.num_waiting:  # queued there by a driver that was killed before it asked
            self.num_waiting -= 1
        else:
            queued = self.next_queued()
            if queued is None and self.exhausted():
                return None
        if queued is not None:
            entry = {} if queued.entry is None else {ENTRY: queued.entry}
            self.study.enqueue_trial(queued.params, user_attrs={SEED: queued.seed, **entry})
        trial = self.study.ask()
        self.num_started += 1
        said = trial.user_attrs
        if SEED not in said:
            trial.set_user_attr(SEED, self.config.study.seeds[0])
        asked = self.drawn(trial, int(said.get(SEED, self.config.study.seeds[0])))
        if SEED not in said or ENTRY in said:
            self.queue_seeds(asked.params)
        if ENTRY in said and self.config.sampler.name in GENERATIONS:
            _ = trial.relative_params  # gives the point a place in a generation, which only what was drawn has
        return asked

    def next_queued(self) -> Queued | None:
        """Leaves out further seeds of a setting that was pruned: what it costs is better spent on another one."""
        while self.queue:
            queued = self.queue.popleft()
            if queued.entry is not None or identity(queued.params) not in self.pruned:
                return queued
            self.num_left_out += 1
        return None

    def exhausted(self) -> bool:
        """True where every point of a space that is listed has been asked for."""
        return self.num_points is not None and len(self.seen) >= self.num_points

    def queue_seeds(self, params: Params) -> None:
        """Puts the other seeds of a fresh point first in the queue."""
        seen = self.seen[identity(params)]
        self.queue.extendleft(Queued(params, seed) for seed in reversed(self.config.study.seeds) if seed not in seen)

    def drawn(self, trial: Trial, seed: int) -> Asked:
        """Draws each axis that is active beside those before it; values that are stored already stay."""
        self.study.sampler = build_sampler(self.config, self.varied, trial.number)
        params: Params = {}
        for axis in self.varied:
            if axis.active(params):
                params[axis.key] = axis.exact(suggest(trial, axis))
        number = trial.number - self.num_taken_over
        self.live[number] = trial
        self.see(params, seed)
        return Asked(number, params, seed)

    def note(self, number: int, reason: str) -> None:
        """Leaves with an unended trial why it failed, for whoever opens the storage."""
        if number in self.live:
            self.live[number].set_user_attr(REASON, reason)

    def report(self, number: int, step: int, loss: float) -> str | None:
        """Why the pruner stops trial `number` at `step`, or None. `loss` is the held-out loss in nats per target.

        A step that is reported again, as after a resume, changes nothing; a decision to prune stays. Where the
        objective is maximized, the storage holds the loss with its sign changed, since pruners go by the objective's
        direction. A loss that is no number is for training to judge.
        """
        name = self.config.pruner.name
        if name == "none" or not math.isfinite(loss):
            return None
        if number not in self.live:
            return self.said_before(number, step)
        trial = self.live[number]
        said: str | None = trial.user_attrs.get(PRUNE)
        if said is not None or step in trial.storage.get_trial(trial._trial_id).intermediate_values:
            return said
        trial.report(self.signed(loss), step)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # wilcoxon's, of a best trial with fewer rungs
            if not trial.should_prune():
                return None
        reason = f"pruner={name} at step {step}: held-out loss {loss:.4g}"
        trial.set_user_attr(PRUNE, reason)
        return reason

    def said_before(self, number: int, step: int) -> str | None:
        """Of a trial that runs again since its record was lost: it stops where it stopped before."""
        trial = self.own_trials()[number]
        said: str | None = trial.user_attrs.get(PRUNE)
        return said if step == max(trial.intermediate_values, default=step) else None

    def signed(self, loss: float) -> float:
        """A loss as the storage holds it, in the objective's direction."""
        return -loss if self.study.direction == StudyDirection.MAXIMIZE else loss

    def tell(self, record: TrialRecord) -> None:
        """Objective values of a finished trial, else how it ended; telling twice changes nothing. Raises `ConfigError`.

        Optuna's samplers ignore failed trials. One that ran out of memory is told as pruned with a violated constraint:
        TPE then avoids its neighbours, and no value is made up for it.
        """
        trial = self.live.get(record.number)
        if trial is None:
            return
        values = objective_values(record, self.config)
        there = trial.storage.get_trial(trial._trial_id).constraints
        for name, value in constraint_values(record, self.config).items():
            if name not in there:
                trial.set_constraint(name, value)
        if record.status is not Status.FINISHED:
            trial.set_user_attr(STATUS, record.status.value)
        if record.status is Status.PRUNED:
            self.pruned.add(identity(record.params))
        if record.reason is not None:
            self.note(record.number, record.reason)
        self.study.sampler = RandomSampler()  # brute force would stop an optimize() that does not run
        self.study.tell(trial, values=values, state=TOLD[record.status], skip_if_finished=True)
        del self.live[record.number]
