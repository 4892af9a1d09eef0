"""The LightningModule that trains a cohort, and the losses of its batches.

B rows, T positions, N targets, V words of the vocabulary (or classes), K trials.
"""

from collections.abc import Callable, Sequence
from typing import Self

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer

from sweeplab.data.batches import Batch
from sweeplab.data.images import ImageBatch
from sweeplab.data.tokens import IGNORED
from sweeplab.logits.states import read_states, widen_logits
from sweeplab.models.behavior import one_sequence_per_row
from sweeplab.multilora.batches import CohortBatch
from sweeplab.multilora.dropout import Extent
from sweeplab.multilora.packed import PackedAdapters
from sweeplab.runtime.process_group import ONE_PROCESS, Ranks
from sweeplab.training.chunked_loss import compute_mean_losses, draw_labels, find_targets, stack_numbers
from sweeplab.training.running_trial import RunningTrial, StepLoss, list_gradients
from sweeplab.training.sophia import SophiaG


def build_attention_inputs(batch: Batch) -> dict[str, Tensor]:
    """The attention mask and the positions for the forward, of packed rows; other rows need none.

    Padding stands on the right, where causal attention never looks (`behavior.is_causal`), so it needs no mask. Without
    one, attention takes CUDA's fastest kernel, and the host need not wait to see whether anything is padded.

    Packed rows get a boolean mask (B, 1, T, T), true where both tokens belong to one example and the key is not later
    than the query. transformers passes a mask of four dimensions on to attention unchanged (`masking_utils`, 5.23).
    Padding attends to padding.
    """
    if batch.positions_BT is None:
        return {}
    same_B1TT = batch.mask_BT[:, None, :, None] == batch.mask_BT[:, None, None, :]
    return {"attention_mask": same_B1TT.tril(), "position_ids": batch.positions_BT}


def _build_inputs(batch: Batch) -> dict[str, Tensor]:
    return {"input_ids": batch.ids_BT, **build_attention_inputs(batch)}


def compute_target_logits(model: nn.Module, batch: Batch | ImageBatch) -> tuple[Tensor, Tensor]:
    """Logits at the positions that predict a target, (N, V), and the targets, (N,).

    They are in float32 (float64 for a model in float64). Adapters in slots need as many targets of every trial.
    """
    if isinstance(batch, ImageBatch):
        counted_B = batch.labels_B >= 0  # an image without a class only fills up the batch
        return widen_logits(model(pixel_values=batch.pixels_BCHW).logits[counted_B]), batch.labels_B[counted_B]
    targets, readout = find_targets(batch.labels_BT, batch.places_N), read_states(model, _build_inputs(batch))
    if readout is not None:
        logits_NV = readout.compute_logits(readout.states_BTH[targets.rows_N, targets.columns_N])
        return widen_logits(logits_NV), targets.ids_N
    logits_BTV = model(**_build_inputs(batch)).logits
    logits_BTV = logits_BTV[:, -batch.ids_BT.shape[1] :]  # prompt tuning puts positions of its own before the text
    return widen_logits(logits_BTV[targets.rows_N, targets.columns_N]), targets.ids_N


def _compute_mean_losses(
    model: nn.Module,
    batch: Batch | ImageBatch,
    divisors: Sequence[float],
    counts: Sequence[int] | None = None,
) -> Tensor:
    """`compute_mean_losses` of the batch, shape (K,), whatever the model is."""
    if isinstance(batch, Batch):
        losses_K = compute_mean_losses(model, _build_inputs(batch), batch.labels_BT, divisors, batch.places_N, counts)
        if losses_K is not None:
            return losses_K
        logits_NV, targets_N = compute_target_logits(model, batch)
        losses_N = F.cross_entropy(logits_NV, targets_N, reduction="none")
        targets = find_targets(batch.labels_BT, batch.places_N)
        sums_K = targets.sum_groups(losses_N, batch.labels_BT.shape, len(divisors))
    else:  # an image without a class only fills up the batch; its loss is 0
        logits_BV = widen_logits(model(pixel_values=batch.pixels_BCHW).logits)
        losses_N = F.cross_entropy(logits_BV, batch.labels_B, ignore_index=IGNORED, reduction="none")
        sums_K = losses_N.view(len(divisors), -1).sum(dim=1)
    return sums_K / stack_numbers(losses_N, divisors)


@one_sequence_per_row()
def sum_target_losses(model: nn.Module, batch: Batch | ImageBatch) -> Tensor:
    """Sum of -log p over the targets of the batch in nats: a scalar in float32 (float64 for a model in float64)."""
    return _compute_mean_losses(model, batch, [1.0])[0]


@torch.no_grad()
@one_sequence_per_row()
def sum_row_losses(model: nn.Module, batch: Batch | ImageBatch) -> tuple[Tensor, Tensor]:
    """Sum of -log p over the targets of each row in nats, and the number of these targets: shapes (B,)."""
    labels_BT = batch.labels_B[:, None] if isinstance(batch, ImageBatch) else batch.labels_BT[:, 1:]
    return _compute_mean_losses(model, batch, [1.0] * len(labels_BT)), (labels_BT >= 0).sum(dim=1)


