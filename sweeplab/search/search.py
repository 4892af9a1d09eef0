"""The search: an Optuna study that is asked for trials and told their results, and the files it is rebuilt from."""

import math
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from optuna.trial import FrozenTrial, Trial

from sweeplab.config.search_rules import LISTING, RACES
from sweeplab.config.space import Axis, Params, fits, grid
from sweeplab.config.study import StudyConfig
from sweeplab.config.trial import TrialConfig
from sweeplab.config.trial_spec import TrialSpec
from sweeplab.records.asked import write_asked
from sweeplab.records.inputs import KnownInputs
from sweeplab.records.quarantine import StudyFiles
from sweeplab.records.record import Status, TrialRecord
from sweeplab.records.store import make_folder, record_path, trial_folder
from sweeplab.records.wishes import AddSeed
from sweeplab.runtime.errors import ConfigError
from sweeplab.search.dashboard import Dashboard
from sweeplab.search.enqueue import read_enqueued_points
from sweeplab.search.finals import FinalsQueue
from sweeplab.search.outcome import find_loss_sign, tell_record
from sweeplab.search.planned import count_planned_trials
from sweeplab.search.queue import ENTRY, SEED, Queue, Queued, read_params
from sweeplab.search.race import RaceQueue
from sweeplab.search.rebuild import describe_trial, match_files, rebuild_trials
from sweeplab.search.samplers import build_sampler, check_space, suggest
from sweeplab.search.schedule_pruner import NUM_STEPS
from sweeplab.search.settings import read_or_write_settings
from sweeplab.search.storage import create_study
from sweeplab.search.warm_start import build_earlier_trial

_PRUNE: Final = "prune"  # user attribute: why the pruner stopped the trial
_GENERATIONS: Final = ("cmaes", "nsga2")
_Compose = Callable[[Params], TrialConfig]  # the experiment with one trial's values on top


def _build_queue(config: StudyConfig, varied: list[Axis], entries: list[Params]) -> Queue:
    kinds: dict[str, type[Queue]] = {"race": RaceQueue, "finals": FinalsQueue}
    return kinds.get(config.sampler.name, Queue)(config, varied, entries)


