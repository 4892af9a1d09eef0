"""The LightningModule of every cohort, and the loss of every batch."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, Self

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer

from sweeplab.runtime.process_group import ONE_PROCESS, Ranks
from sweeplab.training.chunked_loss import chunked_losses, widened
from sweeplab.training.images import ImageBatch, class_logits
from sweeplab.training.sophia import SophiaG
from sweeplab.training.trial_state import CohortOptimizer, Member, Window, gradients


class Batch(Protocol):
    """What training reads of a micro-batch of B rows, T tokens of the longest; `data.batches.Batch` is one."""

    @property
    def ids_BT(self) -> Tensor: ...
    @property
    def mask_BT(self) -> Tensor: ...
    @property
    def labels_BT(self) -> Tensor: ...
    @property
    def positions_BT(self) -> Tensor | None: ...


class Share(Protocol):
    """What training reads of one trial's part of a batch; `data.cohorts.Share` is one."""

    @property
    def num_tokens(self) -> int: ...
    @property
    def num_targets(self) -> int: ...
    @property
    def num_window_targets(self) -> int: ...


class CohortBatch(Protocol):
    """A batch with one trial's rows after another's; `data.cohorts.CohortBatch` is one."""

    @property
    def rows(self) -> Batch | ImageBatch: ...
    @property
    def shares(self) -> Sequence[Share]: ...


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
        return class_logits(model, batch)
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


class FinetuneModule(LightningModule):
    """Finetunes the trials of a cohort, each on the mean loss of its own windows.

    Args:
        model: a causal language model or an image classifier, whose forward gives `.logits`; one trial's rows after
            another's.
        members: the trials, in the order of their rows.
        accumulation: micro-batches per optimizer step.
        zero_gradients: sets the gradients of all members to zero.
        begin: called with every micro-batch before its forward, and with its place in its window.
        ranks: the processes that have the rows of every micro-batch among them.
    """

    def __init__(
        self,
        model: nn.Module,
        members: list[Member],
        accumulation: int,
        zero_gradients: Callable[[], None],
        begin: Callable[[Any, int], None],
        ranks: Ranks = ONE_PROCESS,
    ) -> None:
        super().__init__()
        self.model = model
        self.members = members
        self.accumulation = accumulation
        self.zero_gradients = zero_gradients
        self.begin = begin
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
        self.begin(batch, len(self.shares))
        shares_K = window_shares(self.model, batch)
        self.shares.append(shares_K.detach())
        self.num_tokens.append([share.num_tokens for share in batch.shares])
        return shares_K.sum() * self.accumulation

    def configure_optimizers(self) -> Optimizer:
        return CohortOptimizer(self.members, self.zero_gradients)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Every member sees the loss of its window, and one whose loss is no number takes no further step.

        Losses and gradients are sums over all rows of the window, on whichever device they were; adapters' gradients
        never pass through autograd's accumulators, which torch's DistributedDataParallel would listen to.
        """
        losses_K = torch.stack(self.shares).sum(dim=0)
        num_tokens_K = map(sum, zip(*self.num_tokens, strict=True))
        self.ranks.sum_tensors([losses_K, *gradients(self.members)])
        for member, loss, num_tokens in zip(self.members, losses_K.tolist(), num_tokens_K, strict=True):
            member.take_window(Window(loss, num_tokens))
            if isinstance(member.optimizer, SophiaG) and member.optimizer.needs_estimate:
                self.estimate_curvature(member.optimizer)
        self.shares.clear()
        self.num_tokens.clear()

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """By each member's own norm."""
        for member in self.members:
            member.clip()

    def estimate_curvature(self, optimizer: SophiaG) -> None:
        """Sophia's second backward, every few steps, on the window's last micro-batch (the paper, section 3.1, takes a
        part of the batch too). Its labels follow from (seed, step) alone, so no other random number moves."""
        assert self.batch is not None
        seed = (torch.initial_seed() * 1_000_003 + self.members[0].step) % 2**63
        with torch.enable_grad(), torch.random.fork_rng():
            logits_NV, _ = target_logits(self.model, self.batch.rows)
            optimizer.estimate(logits_NV, torch.Generator(logits_NV.device).manual_seed(seed))
