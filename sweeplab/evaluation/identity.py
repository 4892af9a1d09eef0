"""Whether what lm-eval scores is what was trained: the same base, with the same trial's adapter on."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn

_TOLERANCE: Final = 64  # times the precision's epsilon, of the largest logit

Choose = Callable[[Sequence[int]], AbstractContextManager[None]]


class OtherModelError(RuntimeError):
    """lm-eval was about to score something else than what was trained."""


class Probe(NamedTuple):
    """A text of T tokens, and the logits of its N targets over V words in the way of training."""

    ids_1T: Tensor
    counted_1S: Tensor  # which of the T - 1 predicted tokens are targets
    trained: list[Tensor]  # (N, V) by trial, from one forward for all of them
    base_NV: Tensor | None  # without any adapter; None where a method cannot be switched off
    moved: list[bool]  # by trial: its adapter is far enough from its start, where it changes nothing, to show


@torch.no_grad()
def make_probe(
    model: nn.Module,
    batch: Any,
    target_logits: Callable[[nn.Module, Any], tuple[Tensor, Tensor]],
    choose: Choose,
    moved: list[bool],
    without: AbstractContextManager[Any] | None,
) -> Probe:
    """The logits of `batch`, one row, for all trials at once and, within `without`, for none of them.

    `target_logits(model, batch)` is the training's own. The mode is restored.
    """
    was_training = model.training
    model.eval()
    num_trials = len(moved)
    rows = type(batch)(*(part.repeat(num_trials, 1) if isinstance(part, Tensor) else part for part in batch))
    with choose(range(num_trials)):
        trained = list(target_logits(model, rows)[0].chunk(num_trials))
    base_NV = None
    if without is not None:
        with without:
            base_NV = target_logits(model, batch)[0]
    model.train(was_training)
    return Probe(batch.ids_BT, batch.labels_BT[:, 1:] >= 0, trained, base_NV, moved)


@torch.no_grad()
def refuse_other_model(lm: Any, trial: int, probe: Probe) -> None:
    """Raises `OtherModelError` where the logits that lm-eval's `lm` sees are not those of the trial's training.

    Both are the same numbers up to rounding, |difference| <= 64 epsilon of the model's precision times the largest
    logit; and an adapter that has moved must be seen to do so.
    """
    seen_1TV = lm._model_call(probe.ids_1T)[:, -probe.ids_1T.shape[1] :]  # a trained prompt has logits of its own
    trained_NV = probe.trained[trial]
    seen_NV = seen_1TV[:, :-1][probe.counted_1S].to(trained_NV.dtype)
    allowed = _TOLERANCE * torch.finfo(seen_1TV.dtype).eps * trained_NV.abs().max().item()
    apart = (seen_NV - trained_NV).abs().max().item()
    if not apart <= allowed:
        raise OtherModelError(
            f"lm-eval sees another model than was trained: logits of a held-out text differ by {apart:.3g}, and "
            f"rounding explains {allowed:.3g}"
        )
    if probe.base_NV is not None and probe.moved[trial] and torch.equal(seen_NV, probe.base_NV.to(seen_NV.dtype)):
        raise OtherModelError("lm-eval sees the base without the adapter: the logits of a held-out text are the base's")
