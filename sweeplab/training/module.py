"""The LightningModule of every cohort, and the loss of every batch."""

from collections.abc import Callable
from typing import Self

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer

from sweeplab.data.batches import Batch
from sweeplab.data.images import ImageBatch
from sweeplab.multilora.batches import CohortBatch
from sweeplab.multilora.dropout import Extent
from sweeplab.multilora.packed import Packed
from sweeplab.runtime.process_group import ONE_PROCESS, Ranks
from sweeplab.training.chunked_loss import chunked_losses, widened
from sweeplab.training.running_trial import RunningTrial, StepLoss, list_gradients
from sweeplab.training.sophia import SophiaG


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

    Only the positions that predict a target are in 32 bits.
    """
    if isinstance(batch, ImageBatch):
        counted_B = batch.labels_B >= 0  # an image without a class only fills the batch
        return widened(model(pixel_values=batch.pixels_BCHW).logits[counted_B]), batch.labels_B[counted_B]
    logits_BTV = model(input_ids=batch.ids_BT, **attention_inputs(batch)).logits
    logits_BTV = logits_BTV[:, -batch.ids_BT.shape[1] :]  # a trained prompt has logits of its own, before the text's
    targets_BT = batch.labels_BT[:, 1:]
    counted_BT = targets_BT >= 0
    logits_NV = logits_BTV[:, :-1][counted_BT]
    return widened(logits_NV), targets_BT[counted_BT]


def row_losses(model: nn.Module, batch: Batch | ImageBatch) -> Tensor | None:
    """`chunks.chunked_losses` of the batch, shape (B,); None where its logits are taken at once."""
    if isinstance(batch, ImageBatch):
        return None
    return chunked_losses(model, {"input_ids": batch.ids_BT, **attention_inputs(batch)}, batch.labels_BT)


def target_loss_sum(model: nn.Module, batch: Batch | ImageBatch) -> Tensor:
    """Sum of -log p over the batch's targets, in nats, a scalar in 32 bits or, for a model in 64, in 64."""
    losses_B = row_losses(model, batch)
    if losses_B is not None:
        return losses_B.sum()
    logits_NV, targets_N = target_logits(model, batch)
    return F.cross_entropy(logits_NV, targets_N, reduction="sum")


def window_shares(model: nn.Module, batch: CohortBatch) -> Tensor:
    """Each trial's share of the mean loss per target of its own accumulation window, shape (K,).

    A mean over micro-batches would weigh short and long ones alike, and wrongly at an epoch's smaller last window
    (transformers mended the same in issue 34191).
    """
    losses_B = row_losses(model, batch.rows)
    if losses_B is not None:
        sums_K = losses_B.view(len(batch.shares), -1).sum(dim=1)
    else:
        logits_NV, targets_N = target_logits(model, batch.rows)
        losses_N = F.cross_entropy(logits_NV, targets_N, reduction="none")
        parts = losses_N.split([share.num_targets for share in batch.shares])
        sums_K = torch.stack([part.sum() for part in parts])
    num_targets_K = sums_K.new_tensor([max(1, share.num_window_targets) for share in batch.shares])
    return sums_K / num_targets_K


class _CohortOptimizer(Optimizer):
    """The trials' optimizers and schedules as one, so that Lightning counts its steps and calls its hooks."""

    def __init__(self, trials: list[RunningTrial], zero_gradients: Callable[[], None]) -> None:
        super().__init__([weight for trial in trials for weight in trial.parameters], {})
        self.trials = trials
        self.zero_gradients = zero_gradients
        self.param_groups = [group for trial in trials for group in trial.optimizer.param_groups]

    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:  # type: ignore[override]
        """Runs the forward and backward, then the step of every trial that goes on."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for trial in self.trials:
            if not trial.has_ended:
                trial.take_step()
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.zero_gradients()


class FinetuneModule(LightningModule):
    """Finetunes the trials of a cohort, each on the mean loss of its own windows.

    Args:
        model: a causal language model or an image classifier, whose forward gives `.logits`; one trial's rows after
            another's.
        trials: in the order of their rows.
        accumulation: micro-batches per optimizer step.
        packed: the trials' adapters beside the base; None for a trial that has the model for itself.
        ranks: the processes that have the rows of every micro-batch among them.
    """

    def __init__(
        self,
        model: nn.Module,
        trials: list[RunningTrial],
        accumulation: int,
        packed: Packed | None = None,
        ranks: Ranks = ONE_PROCESS,
    ) -> None:
        super().__init__()
        self.model = model
        self.trials = trials
        self.accumulation = accumulation
        self.packed = packed
        self.ranks = ranks
        self.batch: CohortBatch | None = None  # the last micro-batch with targets
        self.shares: list[Tensor] = []  # of the window so far, (K,) for each micro-batch
        self.num_tokens: list[list[int]] = []  # as `shares`, padding not counted

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """The base stays as and where it is: Lightning would move it to its device, and to the CPU at the end."""
        return self

    def training_step(self, batch: CohortBatch, batch_index: int) -> Tensor:
        """The sum of all trials' shares, whose gradient is each trial's own; Lightning divides by `accumulation`."""
        if any(share.num_targets for share in batch.shares):  # a small window ends in empty micro-batches
            self.batch = batch
        if self.packed is not None:
            extents = [Extent(share.num_rows, share.num_columns) for share in batch.shares]
            self.packed.begin(extents, [trial.step * self.accumulation + len(self.shares) for trial in self.trials])
        shares_K = window_shares(self.model, batch)
        self.shares.append(shares_K.detach())
        self.num_tokens.append([share.num_tokens for share in batch.shares])
        return shares_K.sum() * self.accumulation

    def configure_optimizers(self) -> Optimizer:
        return _CohortOptimizer(self.trials, self.packed.zero_gradients if self.packed else self.model.zero_grad)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Every trial sees the loss of its window, and one whose loss is no number takes no further step.

        Losses and gradients are sums over all rows of the window, on whichever device they were; adapters' gradients
        never pass through autograd's accumulators, which torch's DistributedDataParallel would listen to.
        """
        losses_K = torch.stack(self.shares).sum(dim=0)
        num_tokens_K = map(sum, zip(*self.num_tokens, strict=True))
        self.ranks.sum_tensors([losses_K, *list_gradients(self.trials)])
        for trial, loss, num_tokens in zip(self.trials, losses_K.tolist(), num_tokens_K, strict=True):
            trial.take_step_loss(StepLoss(loss, num_tokens))
            if isinstance(trial.optimizer, SophiaG) and trial.optimizer.needs_estimate:
                self.estimate_curvature(trial.optimizer)
        self.shares.clear()
        self.num_tokens.clear()

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """By each trial's own norm."""
        for trial in self.trials:
            trial.clip_gradients()

    def estimate_curvature(self, optimizer: SophiaG) -> None:
        """Sophia's second backward, every few steps, on the window's last micro-batch (the paper, section 3.1, takes a
        part of the batch too). Its labels follow from (seed, step) alone, so no other random number moves."""
        assert self.batch is not None
        seed = (torch.initial_seed() * 1_000_003 + self.trials[0].step) % 2**63
        with torch.enable_grad(), torch.random.fork_rng():
            logits_NV, _ = target_logits(self.model, self.batch.rows)
            optimizer.estimate(logits_NV, torch.Generator(logits_NV.device).manual_seed(seed))
