"""Checks that lm-eval scores the model that was trained: the same base with the adapter of the right trial."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn

_TOLERANCE: Final = 64  # allowed difference of logits, in units of epsilon times the largest logit

_MOST_TARGETS: Final = 16  # whose logits are compared: a large vocabulary's fill memory

Select = Callable[[Sequence[int]], AbstractContextManager[None]]


class OtherModelError(RuntimeError):
    """lm-eval would score another model than the trained one."""


class Probe(NamedTuple):
    """A text of T tokens, and the logits at its N targets over V words as training computes them."""

    ids_1T: Tensor
    counted_1S: Tensor  # which of the T - 1 predicted tokens are targets
    trained: list[Tensor]  # (N, V) for each trial, from one forward of all
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

    `target_logits(model, batch)` is the function that training uses. The mode is restored.
    """
    was_training = model.training
    model.eval()
    num_trials = len(moved)
    later_BT = (batch.labels_BT[:, 1:] >= 0).cumsum(dim=1) > _MOST_TARGETS
    # -100 is no target
    labels_BT = torch.cat([batch.labels_BT[:, :1], batch.labels_BT[:, 1:].masked_fill(later_BT, -100)], dim=1)
    batch = batch._replace(labels_BT=labels_BT)
    rows = type(batch)(*(part.repeat(num_trials, 1) if isinstance(part, Tensor) else part for part in batch))
    with select_trials(range(num_trials)):
        trained = list(target_logits(model, rows)[0].chunk(num_trials))
    base_NV = None
    if without is not None:
        with without:
            base_NV = target_logits(model, batch)[0]
    model.train(was_training)
    return Probe(batch.ids_BT, batch.labels_BT[:, 1:] >= 0, trained, base_NV, moved)


@torch.no_grad()
def refuse_other_model(lm: Any, trial: int, probe: Probe) -> None:
    """Raises `OtherModelError` where the logits of lm-eval's `lm` are not those of the trial's training.

    They must be equal up to rounding, |difference| <= 64 * epsilon of the model's precision * the largest logit. Where
    the adapter has changed enough, they must also differ from the logits of the base.
    """
    trained_NV = probe.trained[trial]
    logits_NV = lm.compute_logits(probe.ids_1T, probe.counted_1S[0].nonzero()[:, 0])
    seen_NV = logits_NV.to(trained_NV.dtype)
    allowed = _TOLERANCE * torch.finfo(logits_NV.dtype).eps * trained_NV.abs().max().item()
    difference = (seen_NV - trained_NV).abs().max().item()
    if not difference <= allowed:
        raise OtherModelError(
            f"lm-eval sees another model than the trained one: logits of a held-out text differ by {difference:.3g}, "
            f"but rounding explains only {allowed:.3g}"
        )
    if probe.base_NV is not None and probe.moved[trial] and torch.equal(seen_NV, probe.base_NV.to(seen_NV.dtype)):
        raise OtherModelError("lm-eval sees the base without the adapter: the logits of a held-out text are the base's")
