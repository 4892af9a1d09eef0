"""Trains a cohort with Lightning's Trainer, and watches it between its optimizer steps."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything

from sweeplab.evaluation.heldout import measure_heldout_loss
from sweeplab.multilora.batches import cohort_batches
from sweeplab.runtime.process_group import ONE_PROCESS, Ranks
from sweeplab.training.checkpoints import set_random_states, write_checkpoint
from sweeplab.training.module import FinetuneModule, target_loss_sum
from sweeplab.training.optimizers import evaluation_weights
from sweeplab.training.running_trial import RunningTrial
from sweeplab.training.together import Together, checkpointed, put_together

# scores some of the trials at a rung, in the order of their rows, and lets them train on
ScoreRung = Callable[[Together, Sequence[RunningTrial]], None]


def fit_until_one_ends(
    trials: Sequence[RunningTrial],
    device: torch.device,
    ranks: Ranks = ONE_PROCESS,
    checkpoint_seconds: float | None = None,
    score_rung: ScoreRung | None = None,
) -> None:
    """Trains all of them until at least one has taken its last step or has ended early.

    A checkpoint of each is written about every `checkpoint_seconds`, never where that is None. `score_rung` is called
    where `evaluation.rung_tasks` are due.
    """
    config, base, model = trials[0].spec.config, trials[0].base, trials[0].model
    training = config.training
    with put_together(trials, ranks) as together, checkpointed(base, training.gradient_checkpointing):
        batches = cohort_batches([(trial.windows, trial.step) for trial in together.trials], base.pad_id, ranks)
        score = score_rung if config.evaluation.rung_tasks else None
        trainer = Trainer(
            accelerator="gpu" if device.type == "cuda" else "cpu",
            devices=1,
            max_steps=min(trial.num_steps - trial.step for trial in trials),
            max_epochs=-1,
            accumulate_grad_batches=training.accumulation,
            callbacks=[_Watch(together, device, ranks, checkpoint_seconds if ranks.is_first else None, score)],
            logger=False,
            plugins=[LightningEnvironment()],  # a job of Slurm's around the study has no part in it
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        model.train()
        if len(trials) == 1:
            set_random_state(trials[0])
        trainer.fit(FinetuneModule(model, together.trials, training.accumulation, together.packed, ranks), batches)


def measure_trial_loss(together: Together, trial: RunningTrial, device: torch.device) -> float:
    """The held-out loss of one of the trials, with the weights that stand, in nats per target."""
    batches = trial.data.heldout_batches(trial.base.pad_id, trial.spec.config.evaluation.batch_size)
    with together.only([trial]):
        return measure_heldout_loss(trial.model, batches, target_loss_sum, device)


def set_random_state(trial: RunningTrial) -> None:
    """For what a method or a base draws by itself, such as its dropout."""
    if trial.step == 0:
        seed_everything(trial.spec.seed, verbose=False)
    elif trial.random_states is not None:
        set_random_states(trial.random_states, trial.parameters[0].device)
        trial.random_states = None


class _Watch(Callback):
    """Tells trials the time, measures losses and scores where they are due, keeps checkpoints, stops at an end."""

    def __init__(
        self,
        together: Together,
        device: torch.device,
        ranks: Ranks,
        checkpoint_seconds: float | None,
        score_rung: ScoreRung | None,
    ) -> None:
        self.together = together
        self.device = device
        self.ranks = ranks
        self.checkpoint_seconds = checkpoint_seconds
        self.score_rung = score_rung
        self.checkpointed_at = self.stepped_at = time.monotonic()
        self.last_step = 0

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """What was due when an error stopped the training, which goes on now."""
        self.measure()

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_index: int
    ) -> None:
        if trainer.global_step == self.last_step:
            return
        self.last_step = trainer.global_step
        now = time.monotonic()
        # all processes end a trial that takes too long at the same step
        passed = self.ranks.broadcast_first(now - self.stepped_at)
        for trial in self.together.trials:
            trial.take_seconds(passed)
        self.stepped_at = now
        self.measure()
        if self.checkpoint_seconds is not None and time.monotonic() - self.checkpointed_at >= self.checkpoint_seconds:
            for trial in self.together.trials:
                if trial.early_end is None:
                    write_checkpoint(trial)
            self.checkpointed_at = time.monotonic()
        if any(trial.has_ended for trial in self.together.trials):
            trainer.should_stop = True

    def measure(self) -> None:
        """Held-out losses, and scores of those that go on."""
        for trial in self.together.trials:
            if trial.heldout_is_due:
                with evaluation_weights(trial.optimizer):
                    loss = measure_trial_loss(self.together, trial, self.device)
                trial.take_heldout_loss(loss)
        due = [trial for trial in self.together.trials if trial.scores_are_due]
        if self.score_rung is not None and due:
            self.score_rung(self.together, due)
