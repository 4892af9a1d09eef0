"""Checks that lm-eval scores the model that was trained: the same base with the adapter of the right trial."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn

from sweeplab.evaluation.heldout import in_evaluation_mode
from sweeplab.runtime.rounding import compute_distance

# allowed difference of logits, in units of epsilon times their size: two roundings of sums in wider numbers, or sums in
# these numbers in another order
_TOLERANCE: Final = {torch.bfloat16: 2, torch.float16: 2, torch.float32: 64, torch.float64: 64}
_NEARER: Final = 2  # times nearer to another trial's logits than to one's own: no order of sums does that

_MOST_TARGETS: Final = 16  # whose logits are compared: a large vocabulary's fill memory

Select = Callable[[Sequence[int]], AbstractContextManager[None]]
Tell = Callable[[int, str], None]  # of the trial that is scored, how far that is


class OtherModelError(RuntimeError):
    """lm-eval would score another model than the trained one."""


class Probe(NamedTuple):
    """A text of T tokens, and the logits at its N targets over V words as training computes them."""

    ids_1T: Tensor
    counted_1S: Tensor  # which of the T - 1 predicted tokens are targets
    trained: list[Tensor]  # (N, V) for each trial, each from a forward of its own: as lm-eval computes them, bit by bit
    base_NV: Tensor | None  # without any adapter; None where the adapter cannot be switched off
    moved: list[bool]  # for each trial: its adapter has changed enough to be seen in the logits


@torch.no_grad()
def make_probe(
    model: nn.Module,
    batch: Any,
    target_logits: Callable[[nn.Module, Any], tuple[Tensor, Tensor]],
    select_trials: Select,
    moved: list[bool],
    without: AbstractContextManager[Any] | None,
) -> Probe:
    """The logits at the first targets of `batch`, one row, with each trial's adapter, and within `without` with none.

    `target_logits(model, batch)` is the function that training uses. The mode is restored. Raises `OtherModelError`
    where a forward of all trials at once, as in training, gives a trial another one's logits.
    """
    num_trials = len(moved)
    later_BT = (batch.labels_BT[:, 1:] >= 0).cumsum(dim=1) > _MOST_TARGETS
    # -100 is no target
    labels_BT = torch.cat([batch.labels_BT[:, :1], batch.labels_BT[:, 1:].masked_fill(later_BT, -100)], dim=1)
    batch = batch._replace(labels_BT=labels_BT, places_N=None)
    rows = type(batch)(*(part.repeat(num_trials, 1) if isinstance(part, Tensor) else part for part in batch))
    trained, base_NV = [], None
    with in_evaluation_mode(model):
        for trial in range(num_trials):
            with select_trials([trial]):
                trained.append(target_logits(model, batch)[0])
        if num_trials > 1:
            with select_trials(range(num_trials)):
                _refuse_exchanged(target_logits(model, rows)[0].chunk(num_trials), trained)
        if without is not None:
            with without:
                base_NV = target_logits(model, batch)[0]
    return Probe(batch.ids_BT, batch.labels_BT[:, 1:] >= 0, trained, base_NV, moved)


def _refuse_exchanged(together: Sequence[Tensor], trained: Sequence[Tensor]) -> None:
    """Raises `OtherModelError` where a trial's logits from a forward of all are those of another trial by itself.

    Sums in another order move logits, in 16 bits by more than a small change of the weights; so each trial's must be
    nearest to its own, and not within a bound.
    """
    for trial, logits_NV in enumerate(together):
        distances = [compute_distance(logits_NV, alone_NV) for alone_NV in trained]
        nearest = min(range(len(distances)), key=distances.__getitem__)
        if distances[trial] > _NEARER * distances[nearest]:
            raise OtherModelError(
                f"a forward of all trials gives trial {trial} of the cohort the logits of trial {nearest}: "
                f"{distances[nearest]:.3g} from these, {distances[trial]:.3g} from its own"
            )


@torch.no_grad()
def refuse_other_model(lm: Any, trial: int, probe: Probe) -> None:
    """Raises `OtherModelError` where the logits of lm-eval's `lm` are not those of the trial's training.

    Both are of one row with the trial's adapter alone, so the same products are summed in the same order, whatever the
    precision; only the head may see fewer positions. On average they may differ by that last rounding, and not by a
    share of the largest logit, which in bfloat16 is more than one adapter and another differ by. Where the adapter
    has changed enough, they must also differ from the logits of the base.
    """
    trained_NV = probe.trained[trial]
    logits_NV = lm.compute_logits(probe.ids_1T, probe.counted_1S[0].nonzero()[:, 0])
    seen_NV = logits_NV.to(trained_NV.dtype)
    rounding = _TOLERANCE[logits_NV.dtype] * torch.finfo(logits_NV.dtype).eps
    allowed = rounding * trained_NV.double().abs().mean().item()
    difference = compute_distance(seen_NV, trained_NV)
    if not difference <= allowed:
        raise OtherModelError(
            f"lm-eval sees another model than the trained one: logits of a held-out text differ by {difference:.3g} "
            f"on average, but rounding explains only {allowed:.3g}"
        )
    if probe.base_NV is not None and probe.moved[trial] and torch.equal(seen_NV, probe.base_NV.to(seen_NV.dtype)):
        raise OtherModelError("lm-eval sees the base without the adapter: the logits of a held-out text are the base's")
