"""The life of a cohort's trials on one page: load -> attach adapter -> fit -> evaluate -> record.

Trials of one geometry train together on one base; a single trial is a cohort of one. A trial that fails leaves a record
that says how and in which phase; the other trials of its cohort go on.
"""

import logging
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

from sweeplab.adapters.attach import detach_adapter, is_base_kept
from sweeplab.adapters.lora import why_alone_on
from sweeplab.config.shared_base import can_gain_from_others, describe_layout
from sweeplab.config.trial_spec import TrialSpec
from sweeplab.records.record import Phase, Status, TrialRecord
from sweeplab.records.store import set_aside
from sweeplab.runtime.errors import describe_error_with_kind
from sweeplab.runtime.out_of_memory import free_failed, is_out_of_memory
from sweeplab.training.attached_cohort import AttachedCohort
from sweeplab.training.checkpoints import CheckpointError, continue_from_checkpoint
from sweeplab.training.fit import fit_until_one_ends
from sweeplab.training.running_trial import Observe, RunningTrial
from sweeplab.training.stopping import stop_trials
from sweeplab.trial.beginning import asks_for_solo, attach_trial, begin_trial, load_trial
from sweeplab.trial.capacity import choose_capacity, halve_capacity, measure_missing
from sweeplab.trial.exactness import why_own_batches
from sweeplab.trial.failures import raise_what_ends_the_study, record_failure
from sweeplab.trial.measurement import add_phase, measure_phase
from sweeplab.trial.resources import Resources
from sweeplab.trial.scoring import evaluate_trials, score_base, score_rung
from sweeplab.trial.turns import Vacancies, choose_active

_log = logging.getLogger(__name__)


def run_cohort(
    specs: Sequence[TrialSpec],
    resources: Resources,
    observe: Observe,
    say: Callable[[str], None],
    ask_for_more: Callable[[], Sequence[TrialSpec]],
) -> Iterator[TrialRecord]:
    """Runs trials of one geometry and yields their records in the order in which they end.

    Args:
        observe: called with the metrics of a trial; returns the reason why the pruner stops it, or None.
        say: called with sentences that a user should read at once.
        ask_for_more: called after each record; returns further trials for the cohort.

    Raises:
        StudyRefused, StoreError: they stop the study. Every other error becomes a record.
    """
    cohort, waiting = Cohort(resources, observe, say, resources.cohort_size), deque(specs)
    while waiting or cohort.trials:
        while waiting:
            record = cohort.admit(waiting.popleft())
            if record is not None:
                yield record
                waiting.extend(ask_for_more())
        for record in cohort.advance() if cohort.trials else []:
            yield record
            waiting.extend(ask_for_more())
        if not cohort.trials:
            waiting.extend(cohort.postponed)
            cohort.postponed.clear()


def _is_repeatable(trial: RunningTrial) -> bool:
    """True where what failed can be done again with the same result: not in the middle of a training whose adapter is
    part of the model, since its dropout has drawn numbers and its weights may be half updated."""
    return trial.slot is not None or trial.has_ended or (trial.step == 0 and not trial.is_half_stepped)


