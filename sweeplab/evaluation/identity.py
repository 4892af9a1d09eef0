"""Checks that lm-eval scores the model that was trained: the same base with the adapter of the right trial."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn

from sweeplab.evaluation.heldout import in_evaluation_mode

_TOLERANCE: Final = 64  # allowed difference of logits, in units of epsilon times the largest logit

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
    """The logits of `batch`, a single row, with each trial's adapter and, within `without`, with no adapter.

    `target_logits(model, batch)` is the function that training uses. The mode is restored.
    """
    num_trials = len(moved)
    rows = type(batch)(*(part.repeat(num_trials, 1) if isinstance(part, Tensor) else part for part in batch))
    base_NV = None
    with in_evaluation_mode(model):
        with select_trials(range(num_trials)):
            trained = list(target_logits(model, rows)[0].chunk(num_trials))
        if without is not None:
            with without:
                base_NV = target_logits(model, batch)[0]
    return Probe(batch.ids_BT, batch.labels_BT[:, 1:] >= 0, trained, base_NV, moved)


@torch.no_grad()
def refuse_other_model(lm: Any, trial: int, probe: Probe) -> None:
    """Raises `OtherModelError` where the logits of lm-eval's `lm` are not those of the trial's training.

    They must be equal up to rounding, |difference| <= 64 * epsilon of the model's precision * the largest logit. Where
    the adapter has changed enough, they must also differ from the logits of the base.
    """
    seen_1TV = lm._model_call(probe.ids_1T)[:, -probe.ids_1T.shape[1] :]  # without the positions of prompt tuning
    trained_NV = probe.trained[trial]
    seen_NV = seen_1TV[:, :-1][probe.counted_1S].to(trained_NV.dtype)
    allowed = _TOLERANCE * torch.finfo(seen_1TV.dtype).eps * trained_NV.abs().max().item()
    difference = (seen_NV - trained_NV).abs().max().item()
    if not difference <= allowed:
        raise OtherModelError(
            f"lm-eval sees another model than the trained one: logits of a held-out text differ by {difference:.3g}, "
            f"but rounding explains only {allowed:.3g}"
        )
    if probe.base_NV is not None and probe.moved[trial] and torch.equal(seen_NV, probe.base_NV.to(seen_NV.dtype)):
        raise OtherModelError("lm-eval sees the base without the adapter: the logits of a held-out text are the base's")
