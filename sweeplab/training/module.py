"""The LightningModule of every trial."""

from typing import Any, Protocol

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from sweeplab.config import ScheduleConfig
from sweeplab.training.images import ImageBatch, class_logits
from sweeplab.training.optimizers import build_optimizer
from sweeplab.training.schedules import rate_factor
from sweeplab.training.sophia import SophiaG


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


def target_logits(model: nn.Module, batch: Batch | ImageBatch) -> tuple[Tensor, Tensor]:
    """Logits of the batch's N targets over V words or classes, in 32 bits or, of a model in 64, in 64; and the targets.

    Only the positions that predict a target reach the cross-entropy, so that no 32-bit copy of all logits is made.
    """
    if isinstance(batch, ImageBatch):
        return class_logits(model, batch)
    logits_BTV = model(input_ids=batch.ids_BT, **attention_inputs(batch)).logits
    logits_BTV = logits_BTV[:, -batch.ids_BT.shape[1] :]  # a trained prompt has logits of its own, before the text's
    targets_BT = batch.labels_BT[:, 1:]
    counted_BT = targets_BT >= 0
    logits_NV = logits_BTV[:, :-1][counted_BT]
    return logits_NV.to(torch.promote_types(logits_NV.dtype, torch.float32)), targets_BT[counted_BT]


def target_loss_sum(model: nn.Module, batch: Batch | ImageBatch) -> Tensor:
    """Sum of -log p over the batch's target tokens, in nats, a scalar in 32 bits or, for a model in 64, in 64."""
    logits_NV, targets_N = target_logits(model, batch)
    return F.cross_entropy(logits_NV, targets_N, reduction="sum")


class FinetuneModule(LightningModule):
    """Finetunes what `model` leaves trainable on the mean loss per target token of each accumulation window.

    Args:
        model: a causal language model or an image classifier, whose forward gives `.logits`.
        optimizer: `_target_` and arguments, as in `conf/optimizer`.
        schedule: shape, warmup and end of the learning rate.
        num_steps: optimizer steps of the whole training.
        accumulation: micro-batches per optimizer step.
        lr_pattern: regular expression over parameter names -> factor on the rate.
        lr_ratio: rate of LoRA's B over the rate of A.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: dict[str, Any],
        schedule: ScheduleConfig,
        num_steps: int,
        accumulation: int,
        lr_pattern: dict[str, float],
        lr_ratio: float,
    ) -> None:
        super().__init__()
        self.model = model
        self.optimizer_settings = optimizer
        self.schedule = schedule
        self.num_steps = num_steps
        self.accumulation = accumulation
        self.lr_pattern = lr_pattern
        self.lr_ratio = lr_ratio
        self.batch: Batch | ImageBatch | None = None  # the micro-batch at hand
        self.num_tokens = 0  # trained on so far, padding not counted

    def training_step(self, batch: Batch | ImageBatch, batch_index: int) -> Tensor:
        """The micro-batch's share of its window's mean loss.

        Lightning divides every micro-batch's loss by `accumulation`, which would weigh short and long ones alike, and
        wrongly at an epoch's smaller last window; the factor undoes it (transformers mended the same in issue 34191).
        """
        self.batch = batch
        loss_sum = target_loss_sum(self.model, batch)
        if not torch.isfinite(loss_sum):
            raise Diverged(f"the training loss became {loss_sum.item()} after {self.global_step} steps")
        self.num_tokens += batch.num_tokens
        return loss_sum / batch.num_window_targets * self.accumulation

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        trainable = ((name, weight) for name, weight in self.model.named_parameters() if weight.requires_grad)
        optimizer = build_optimizer(trainable, self.optimizer_settings, self.lr_pattern, self.lr_ratio)
        scheduler = LambdaLR(optimizer, lambda step: rate_factor(self.schedule, step, self.num_steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_train_start(self) -> None:
        """A schedule-free optimizer trains on other weights than it evaluates."""
        optimizer: Any = self.optimizers(use_pl_optimizer=False)
        if hasattr(optimizer, "train"):
            optimizer.train()

    def on_train_end(self) -> None:
        """What is evaluated and saved is a schedule-free optimizer's average."""
        optimizer: Any = self.optimizers(use_pl_optimizer=False)
        if hasattr(optimizer, "eval"):
            optimizer.eval()

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Sophia's second backward, every few steps, on the window's last micro-batch (the paper, section 3.1, takes a
        part of the batch too). Its labels follow from (seed, step) alone, so no other random number moves."""
        if isinstance(optimizer, SophiaG) and optimizer.needs_estimate:
            assert self.batch is not None
            seed = (torch.initial_seed() * 1_000_003 + self.global_step) % 2**63
            with torch.enable_grad(), torch.random.fork_rng():
                logits_NV, _ = target_logits(self.model, self.batch)
                optimizer.estimate(logits_NV, torch.Generator(logits_NV.device).manual_seed(seed))
