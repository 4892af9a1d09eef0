"""The LightningModule of every trial."""

from typing import Any, Protocol

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from sweeplab.config import ScheduleConfig
from sweeplab.training.optimizers import build_optimizer
from sweeplab.training.schedules import rate_factor


class Batch(Protocol):
    """What training reads of a micro-batch of B rows, T tokens of the longest; `data.batches.Batch` is one."""

    @property
    def ids_BT(self) -> Tensor: ...
    @property
    def mask_BT(self) -> Tensor: ...
    @property
    def labels_BT(self) -> Tensor: ...
    @property
    def num_tokens(self) -> int: ...
    @property
    def num_window_targets(self) -> int: ...
    @property
    def positions_BT(self) -> Tensor | None: ...


class Diverged(Exception):
    """The training loss is no longer a number; the message says at which step."""


def attention_inputs(batch: Batch) -> dict[str, Tensor]:
    """The forward's mask and, for packed rows, positions.

    Packed: a boolean mask (B, 1, T, T), true where both tokens are of one sequence and the key is not the later one.
    transformers hands a mask of four dimensions to attention as it is (`masking_utils`, 5.23); padding sees padding.
    """
    if batch.positions_BT is None:
        return {"attention_mask": batch.mask_BT}
    same_B1TT = batch.mask_BT[:, None, :, None] == batch.mask_BT[:, None, None, :]
    return {"attention_mask": same_B1TT.tril(), "position_ids": batch.positions_BT}


def target_loss_sum(model: nn.Module, batch: Batch) -> Tensor:
    """Sum of -log p over the batch's target tokens, in nats, a scalar in 32 bits or, for a model in 64, in 64.

    Only the positions that predict a target reach the cross-entropy, so that no 32-bit copy of all logits is made.
    """
    logits_BTV = model(input_ids=batch.ids_BT, **attention_inputs(batch)).logits
    logits_BTV = logits_BTV[:, -batch.ids_BT.shape[1] :]  # a trained prompt has logits of its own, before the text's
    targets_BT = batch.labels_BT[:, 1:]
    counted_BT = targets_BT >= 0
    logits_NV = logits_BTV[:, :-1][counted_BT]
    precise_NV = logits_NV.to(torch.promote_types(logits_NV.dtype, torch.float32))
    return F.cross_entropy(precise_NV, targets_BT[counted_BT], reduction="sum")


class FinetuneModule(LightningModule):
    """Finetunes what `model` leaves trainable on the mean loss per target token of each accumulation window.

    Args:
        model: a causal language model whose forward gives `.logits`.
        optimizer: `_target_` and arguments, as in `conf/optimizer`.
        schedule: shape, warmup and end of the learning rate.
        num_steps: optimizer steps of the whole training.
        accumulation: micro-batches per optimizer step.
    """

    def __init__(
        self, model: nn.Module, optimizer: dict[str, Any], schedule: ScheduleConfig, num_steps: int, accumulation: int
    ) -> None:
        super().__init__()
        self.model = model
        self.optimizer_settings = optimizer
        self.schedule = schedule
        self.num_steps = num_steps
        self.accumulation = accumulation
        self.num_tokens = 0  # trained on so far, padding not counted

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """The micro-batch's share of its window's mean loss.

        Lightning divides every micro-batch's loss by `accumulation`, which would weigh short and long ones alike, and
        wrongly at an epoch's smaller last window; the factor undoes it (transformers mended the same in issue 34191).
        """
        loss_sum = target_loss_sum(self.model, batch)
        if not torch.isfinite(loss_sum):
            raise Diverged(f"the training loss became {loss_sum.item()} after {self.global_step} steps")
        self.num_tokens += batch.num_tokens
        return loss_sum / batch.num_window_targets * self.accumulation

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        trainable = (weight for weight in self.model.parameters() if weight.requires_grad)
        optimizer = build_optimizer(trainable, self.optimizer_settings)
        scheduler = LambdaLR(optimizer, lambda step: rate_factor(self.schedule, step, self.num_steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