class Search:
    """An Optuna study in memory, rebuilt from the files of `folder`. A trial is written to a file before it runs.

    Trials of `study.warm_start` come first in Optuna's list; they have no number in this study.
    """

    def __init__(
        self,
        config: StudyConfig,
        varied: list[Axis],
        folder: Path,
        files: StudyFiles,
        compose: _Compose,
        say: Callable[[str], None],
    ) -> None:
        """Raises `ConfigError` where the files belong to another experiment, and `StoreError`."""
        check_space(config, varied)
        self.config = config
        self.varied = varied
        self.folder = folder
        self._num_planned = count_planned_trials(config, varied)
        self._added = deque[Queued]()  # seeds that a person asked for
        self._num_points = len(grid(varied)) if config.sampler.name in LISTING else None
        self._compose, self._say = compose, say
        self._inputs = KnownInputs()
        self.records: list[TrialRecord] = files.records  # of earlier runs
        self.has_results = False  # True once a trial has a record and was not refused
        self._running: dict[int, Trial] = {}  # trials without a result yet, by number
        self._study_attrs: dict[int, dict[str, Any]] = {}  # Optuna's attributes of the study, by trial that set them
        make_folder(folder)
        self.study, self._storage = create_study(config, varied)
        self._dashboard = Dashboard(folder, say)
        self._rebuild(files, say)

    def _rebuild(self, files: StudyFiles, say: Callable[[str], None]) -> None:
        """Adds all trials of the files to Optuna's study, then fills the queue."""
        config, varied = self.config, self.varied
        facts = read_or_write_settings(self.folder, config, varied, bool(files.asked or files.records))
        for earlier in facts.earlier_trials:
            self.study.add_trial(build_earlier_trial(earlier, varied))
        self._num_earlier = len(facts.earlier_trials)
        entries = read_enqueued_points(config.study.enqueue, varied)
        asked, sentences = match_files(self.folder, files, varied, entries)
        rebuild_trials(self.study, files, asked, Queue(config, varied, entries), varied, config)
        for number in sorted(asked):
            self._study_attrs[number] = asked[number].study_attrs
            for key, value in asked[number].study_attrs.items():
                self._storage.set_study_system_attr(self.study._study_id, key, value)
        self._storage.take_study_attrs()
        self.queue = _build_queue(config, varied, entries)
        for record in files.records:
            self._note(record)
            trial = self._open_trial(record.number)
            tell_record(self.study, trial, record, config)
            ended = record_path(self.folder, record.number)
            if ended.exists():
                self._storage.set_end(trial._trial_id, datetime.fromtimestamp(ended.stat().st_mtime))
        trials = self.own_trials()
        self._unfinished = deque(number for number, one in enumerate(trials) if not one.state.is_finished())
        self.queue.fill(trials)
        for sentence in sentences:
            say(sentence)
        self._dashboard.rebuild(self.study)

    def _note(self, record: TrialRecord) -> None:
        self._inputs.note(record)
        self.queue.note_record(record)
        self.has_results |= record.status is not Status.REFUSED

    def own_trials(self) -> list[FrozenTrial]:
        """The trials of this study by number, without those of `study.warm_start`."""
        return self.study.get_trials(deepcopy=False)[self._num_earlier :]

    @property
    def num_planned(self) -> int:
        """Trials of the whole study, with the seeds that a person added."""
        if self.config.sampler.name in RACES:
            return self._num_planned
        seeds = [*(trial.user_attrs[SEED] for trial in self.own_trials()), *(one.seed for one in self._added)]
        return max(self._num_planned + sum(seed not in self.config.study.seeds for seed in seeds), len(seeds))

    def has_trial(self, number: int) -> bool:
        """Whether a trial with this number was asked for."""
        return 0 <= number < len(self.own_trials())

    def add_seed(self, wish: AddSeed) -> bool:
        """Makes a further seed of a trial's setting the next to run; false where there is nothing to add, since it has
        a trial, or cannot be added."""
        if not self.has_trial(wish.trial) or wish.seed < 0 or self.config.sampler.name in RACES:
            return False
        queued = Queued(read_params(self._read_trial(wish.trial), self.varied), wish.seed)
        if self.queue.is_begun(queued) or not fits(queued.params, self.varied):
            return False
        if queued not in self._added:
            self._added.append(queued)
        return True

    def num_ended(self) -> int:
        """Number of trials that have a record."""
        return sum(trial.state.is_finished() for trial in self.own_trials())

    def close(self) -> None:
        """Closes the dashboard's database."""
        self._dashboard.close()

    def ask_all(self) -> Iterator[TrialSpec]:
        """Trials to run, until the study has as many as planned or no point is left.

        Trials that an earlier driver did not finish, or whose records were lost, come first, with their old numbers.
        """
        while (spec := self.ask()) is not None:
            yield spec

    def ask(self) -> TrialSpec | None:
        """The next trial, or None. Its `trial.json` is written first. Raises `ConfigError` and `StoreError`."""
        if self._unfinished:
            trial = self._open_trial(self._unfinished.popleft())
            return self._draw(trial, trial.user_attrs[SEED])
        if self._added:
            return self._begin(self._added.popleft())
        if len(self.own_trials()) >= self.num_planned:
            return None
        draws = self.queue.draws and not self._has_all_points()
        queued = self.queue.take_next()
        if queued is None and not draws:
            return None
        return self._begin(queued)

    def _has_all_points(self) -> bool:
        return self._num_points is not None and self.queue.num_settings >= self._num_points

    def is_over(self) -> bool:
        """Whether no trial is left, once none runs any more."""
        if not self.queue.draws:
            return not self._unfinished and self.queue.take_next() is None
        return self.num_ended() >= self.num_planned

    def _begin(self, queued: Queued | None) -> TrialSpec:
        """A new trial: the queued one, or else a point that the sampler draws."""
        seed, entry = self.config.study.seeds[0], None
        if queued is not None:
            seed, entry = queued.seed, queued.entry
            self.study.enqueue_trial(queued.params)
        trial = self.study.ask()
        trial.set_user_attr(SEED, seed)
        if entry is not None:
            trial.set_user_attr(ENTRY, entry)
        return self._draw(trial, seed)

    def _open_trial(self, number: int) -> Trial:
        return Trial(self.study, self.study.get_trials(deepcopy=False)[self._num_earlier + number]._trial_id)

    def _draw(self, trial: Trial, seed: int) -> TrialSpec:
        """Draws the axes that are active with the values drawn before them; a trial keeps values that it has."""
        self.study.sampler = build_sampler(self.config, self.varied, trial.number)
        params: Params = {}
        for axis in self.varied:
            if axis.active(params):
                params[axis.key] = axis.exact(suggest(trial, axis))
        number = trial.number - self._num_earlier
        is_new = number not in self._study_attrs
        if is_new and ENTRY in trial.user_attrs and self.config.sampler.name in _GENERATIONS:
            _ = trial.relative_params  # makes Optuna assign the point to a generation; it does so only when drawing
        self._running[number] = trial
        self._study_attrs[number] = self._study_attrs.get(number, {}) | self._storage.take_study_attrs()
        spec = self._compose_spec(number, seed, params)
        if is_new:
            self._store(number)
        self._dashboard.write(self._read_trial(number))
        self.queue.note(params, seed)
        self.queue.put_other_seeds_first(params)
        return spec

    def _compose_spec(self, number: int, seed: int, params: Params) -> TrialSpec:
        """The trial to run; for values that do not go together the experiment's own configuration, and why."""
        folder = trial_folder(self.folder, number)
        try:
            config = self._compose(params)
        except ConfigError as error:
            return TrialSpec(number, seed, params, self.config.trial_config(), folder, refusal=str(error))
        return TrialSpec(number, seed, params, config, folder, self._inputs.find(config.to_dict()))

    def _read_trial(self, number: int) -> FrozenTrial:
        return self.own_trials()[number]

    def _store(self, number: int) -> None:
        """Writes `trial.json`. Raises `StoreError`."""
        trial = self._read_trial(number)
        params, attrs = read_params(trial, self.varied), self._study_attrs[number]
        write_asked(self.folder, describe_trial(trial, number, params, attrs, find_loss_sign(self.config)))

    def report(self, number: int, step: int, loss: float, num_steps: int = 0) -> str | None:
        """Reports a held-out loss in nats per target token after `step` of `num_steps` steps; returns why the pruner
        stops the trial, or None.

        A step that is reported again, as after a resume, changes nothing. A decision to prune is stored, and holds
        when the trial starts again. A loss that is not finite is ignored: training ends that trial. Raises
        `StoreError`.
        """
        name = self.config.pruner.name
        if name == "none" or not math.isfinite(loss):
            return None
        trial, losses = self._running[number], self._read_trial(number).intermediate_values
        reason: str | None = trial.user_attrs.get(_PRUNE)
        if reason is not None:
            return reason if step >= max(losses) else None
        if step in losses:
            return None
        if num_steps and NUM_STEPS not in trial.user_attrs:
            trial.set_user_attr(NUM_STEPS, num_steps)
        trial.report(find_loss_sign(self.config) * loss, step)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # wilcoxon warns where the best trial has fewer rungs
            if trial.should_prune():
                reason = f"pruner={name} at step {step}: held-out loss {loss:.4g}"
                trial.set_user_attr(_PRUNE, reason)
        self._store(number)
        self._dashboard.write(self._read_trial(number))
        return reason

    def tell(self, record: TrialRecord) -> None:
        """Reports the record of a trial to Optuna; a second call changes nothing. Raises `ConfigError`."""
        self._note(record)
        trial = self._running.pop(record.number, None)
        if trial is None:
            return
        tell_record(self.study, trial, record, self.config)
        if (sentence := self.queue.describe_round()) is not None:
            self._say(sentence)
        self._dashboard.write(self._read_trial(record.number))
