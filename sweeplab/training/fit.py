"""Trains a cohort with Lightning's Trainer; a callback measures losses and writes checkpoints between steps."""

import time
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything

from sweeplab.data.batches import order_by_length
from sweeplab.evaluation.halving import halve_until_it_fits
from sweeplab.evaluation.heldout import HeldoutLosses, measure_heldout_losses
from sweeplab.multilora.batches import iterate_cohort_batches
from sweeplab.runtime.process_group import ONE_PROCESS, Ranks
from sweeplab.training.attached_cohort import AttachedCohort, attach_cohort, gradient_checkpointing
from sweeplab.training.checkpoints import set_random_states, write_checkpoint
from sweeplab.training.module import FinetuneModule, sum_row_losses
from sweeplab.training.optimizers import evaluation_weights
from sweeplab.training.running_trial import RunningTrial
from sweeplab.training.stopping import stop_trials

_CHECKPOINT_SHARE: Final = 0.05  # most of the time that goes into writing checkpoints

# scores the given trials of the cohort at a rung; they must be in the order of their rows
ScoreRung = Callable[[AttachedCohort, Sequence[RunningTrial]], None]


def fit_until_one_ends(
    trials: Sequence[RunningTrial],
    device: torch.device,
    ranks: Ranks = ONE_PROCESS,
    checkpoint_seconds: float | None = None,
    score_rung: ScoreRung | None = None,
    stopping: Collection[int] = (),
) -> None:
    """Trains all trials until at least one has taken its last step or has ended early.

    A checkpoint of each trial is written about every `checkpoint_seconds`, or less often where writing would take more
    than a twentieth of the time; 0: after every step; None: never. `score_rung` is called with
    the trials whose `evaluation.rung_tasks` are due. `stopping`: numbers of trials that a person stops; they end after
    the step in which they are there.
    """
    config, base, model = trials[0].spec.config, trials[0].base, trials[0].model
    training = config.training
    with attach_cohort(trials, ranks) as cohort, gradient_checkpointing(base, training.gradient_checkpointing):
        places = [(trial.windows, trial.step) for trial in cohort.trials]
        batches = iterate_cohort_batches(places, base.pad_id, ranks, trials[0].column_multiple)
        score = score_rung if config.evaluation.rung_tasks else None
        written = checkpoint_seconds if ranks.is_first else None
        trainer = Trainer(
            accelerator="gpu" if device.type == "cuda" else "cpu",
            devices=1,
            max_steps=min(trial.num_steps - trial.step for trial in trials),
            max_epochs=-1,
            accumulate_grad_batches=training.accumulation,
            callbacks=[_Watch(cohort, device, ranks, written, score, stopping)],
            logger=False,
            plugins=[LightningEnvironment()],  # a job of Slurm's around the study has no part in it
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        model.train()
        if len(trials) == 1:
            prepare_random_state(trials[0])
        module = FinetuneModule(model, cohort.trials, training.accumulation, cohort.packed, ranks)
        try:
            trainer.fit(module, batches)
        finally:
            _break_cycles(trainer, module)


def _break_cycles(trainer: Trainer, module: LightningModule) -> None:
    """Makes everything that a Trainer held be freed with it, also after an error.

    Trainer, loops, strategy and module hold each other, and so the trials, the last batch and its loss, until
    Python's collector happens to run. Nothing on a GPU makes it run where memory is short.
    """
    for part in (trainer.strategy, trainer, module):
        vars(part).clear()


def measure_trial_losses(
    cohort: AttachedCohort, trial: RunningTrial, device: torch.device, ranks: Ranks = ONE_PROCESS
) -> HeldoutLosses:
    """The held-out losses of one trial of the cohort with its present weights, in the order of the data."""

    def measure(batch_size: int) -> HeldoutLosses:
        batches = trial.data.heldout_batches(trial.base.pad_id, batch_size, trial.base.growing_length)
        return measure_heldout_losses(trial.model, batches, sum_row_losses, device)

    with cohort.only([trial]):
        losses = halve_until_it_fits(trial.spec.config.evaluation.batch_size, measure, trial.record.notes, ranks)
    return losses.restored(order_by_length(trial.data.heldout))


def prepare_random_state(trial: RunningTrial) -> None:
    """Seeds torch's generators, or restores those of the checkpoint, for layers that draw from them, such as PEFT's
    dropout."""
    if trial.step == 0:
        seed_everything(trial.spec.seed, verbose=False)
    elif trial.random_states is not None:
        set_random_states(trial.random_states, trial.parameters[0].device)
        trial.random_states = None


class _Watch(Callback):
    """After each optimizer step: counts the trials' seconds, measures losses and scores that are due, writes
    checkpoints, and stops the Trainer when a trial has ended."""

    def __init__(
        self,
        cohort: AttachedCohort,
        device: torch.device,
        ranks: Ranks,
        checkpoint_seconds: float | None,
        score_rung: ScoreRung | None,
        stopping: Collection[int] = (),
    ) -> None:
        self.cohort = cohort
        self.device = device
        self.ranks = ranks
        self.checkpoint_seconds = checkpoint_seconds
        self.score_rung = score_rung
        self.stopping = stopping
        self.checkpointed_at = self.stepped_at = time.monotonic()
        self.checkpoint_cost = 0.0  # seconds that the last one took
        self.last_step = 0

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Measures what was due when an error interrupted the training."""
        self.measure()

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_index: int
    ) -> None:
        if trainer.global_step == self.last_step:
            return
        self.last_step = trainer.global_step
        now = time.monotonic()
        # one clock for all processes, so that a trial over its time ends at the same step in each
        passed = self.ranks.broadcast_first(now - self.stepped_at)
        for trial in self.cohort.trials:
            trial.add_seconds(passed)
        self.stepped_at = now
        if self.stopping or self.ranks.size > 1:
            stop_trials([one for one in self.cohort.trials if not one.has_ended], self.stopping, self.ranks)
        self.measure()
        if self.checkpoint_is_due():
            self.write_checkpoints()
        if any(trial.has_ended for trial in self.cohort.trials):
            trainer.should_stop = True

    def checkpoint_is_due(self) -> bool:
        """True `checkpoint_seconds` after the last, or later where writing takes more than its share of the time."""
        if not self.checkpoint_seconds:
            return self.checkpoint_seconds is not None  # 0: after every step
        pause = max(self.checkpoint_seconds, self.checkpoint_cost / _CHECKPOINT_SHARE)
        return time.monotonic() - self.checkpointed_at >= pause

    def write_checkpoints(self) -> None:
        began = time.monotonic()
        for trial in self.cohort.trials:
            if trial.early_end is None:
                write_checkpoint(trial)
        self.checkpointed_at = time.monotonic()
        self.checkpoint_cost = self.checkpointed_at - began

    def measure(self) -> None:
        """Measures the held-out losses that are due, then the scores of trials that were not pruned by them."""
        for trial in self.cohort.trials:
            if trial.heldout_is_due:
                with evaluation_weights(trial.optimizer):
                    losses = measure_trial_losses(self.cohort, trial, self.device, self.ranks)
                    # one mean for all processes, so that a trial ends at the same step in each
                    trial.add_heldout_losses(losses, self.ranks.broadcast_first(losses.mean))
        due = [trial for trial in self.cohort.trials if trial.scores_are_due]
        if self.score_rung is not None and due:
            self.score_rung(self.cohort, due)
