"""A cohort from specifications to records: who trains now, who waits, who is through, and what a failure costs.

A trial that fails leaves a record that says how and where; it never takes the cohort with it.
"""

import logging
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from sweeplab.adapters.attach import detach_adapter, is_base_kept
from sweeplab.config.trial_spec import TrialSpec
from sweeplab.models.layers import has_randomness
from sweeplab.records.record import Phase, Status, TrialRecord
from sweeplab.records.store import StoreError, set_aside, write_text
from sweeplab.runtime.errors import ConfigError, describe_error, describe_error_with_kind
from sweeplab.runtime.paths import abbreviate_home_in_text
from sweeplab.training.checkpoints import CheckpointError
from sweeplab.trial.lifecycle import Observe, Run, begin, go_on_from_checkpoint, train
from sweeplab.trial.measurement import add_phase, measured
from sweeplab.trial.profile import fastest_size, solo
from sweeplab.trial.resources import Resources
from sweeplab.trial.scoring import evaluate, score_base, score_rung

log = logging.getLogger(__name__)


def fail(record: TrialRecord, error: Exception, folder: Path) -> TrialRecord:
    """The record of a trial that an error ended. Raises `ConfigError` and `StoreError`: a mistake of the user's, and a
    disk that takes nothing more, stop the study."""
    if isinstance(error, ConfigError | StoreError):
        raise error
    if isinstance(error, torch.OutOfMemoryError):
        record.status, record.reason = Status.OUT_OF_MEMORY, describe_error(error)
        return record
    record.status, record.reason = Status.FAILED, abbreviate_home_in_text(describe_error_with_kind(error))
    write_text(folder / "traceback.txt", "".join(traceback.format_exception(error)))
    log.error("trial %d failed", record.number, exc_info=error)
    return record


