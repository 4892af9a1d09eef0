"""Lightning's Trainer for a cohort."""

from collections.abc import Callable, Iterable

import torch
from lightning.pytorch import Trainer

from sweeplab.training.callbacks import Watch
from sweeplab.training.module import CohortBatch, FinetuneModule
from sweeplab.training.trial_state import Member


def fit_until_one_ends(
    module: FinetuneModule,
    batches: Iterable[CohortBatch],
    heldout_loss: Callable[[Member], float],
    score: Callable[[list[Member]], None] | None,
    keep: Callable[[Member], None],
    keep_seconds: float | None,
    device: torch.device,
) -> None:
    """Trains all members of `module` until at least one of them has taken its last step or has ended early.

    `score` is called with those that are at a rung and go on, where tasks are scored there; `keep` for each of them
    about every `keep_seconds`, never where that is None.
    """
    trainer = Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=1,
        max_steps=min(member.num_steps - member.step for member in module.members),
        max_epochs=-1,
        accumulate_grad_batches=module.accumulation,
        callbacks=[Watch(module.members, heldout_loss, score, keep, keep_seconds, module.ranks)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(module, batches)
