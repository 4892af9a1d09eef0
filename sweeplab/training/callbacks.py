"""What watches a cohort between its optimizer steps."""

import time
from collections.abc import Callable
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from sweeplab.runtime.process_group import Ranks
from sweeplab.training.trial_state import Member


class Watch(Callback):
    """Tells members the time, measures losses and scores where they are due, keeps checkpoints, stops at an end."""

    def __init__(
        self,
        members: list[Member],
        heldout_loss: Callable[[Member], float],
        score: Callable[[list[Member]], None] | None,
        keep: Callable[[Member], None],
        keep_seconds: float | None,
        ranks: Ranks,
    ) -> None:
        self.members = members
        self.heldout_loss = heldout_loss
        self.score = score
        self.keep = keep
        self.keep_seconds = keep_seconds
        self.ranks = ranks
        self.kept_at = self.stepped_at = time.monotonic()
        self.last_step = 0

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """What was due when an error stopped the training, which goes on here."""
        self.measure()

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_index: int
    ) -> None:
        if trainer.global_step == self.last_step:
            return
        self.last_step = trainer.global_step
        now = time.monotonic()
        passed = self.ranks.broadcast_first(
            now - self.stepped_at
        )  # all end a trial that takes too long at the same step
        for member in self.members:
            member.take_seconds(passed)
        self.stepped_at = now
        self.measure()
        if self.keep_seconds is not None and time.monotonic() - self.kept_at >= self.keep_seconds:
            for member in self.members:
                if member.early is None:
                    self.keep(member)
            self.kept_at = time.monotonic()
        if any(member.has_ended for member in self.members):
            trainer.should_stop = True

    def measure(self) -> None:
        """Held-out losses, and scores of those that go on."""
        for member in self.members:
            if member.heldout_is_due:
                member.take_heldout_loss(self.heldout_loss(member))
        due = [member for member in self.members if member.scores_are_due]
        if self.score is not None and due:
            self.score(due)