class Cohort:
    """Trials on one base, as many at a time as memory allows; the others wait with what they have learned."""

    def __init__(
        self, resources: Resources, observe: Observe, say: Callable[[str], None], capacity: int | None
    ) -> None:
        self.resources = resources
        self.observe = observe
        self.say = say
        self.capacity = capacity  # None until it is measured
        self.runs: list[Run] = []

    def admit(self, spec: TrialSpec) -> TrialRecord | None:
        """Takes a trial in; its record where it failed before it could begin."""
        record, run = spec.new_record(Status.FAILED), None
        try:
            score_base(spec, self.resources, record)
            run = self.begun(spec, record)
            record.phase, record.step = "train", run.member.step
            if run.slot is not None:
                record.solo = solo(run, self.resources)
            self.runs.append(run)
        except Exception as error:  # an unknown failure becomes data here and below: its traceback is kept
            if run is None or run.slot is None:  # it may have changed the base; one in a slot has left it already
                self.renew_base()
            return fail(record, error, spec.folder)
        self.observe(spec.number, run.member.step, {"num_steps": run.member.num_steps})
        return None

    def renew_base(self) -> None:
        """The trials that are here go on beside a fresh base, of the same bits."""
        self.resources.forget_base()
        for run in self.runs:
            run.base = self.resources.base_for(run.spec.config)
            run.model = run.base.model

    def begun(self, spec: TrialSpec, record: TrialRecord) -> Run:
        """The trial from its checkpoint, or from its start; what only looks like a checkpoint is set aside."""
        run = begin(spec, self.resources, record, self.observe)
        try:
            go_on_from_checkpoint(run)
        except CheckpointError as error:
            path = run.checkpoint_path
            if self.resources.ranks.is_first:
                kept = set_aside(path).name
                self.say(f"{path} is no checkpoint ({error}), kept as {kept}; trial {spec.number} starts anew")
            if run.slot is None:
                detach_adapter(run.model)
                self.resources.forget_base()
            run = begin(spec, self.resources, record, self.observe)
        return run

    def go_on(self) -> list[TrialRecord]:
        """Trains until a trial ends, or evaluates those that have ended; the records of those that are through."""
        if has_randomness(self.runs[0].base.model):  # a trial's draws must not depend on its company
            self.capacity = 1
        elif self.capacity is None and len(self.runs) > 1:
            self.capacity = fastest_size(self.runs, self.resources)
        active = at_once(self.runs, self.capacity)
        early = [run for run in active if run.member.early is not None]
        ended = [run for run in active if run.member.has_ended]
        if not ended:
            through = self.attempt(active, "train", lambda runs, resources: train(runs, resources, score_rung))
        else:
            through = early or self.attempt(ended, "evaluate", evaluate)
        return [self.dismiss(run) for run in through]

    def attempt(self, runs: list[Run], phase: str, work: Callable[[Sequence[Run], Resources], None]) -> list[Run]:
        """Does `work` for all of them at once, and next time for half as many where that fails. Those that are through:
        evaluated, or failed alone."""
        phases: dict[str, Phase] = {}
        numbers = {run.spec.number for run in runs}
        for run in runs:
            run.record.phase = phase
            run.record.cohort = sorted(numbers.union(run.record.cohort))
        try:
            with measured(phases, phase, self.resources.device):
                work(runs, self.resources)
        except (ConfigError, StoreError):
            raise
        except Exception as error:
            if len(runs) > 1 and (self.resources.ranks.size > 1 or any(run.member.is_torn for run in runs)):
                raise  # other devices wait, or a step was half taken: the worker ends, its trials are tried again
            if len(runs) == 1:
                fail(runs[0].record, error, runs[0].spec.folder)
                return runs
            self.capacity = len(runs) // 2
            log.error("%d trials at once failed", len(runs), exc_info=error)
            why = describe_error_with_kind(error)
            self.say(f"{len(runs)} trials at once: {why}; going on with {self.capacity} at a time")
            return []
        finally:
            for run in runs:
                add_phase(run.record.phases, phase, phases[phase])
        if phase == "train":
            return []
        for run in runs:
            if run.member.early is None:
                run.record.phase, run.record.status = None, Status.FINISHED
        return runs

    def dismiss(self, run: Run) -> TrialRecord:
        """The trial's record; the base is free of it."""
        self.runs.remove(run)
        record, member = run.record, run.member
        record.step, record.num_train_tokens = member.step, member.num_tokens
        record.losses, record.heldout_losses = member.losses, member.heldout_losses
        record.rung_scores = member.rung_scores
        if len(record.cohort) == 1 and "train" in record.phases:
            record.tokens_per_second = member.num_tokens / record.phases["train"].seconds
        run.checkpoint_path.unlink(missing_ok=True)
        if member.early is not None:
            record.status, record.reason = member.early
        if run.slot is None:
            detach_adapter(run.model)
            if record.status is not Status.FINISHED or not is_base_kept(run.spec.config.adapter):
                self.resources.forget_base()
        return record


def at_once(runs: Sequence[Run], capacity: int | None) -> list[Run]:
    """Which of the trials train now, at most `capacity` of them; None: all.

    Those at the first one's place in the same data come first: their batches are as wide as each one's own, so that
    nothing is padded for another's sake and a trial's sums are rounded as they are alone. Others join only where
    fewer than half of the places would be taken.
    """

    def is_alike(run: Run) -> bool:
        return (run.spec.seed, run.member.step) == (runs[0].spec.seed, runs[0].member.step)

    num_places = len(runs) if capacity is None else capacity
    alike = [run for run in runs if is_alike(run)][:num_places]
    others = [run for run in runs if not is_alike(run)] if 2 * len(alike) < num_places else []
    return [*alike, *others][:num_places]


def run_cohort(
    specs: Sequence[TrialSpec],
    resources: Resources,
    observe: Observe,
    say: Callable[[str], None],
    newcomers: Callable[[], Sequence[TrialSpec]],
) -> Iterator[TrialRecord]:
    """Records in the order in which trials end; `newcomers` is asked after each for trials that take its place.

    `observe` hears of losses, `say` of what a user should know at once.
    Raises `ConfigError` and `StoreError` only: they stop the study.
    """
    cohort, waiting = Cohort(resources, observe, say, resources.cohort_size), deque(specs)
    while waiting or cohort.runs:
        while waiting:
            record = cohort.admit(waiting.popleft())
            if record is not None:
                yield record
                waiting.extend(newcomers())
        for record in cohort.go_on() if cohort.runs else []:
            yield record
            waiting.extend(newcomers())
