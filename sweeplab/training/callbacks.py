"""What watches a training run: its loss curve and its held-out loss."""

import math
from collections.abc import Callable
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from sweeplab.records import HeldoutPoint, TrainPoint
from sweeplab.training.module import Batch, Diverged
from sweeplab.training.optimizers import evaluation_weights

Observe = Callable[[int, dict[str, float]], None]  # optimizer step, metrics by name


class LossCurve(Callback):
    """Collects the training loss in nats per target token, averaged between points, and reports each point."""

    def __init__(self, interval: int, observe: Observe) -> None:
        self.interval = interval
        self.observe = observe
        self.points: list[TrainPoint] = []
        self.shares: list[Tensor] = []  # one per micro-batch; kept as tensors, so that no step waits for the GPU
        self.lr = 0.0
        self.last_step = 0

    def on_before_optimizer_step(self, trainer: Trainer, module: LightningModule, optimizer: Optimizer) -> None:
        # the plain rate where any weight has it; at the batch's end the schedule has moved on
        self.lr = optimizer.param_groups[0]["lr"]

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Batch, batch_index: int
    ) -> None:
        self.shares.append(outputs["loss"].detach())
        step = trainer.global_step
        finished_step = step > self.last_step
        if finished_step and (step % self.interval == 0 or step == trainer.max_steps):
            num_steps = step - (self.points[-1].step if self.points else 0)
            # Lightning hands over what it divided by the accumulation: a window's shares add up to its mean
            loss = sum(share.item() for share in self.shares) / num_steps
            self.points.append(TrainPoint(step, loss, self.lr))
            self.shares.clear()
            self.observe(step, {"train_loss": loss, "lr": self.lr})
        self.last_step = step


class HeldoutCurve(Callback):
    """Measures the held-out loss every `interval` optimizer steps, except at the end, where evaluation does."""

    def __init__(self, interval: int, measure: Callable[[], float], observe: Observe) -> None:
        self.interval = interval
        self.measure = measure
        self.observe = observe
        self.points: list[HeldoutPoint] = []
        self.last_step = 0

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Batch, batch_index: int
    ) -> None:
        step = trainer.global_step
        if step > self.last_step and step % self.interval == 0 and step < trainer.max_steps:
            with evaluation_weights(module.optimizers(use_pl_optimizer=False)):
                loss = self.measure()
            if not math.isfinite(loss):
                raise Diverged(f"the held-out loss became {loss} after {step} steps")
            self.points.append(HeldoutPoint(step, loss))
            self.observe(step, {"heldout_loss": loss})
        self.last_step = step