@one_sequence_per_row()
def compute_window_shares(model: nn.Module, batch: CohortBatch) -> Tensor:
    """What this micro-batch adds to each trial's mean loss per target token over its accumulation window, shape (K,).

    The mean over micro-batches would give a target of a short micro-batch more weight than one of a long micro-batch
    (transformers fixed the same error in issue 34191).
    """
    num_targets = [float(max(1, share.num_window_targets)) for share in batch.shares]
    return _compute_mean_losses(model, batch.rows, num_targets, [share.num_targets for share in batch.shares])


@one_sequence_per_row()
def _compute_sampled_loss(model: nn.Module, rows: Batch | ImageBatch, generator: torch.Generator) -> tuple[Tensor, int]:
    """Mean cross-entropy in nats with labels that the model draws in the place of the targets, and their number."""
    if isinstance(rows, Batch):
        places_N = find_targets(rows.labels_BT, rows.places_N).places_N
        count = len(places_N)
        losses_K = compute_mean_losses(
            model, _build_inputs(rows), rows.labels_BT, [float(count)], places_N, generator=generator
        )
        if losses_K is not None:
            return losses_K[0], count
    logits_NV, _ = compute_target_logits(model, rows)
    return F.cross_entropy(logits_NV, draw_labels(logits_NV, generator)), len(logits_NV)


def estimate_curvature(model: nn.Module, rows: Batch | ImageBatch, optimizer: SophiaG, step: int) -> None:
    """Runs Sophia's second backward, needed every few steps, on the last micro-batch of the window.

    The paper (section 3.1) uses a part of the batch, too. The labels are drawn with a seed made of the trial's seed and
    step, so no other random number changes.
    """
    seed = (torch.initial_seed() * 1_000_003 + step) % 2**63
    device = optimizer.weights()[0].device
    generator = torch.Generator(device).manual_seed(seed)
    with torch.enable_grad(), torch.random.fork_rng([device] if device.type == "cuda" else []):
        optimizer.estimate(*_compute_sampled_loss(model, rows, generator))


class _CohortOptimizer(Optimizer):
    """The optimizers and schedules of all trials as one optimizer, so that Lightning counts steps and calls hooks."""

    def __init__(self, trials: list[RunningTrial], zero_gradients: Callable[[], None]) -> None:
        super().__init__([weight for trial in trials for weight in trial.parameters], {})
        self.trials = trials
        self.zero_gradients = zero_gradients
        self.param_groups = [group for trial in trials for group in trial.optimizer.param_groups]

    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:  # type: ignore[override]
        """Runs forward and backward in `closure`, then the step of every trial that has not ended."""
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
        model: a causal language model or an image classifier whose forward returns `.logits`.
        trials: in the order of their rows in a batch.
        accumulation: micro-batches per optimizer step.
        packed: the adapters on the base; None for an exclusive trial, whose adapter is part of `model`.
        ranks: the processes that share the rows of every micro-batch.
    """

    def __init__(
        self,
        model: nn.Module,
        trials: list[RunningTrial],
        accumulation: int,
        packed: PackedAdapters | None = None,
        ranks: Ranks = ONE_PROCESS,
    ) -> None:
        super().__init__()
        self.model = model
        self.trials = trials
        self.accumulation = accumulation
        self.packed = packed
        self.ranks = ranks
        self.batch: CohortBatch | None = None  # the last micro-batch with targets
        self.shares: list[Tensor] = []  # `compute_window_shares` of the window's micro-batches so far, (K,) each
        self.num_tokens: list[list[int]] = []  # as `shares`; padding not counted

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Does nothing: Lightning would move the base to its device, and to the CPU at the end."""
        return self

    def training_step(self, batch: CohortBatch, batch_index: int) -> Tensor:
        """Sum of the trials' shares; its gradient in a trial's weights is that of the trial's own loss.

        It is multiplied by `accumulation`, because Lightning divides by it.
        """
        if any(share.num_targets for share in batch.shares):  # a small window ends in empty micro-batches
            self.batch = batch
        if self.packed is not None:
            extents = [Extent(share.num_rows, share.num_columns) for share in batch.shares]
            self.packed.begin_micro_batch(
                extents, [trial.step * self.accumulation + len(self.shares) for trial in self.trials]
            )
        shares_K = compute_window_shares(self.model, batch)
        self.shares.append(shares_K.detach())
        self.num_tokens.append([share.num_tokens for share in batch.shares])
        return shares_K.sum() * self.accumulation

    def configure_optimizers(self) -> Optimizer:
        return _CohortOptimizer(self.trials, self.packed.zero_gradients if self.packed else self.model.zero_grad)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Gives every trial the loss of its window; a trial whose loss is not finite takes no further step.

        Losses and gradients are summed over all devices here and not by torch's DistributedDataParallel: it hooks into
        autograd's gradient accumulators, and adapter gradients do not pass through those.
        """
        losses_K = torch.stack(self.shares).sum(dim=0)
        num_tokens_K = map(sum, zip(*self.num_tokens, strict=True))
        self.ranks.sum_tensors([losses_K, *list_gradients(self.trials)])
        for trial, loss, num_tokens in zip(self.trials, losses_K.tolist(), num_tokens_K, strict=True):
            trial.set_step_loss(StepLoss(loss, num_tokens))
            if isinstance(trial.optimizer, SophiaG) and trial.optimizer.needs_estimate:
                assert self.batch is not None
                estimate_curvature(self.model, self.batch.rows, trial.optimizer, self.trials[0].step)
        self.shares.clear()
        self.num_tokens.clear()

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clips each trial by its own gradient norm."""
        for trial in self.trials:
            trial.clip_gradients()