class Cohort:
    """Trials on one base. At most `capacity` of them train at a time; the others wait and keep their weights."""

    def __init__(
        self, resources: Resources, observe: Observe, say: Callable[[str], None], capacity: int | None
    ) -> None:
        self.resources = resources
        self.observe = observe
        self.say = say
        self.capacity = capacity  # None until it is measured
        self.trials: list[RunningTrial] = []
        self.vacancies = Vacancies()
        self.crowded: set[int] = set()  # numbers of trials that met a GPU on which others held memory
        self.postponed: list[TrialSpec] = []  # until the base is free: they, or one of `trials`, need it for themselves

    def admit(self, spec: TrialSpec) -> TrialRecord | None:
        """Prepares a trial and adds it to the cohort, or postpones it; returns its record where that failed."""
        if self.resources.ranks.broadcast_first(spec.number in self.resources.stopping):
            return spec.new_record(Status.STOPPED, "by hand, before it was loaded")
        record, trial = spec.new_record(Status.FAILED), None
        try:
            trial = self.begin(spec, record)
            if trial is None:
                self.postponed.append(spec)
                return None
            record.phase, record.step = "train", trial.step
            why = None if trial.slot is None else why_own_batches(trial.base, trial.data.train)
            if why is not None:
                record.notes.append(f"trained without other trials in its batches: {why}")
                self.capacity = 1
            elif not can_gain_from_others(
                trial.base.num_params, trial.mean_micro_batch_tokens, self.resources.device.type
            ):
                self.capacity = self.capacity or 1
            if asks_for_solo(spec) or self.may_share_gpu(trial):
                measure_missing([trial], self.resources)
            self.trials.append(trial)
            self.park([trial])
        except Exception as error:  # here and below any failure becomes a record, with its traceback in a file
            if is_again := self.may_fit_later(record, error):
                self.postponed.append(spec)
            else:
                record_failure(record, error, spec.folder)
            free_failed(error)
        else:
            self.observe(spec.number, trial.step, {"num_steps": trial.num_steps})
            return None
        if trial is not None:
            trial.free()
        if trial is None or trial.slot is None:  # the base may have changed; a trial in a slot has not changed it
            trial = None  # it holds the base, and two must never be in memory; so does the error, which is gone by now
            self.reload_base()
        return None if is_again else record

    def begin(self, spec: TrialSpec, record: TrialRecord) -> RunningTrial | None:
        """The trial at its first step, or at its checkpoint, with its base scored; None where it has to wait until the
        others have ended."""
        self.resources.tell("loading", [spec.number])
        base, data = load_trial(spec, record, self.resources)
        if self.trials and (self.trials[0].slot is None or why_alone_on(base.model, spec.config) is not None):
            return None
        for sentence in data.warnings:
            self.say(f"{sentence[0].upper()}{sentence[1:]}.")
        score_base(spec, base, data, record, self.resources)
        return self.continue_from_checkpoint(attach_trial(spec, base, data, record, self.resources, self.observe))

    def park(self, trials: Iterable[RunningTrial]) -> None:
        """Moves trials that wait off the GPU, so that each trial that fits by itself also fits beside them."""
        if self.resources.device.type == "cuda":
            for trial in trials:
                trial.park()

    def advance(self) -> list[TrialRecord]:
        """Trains until a trial ends or, where trials have ended, evaluates those; returns the completed records."""
        self.heed_stops(self.trials)
        if early := [trial for trial in self.trials if trial.early_end is not None]:
            return [self.record(trial) for trial in early]
        if self.capacity is None and len(self.trials) > 1:
            self.capacity = choose_capacity(self.trials, self.resources)
        active = choose_active(self.trials, self.capacity, self.vacancies.count(self.trials))
        self.park(trial for trial in self.trials if trial not in active)
        ended = [trial for trial in active if trial.has_ended]
        if not ended:
            measure_missing(active if len(active) > 1 else [], self.resources)
            finished = self.attempt(active, "train", self.fit)
        else:
            finished = self.attempt(ended, "evaluate", self.evaluate)
        return [self.record(trial) for trial in finished]

    def heed_stops(self, trials: Sequence[RunningTrial]) -> None:
        """Ends the trials that a person stopped meanwhile."""
        stop_trials(trials, self.resources.stopping, self.resources.ranks)

    def may_share_gpu(self, trial: RunningTrial) -> bool:
        """Whether the trial may train beside others on a GPU: it is measured before it waits, and leaves the GPU."""
        return trial.slot is not None and self.capacity != 1 and self.resources.device.type == "cuda"

    def continue_from_checkpoint(self, trial: RunningTrial) -> RunningTrial:
        """The trial at the step of its checkpoint, or at its start. A file that is no checkpoint is renamed."""
        try:
            continue_from_checkpoint(trial)
        except CheckpointError as error:
            path, spec = trial.checkpoint_path, trial.spec
            if self.resources.ranks.is_first:
                kept = set_aside(path).name
                self.say(f"{path} is no checkpoint ({error}), kept as {kept}; trial {spec.number} starts again")
            if trial.slot is None:
                detach_adapter(trial.model)
                self.resources.forget_base()
            return begin_trial(spec, trial.record, self.resources, self.observe)
        return trial

    def fit(self, trials: Sequence[RunningTrial]) -> None:
        """Trains until at least one of them has ended."""
        own = self.resources

        def score(cohort: AttachedCohort, due: Sequence[RunningTrial]) -> None:
            own.training = ()
            score_rung(cohort, due, own)
            own.training = trials

        own.training = trials
        try:
            fit_until_one_ends(trials, own.device, own.ranks, own.checkpoint_seconds, score, own.stopping)
        finally:
            own.training = ()  # else its adapters would stay in memory

    def evaluate(self, trials: Sequence[RunningTrial]) -> None:
        """Measures held-out losses and scores, and saves the adapters, unless a person stops all of the trials."""
        evaluate_trials(trials, self.resources)

    def attempt(
        self, trials: list[RunningTrial], phase: str, work: Callable[[Sequence[RunningTrial]], None]
    ) -> list[RunningTrial]:
        """Does `work` for all trials at once; returns those whose record is complete.

        A trial is complete when it was evaluated, or when `work` failed for it as the only trial. Where `work` fails
        for several trials, `capacity` becomes half of them and the next call of `advance` tries again.
        """
        phases: dict[str, Phase] = {}
        numbers = {trial.spec.number for trial in trials}
        for trial in trials:
            trial.record.phase = phase
            trial.record.cohort = sorted(numbers.union(trial.record.cohort))
        try:
            with measure_phase(phases, phase, self.resources.device):
                work(trials)
        except Exception as error:
            raise_what_ends_the_study(error, trials[0].spec.folder)
            if phase == "evaluate" and self.resources.ranks.size == 1 and numbers <= self.resources.stopping:
                free_failed(error)  # whatever lm-eval made of `StoppedByHand`
                self.heed_stops(trials)
                return trials
            if len(trials) > 1 and self.resources.ranks.size > 1:
                raise  # other devices wait: the worker ends, and its trials run again
            is_again = len(trials) == 1 and _is_repeatable(trials[0]) and self.may_fit_later(trials[0].record, error)
            if len(trials) == 1 and not is_again:
                record_failure(trials[0].record, error, trials[0].spec.folder)
                free_failed(error)
                return trials
            self.capacity = self.capacity if is_again else halve_capacity(trials, error, self.resources)
            text = "".join(traceback.format_exception(error))  # who keeps log records keeps no tensors of the error's
            what = f"trial {trials[0].spec.number}" if is_again else f"{len(trials)} trials at once"
            _log.error("%s failed\n%s", what, text)
            how = "once more" if is_again else f"going on with {self.capacity} at a time"
            self.say(f"{what}: {describe_error_with_kind(error)}; {how}")
            free_failed(error)
            for trial in [one for one in trials if one.is_half_stepped]:
                self.restart(trial)
            return []
        finally:
            for trial in trials:
                add_phase(trial.record.phases, phase, phases[phase])
        if phase == "train":
            return []
        self.heed_stops(trials)  # of those whose scoring others shared
        for trial in trials:
            if trial.early_end is None:
                trial.record.phase, trial.record.status = None, Status.FINISHED
        return trials

    def may_fit_later(self, record: TrialRecord, error: Exception) -> bool:
        """True, once a trial, where memory was short and other processes hold some of the GPU's: another study, or a
        neighbor's peak. The record notes it."""
        held = self.resources.foreign_bytes() if is_out_of_memory(error) and self.resources.ranks.size == 1 else 0
        if held == 0:
            return False
        record.notes.append(f"memory was short while other processes held {held / 1e9:.3g} GB of the GPU")
        is_first = record.number not in self.crowded
        self.crowded.add(record.number)
        return is_first

    def restart(self, trial: RunningTrial) -> None:
        """Puts a trial whose weights an error left half updated back to its checkpoint, or to its start."""
        trial.free()
        fresh = attach_trial(trial.spec, trial.base, trial.data, trial.record, self.resources, self.observe)
        fresh.optimizer_bytes = trial.optimizer_bytes
        self.trials[self.trials.index(trial)] = self.continue_from_checkpoint(fresh)

    def record(self, trial: RunningTrial) -> TrialRecord:
        """Completes the trial's record, and removes the trial from the cohort and its adapter from the base."""
        self.trials.remove(trial)
        self.vacancies.note(trial, self.trials)
        record = trial.complete_record()
        if record.solo is None:  # another seed of it may have trained with others
            record.solo = self.resources.solos.get(describe_layout(trial.spec.config))
        trial.checkpoint_path.unlink(missing_ok=True)
        trial.free()
        if trial.slot is None:
            detach_adapter(trial.model)
            if record.status is not Status.FINISHED or not is_base_kept(trial.spec.config.adapter):
                self.resources.forget_base()
        return record

    def reload_base(self) -> None:
        """Loads the base again, with the same values, for the trials of the cohort."""
        self.resources.forget_base()
        for trial in self.trials:
            del trial.base, trial.model  # all of them, before the first one loads it again
        for trial in self.trials:
            trial.base = self.resources.base_for(trial.spec.config)
            trial.model = trial.base.model
