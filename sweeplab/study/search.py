"""The search state: Optuna's storage, asked for trials and told how they ended."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import optuna
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from sweeplab.config import ConfigError, StudyConfig
from sweeplab.records import Status, TrialRecord, direction, metric_value
from sweeplab.store import make_folder
from sweeplab.study.space import Axis, Params, grid

SEED: Final = "seed"
REASON: Final = "reason"
DATABASE: Final = "optuna.db"


class Asked(NamedTuple):
    """A trial that is to run: its number in the study, the values that vary, and its seed."""

    number: int
    params: Params
    seed: int


def build_sampler(config: StudyConfig, number: int) -> BaseSampler:
    """The sampler for trial `number`, seeded by it: a study that goes on draws what an unbroken one would have drawn.

    A grid is queued point by point, so its sampler is never asked for a value.
    """
    seed = random.Random(f"{config.sampler.seed} {number}").getrandbits(32)
    return TPESampler(seed=seed, multivariate=True) if config.sampler.name == "tpe" else RandomSampler(seed=seed)


def num_planned(config: StudyConfig, varied: list[Axis]) -> int:
    """Trials in total, seeds included."""
    if config.study.num_trials is not None:
        return config.study.num_trials
    return len(grid(varied)) * len(config.study.seeds)


def forget_search(folder: Path) -> None:
    """Drops the search state of `folder`, if there is one."""
    (folder / DATABASE).unlink(missing_ok=True)


class Search:
    """An Optuna study in `folder`; the only writer of its storage. Raises `ConfigError` where it cannot be opened."""

    def __init__(self, config: StudyConfig, varied: list[Axis], folder: Path) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.config = config
        self.varied = varied
        self.distributions = {axis.key: axis.distribution() for axis in varied}
        self.num_planned = num_planned(config, varied)
        make_folder(folder)
        try:
            self.study = optuna.create_study(
                storage=f"sqlite:///{folder / DATABASE}",
                study_name=config.study.name,
                directions=[direction(metric) for metric in config.study.objectives],
                load_if_exists=True,
            )
        except (optuna.exceptions.StorageInternalError, SQLAlchemyError) as error:
            cause = str(error).strip().splitlines()[0]
            raise ConfigError(
                f"{folder / DATABASE} cannot be used: {cause}; choose another study.runs_dir, or remove the file"
            ) from error
        points = grid(varied) if config.sampler.name == "grid" else self.drawn_points()
        self.queue([(point, seed) for seed in config.study.seeds for point in points])

    def drawn_points(self) -> list[Params]:
        """What a sampler drew in an earlier run: seeds that were added, or cut off by num_trials, are still to run."""
        params = (self.params_of(trial) for trial in self.study.get_trials(deepcopy=False))
        return [values for values in params if values.keys() == self.distributions.keys()]

    def seed_of(self, trial: FrozenTrial) -> int:
        """A fresh point is asked with the study's first seed; the others are queued with theirs."""
        seed: int = trial.user_attrs.get(SEED, self.config.study.seeds[0])
        return seed

    def queue(self, wanted: list[tuple[Params, int]]) -> None:
        """Adds the points that the study does not have yet, up to the number planned."""
        trials = self.study.get_trials(deepcopy=False)
        have = {self.identity(self.params_of(trial), self.seed_of(trial)) for trial in trials}
        lacking = {self.identity(*pair): pair for pair in wanted if self.identity(*pair) not in have}
        for params, seed in list(lacking.values())[: max(0, self.num_planned - len(trials))]:
            self.study.enqueue_trial(params, user_attrs={SEED: seed})

    @staticmethod
    def identity(params: Params, seed: int) -> str:
        return repr((sorted(params.items()), seed))

    @staticmethod
    def params_of(trial: FrozenTrial) -> Params:
        queued: Params = trial.system_attrs.get("fixed_params", {})
        return {**queued, **trial.params}

    def interrupted(self) -> list[Asked]:
        """Trials that an earlier driver started and never ended; they run again under their own numbers."""
        running = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return [Asked(trial.number, self.params_of(trial), self.seed_of(trial)) for trial in running]

    def num_ended(self) -> int:
        trials = self.study.get_trials(deepcopy=False)
        return sum(trial.state.is_finished() for trial in trials)

    def asked(self) -> Iterator[Asked]:
        """Trials to run, interrupted ones first, until the study has as many as planned."""
        yield from self.interrupted()
        while True:
            started = [trial for trial in self.study.get_trials(deepcopy=False) if trial.state != TrialState.WAITING]
            if len(started) >= self.num_planned:
                return
            self.study.sampler = build_sampler(self.config, len(started))
            trial = self.study.ask(fixed_distributions=self.distributions)
            fresh = SEED not in trial.user_attrs
            if fresh:
                trial.set_user_attr(SEED, self.config.study.seeds[0])
                self.queue([(trial.params, seed) for seed in self.config.study.seeds[1:]])
            yield Asked(trial.number, trial.params, trial.user_attrs.get(SEED, self.config.study.seeds[0]))

    def report(self, number: int, step: int, loss: float) -> str | None:
        return None

    def note(self, number: int, reason: str) -> None:
        """Leaves with an unended trial why it failed, for whoever opens the storage."""
        trial = self.study.get_trials(deepcopy=False)[number]
        if not trial.state.is_finished():
            optuna.trial.Trial(self.study, trial._trial_id).set_user_attr(REASON, reason)

    def tell(self, record: TrialRecord) -> None:
        """Objective values of a finished trial, else a failure; telling twice changes nothing."""
        values: list[Any] = [metric_value(record, metric) for metric in self.config.study.objectives]
        finished = record.status is Status.FINISHED
        if finished and None in values:
            missing = self.config.study.objectives[values.index(None)]
            there = ", ".join(f"scores.{task}.{name}" for task, metrics in record.scores.items() for name in metrics)
            raise ConfigError(
                f"study.objectives names {missing}, which trial {record.number} did not measure; it has "
                f"heldout_loss_nats_per_token{', ' + there if there else ''}"
            )
        if record.reason is not None:
            self.note(record.number, record.reason)
        self.study.tell(
            record.number,
            values=values if finished else None,
            state=TrialState.COMPLETE if finished else TrialState.FAIL,
            skip_if_finished=True,
        )
