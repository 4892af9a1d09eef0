"""The search: Optuna's storage, asked for trials and told how they ended."""

import math
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from optuna.samplers import RandomSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from sweeplab.config.search_rules import LISTING
from sweeplab.config.space import Axis, Params, grid
from sweeplab.config.study import StudyConfig
from sweeplab.config.trial import TrialConfig
from sweeplab.config.trial_spec import TrialSpec
from sweeplab.records.record import Status, TrialRecord
from sweeplab.records.store import make_folder, trial_folder
from sweeplab.search.outcome import TOLD, constraint_values, objective_values
from sweeplab.search.presets import enqueued_points
from sweeplab.search.queue import ENTRY, SEED, STATUS, Backlog, identity
from sweeplab.search.samplers import build_sampler, check_space, suggest
from sweeplab.search.storage import open_study
from sweeplab.search.warm_start import FROM, earlier_trials

REASON: Final = "reason"
PRUNE: Final = "prune"  # why the pruner stopped it
GENERATIONS: Final = ("cmaes", "nsga2")


Compose = Callable[[Params], TrialConfig]  # the experiment with one trial's values on top


def num_planned(config: StudyConfig, varied: list[Axis]) -> int:
    """Trials in total, seeds included."""
    most = config.study.num_trials
    if config.sampler.name not in LISTING:
        assert most is not None
        return most
    points = len(grid(varied)) * len(config.study.seeds)
    return points if most is None else min(most, points)


class Search:
    """An Optuna study in `folder`; raises `ConfigError` where it cannot be opened.

    Trials that were taken over from another study come first in the storage and have no number here.
    """

    def __init__(self, config: StudyConfig, varied: list[Axis], folder: Path, compose: Compose) -> None:
        check_space(config, varied)
        self.config = config
        self.varied = varied
        self.folder = folder
        self.compose = compose
        self.num_planned = num_planned(config, varied)
        self.num_points = len(grid(varied)) if config.sampler.name in LISTING else None
        make_folder(folder)
        self.study, self.storage = open_study(config, varied, folder)
        self.live: dict[int, Trial] = {}  # asked here and not told yet, by number
        self.backlog = Backlog(config, varied, enqueued_points(config.study.enqueue, varied))
        self.num_taken_over = self.take_over()
        self.keep()
        trials = self.own_trials()
        self.left = deque(number for number, trial in enumerate(trials) if trial.state == TrialState.RUNNING)
        self.num_waiting = sum(trial.state == TrialState.WAITING for trial in trials)
        self.backlog.fill(trials)
        self.lost: deque[TrialSpec] = deque()  # told in an earlier run, and without a record now

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

    def num_ended(self) -> int:
        """Trials that are over, and have a record."""
        return sum(trial.state.is_finished() for trial in self.own_trials()) - len(self.lost)

    def keep(self) -> None:
        """Writes the trials that are new to the database."""
        self.storage.keep()

    def close(self) -> None:
        """Lets go of the database, so that its file can be renamed."""
        self.storage.close()

    def asked(self) -> Iterator[TrialSpec]:
        """Trials to run, until the study has as many as planned, or no point is left.

        First those that were left, and those whose records were lost, under their own numbers.
        """
        while (asked := self.next_asked()) is not None:
            yield asked

    def next_asked(self) -> TrialSpec | None:
        asked = self.choose_next()
        self.keep()
        return asked

    def choose_next(self) -> TrialSpec | None:
        if self.left:
            return self.again(self.own_trials()[self.left.popleft()])
        if self.lost:
            return self.lost.popleft()
        if len(self.own_trials()) - self.num_waiting >= self.num_planned:
            return None
        return self.ask(self.num_waiting > 0)

    def again(self, trial: FrozenTrial) -> TrialSpec:
        """A trial that an earlier driver started and never ended: it runs again under its own number.

        Where the driver was killed while it drew, the rest is drawn now.
        """
        return self.drawn(Trial(self.study, trial._trial_id), self.backlog.seed_of(trial))

    def ask(self, waiting: bool) -> TrialSpec | None:
        """The next trial: one that is `waiting` in the storage, one that is queued here, or one that is drawn."""
        queued = None
        if not waiting:  # else queued there by a driver that was killed before it asked
            queued = self.backlog.next()
            if queued is None and self.exhausted():
                return None
        if queued is not None:
            entry = {} if queued.entry is None else {ENTRY: queued.entry}
            self.study.enqueue_trial(queued.params, user_attrs={SEED: queued.seed, **entry})
        trial = self.study.ask()
        self.num_waiting = max(0, self.num_waiting - 1)
        said = trial.user_attrs
        if SEED not in said:
            trial.set_user_attr(SEED, self.config.study.seeds[0])
        asked = self.drawn(trial, int(said.get(SEED, self.config.study.seeds[0])))
        if ENTRY in said and self.config.sampler.name in GENERATIONS:
            _ = trial.relative_params  # gives the point a place in a generation, which only what was drawn has
        return asked

    def exhausted(self) -> bool:
        """True where every point of a space that is listed has been asked for."""
        return self.num_points is not None and len(self.backlog.seen) >= self.num_points

    def drawn(self, trial: Trial, seed: int) -> TrialSpec:
        """Draws each axis that is active beside those before it; values that are stored already stay."""
        self.study.sampler = build_sampler(self.config, self.varied, trial.number)
        params: Params = {}
        for axis in self.varied:
            if axis.active(params):
                params[axis.key] = axis.exact(suggest(trial, axis))
        number = trial.number - self.num_taken_over
        self.live[number] = trial
        known = self.backlog.seen.setdefault(identity(params), set())
        known.add(seed)
        if len(known) == 1:
            self.backlog.queue_seeds(params)
        return self.spec_of(number, params, seed)

    def spec_of(self, number: int, params: Params, seed: int) -> TrialSpec:
        """A trial as it will run. Raises `ConfigError` where its values cannot."""
        return TrialSpec(number, seed, params, self.compose(params), trial_folder(self.folder, number))

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
        trial = self.live.pop(record.number, None)
        if trial is not None:
            self.tell_storage(trial, record)

    def tell_storage(self, trial: Trial, record: TrialRecord) -> None:
        values = objective_values(record, self.config)
        there = trial.storage.get_trial(trial._trial_id).constraints
        for name, value in constraint_values(record, self.config).items():
            if name not in there:
                trial.set_constraint(name, value)
        if record.status is not Status.FINISHED:
            trial.set_user_attr(STATUS, record.status.value)
        if record.status is Status.PRUNED:
            self.backlog.pruned.add(identity(record.params))
        if record.reason is not None:
            trial.set_user_attr(REASON, record.reason)
        self.study.sampler = RandomSampler()  # brute force would stop an optimize() that does not run
        self.study.tell(trial, values=values, state=TOLD[record.status], skip_if_finished=True)
