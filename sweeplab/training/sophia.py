"""The optimizer Sophia-G: clip(momentum / diagonal of the curvature). Liu et al. 2023, arXiv 2305.14342, alg. 2, 3."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


def _estimate_curvature(loss: Tensor, num_tokens: int, weights: list[Tensor]) -> list[Tensor]:
    """The Gauss-Newton-Bartlett estimate N * g * g for each weight; g is the gradient of `loss`, N are its tokens.

    Its expectation over the drawn labels is the diagonal of the Gauss-Newton matrix of the mean loss over the N tokens
    (the paper, section 2.3). `.grad` does not change. A weight that the loss does not depend on gets 0.
    """
    gradients = torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True)
    return [num_tokens * gradient.square() for gradient in gradients]


class SophiaG(Optimizer):
    """For each entry of a weight w with gradient g:

    m <- b1 m + (1 - b1) g; every `interval` steps h <- b2 h + (1 - b2) estimate;
    w <- w - lr decay w, then w <- w - lr clip(m / max(gamma h, eps), -1, 1).

    Where `needs_estimate` is true, `estimate` must be called before `step`; otherwise `step` raises, since without a
    curvature every step would have the largest size. Two states per weight, m and h, in its dtype. Difference from the
    authors' code: the estimate uses the batch and the weights of the present step, as in the paper, not of the one
    before.

    Args:
        params: weights or groups of them.
        lr: largest change of an entry in one step.
        betas: decay of the momentum and of the curvature; 0.96 and 0.99 in the paper, section 3.1.
        gamma: with a larger one fewer entries are clipped; 0.05 in the paper, section 3.1.
        eps: smallest denominator.
        weight_decay: decoupled, as in AdamW.
        interval: steps between estimates; k of the paper, 10 there.

    Raises:
        ValueError: for an argument out of range.
        RuntimeError: for a step without its estimate.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        betas: tuple[float, float] = (0.96, 0.99),
        gamma: float = 0.05,
        eps: float = 1e-12,
        weight_decay: float = 0.0,
        interval: int = 10,
    ) -> None:
        for name, value in {"lr": lr, "gamma": gamma, "eps": eps}.items():
            if not value > 0:
                raise ValueError(f"{name} must be above 0, got {value}")
        if not all(0 <= beta < 1 for beta in betas) or weight_decay < 0 or interval < 1:
            raise ValueError(f"{betas=} must be from 0 to below 1, {weight_decay=} from 0, {interval=} from 1")
        defaults = {"lr": lr, "betas": betas, "gamma": gamma, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults)
        self.interval = interval
        self.num_steps = 0
        self.num_estimates = 0

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"counts": [self.num_steps, self.num_estimates]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.num_steps, self.num_estimates = state_dict["counts"]

    @property
    def needs_estimate(self) -> bool:
        """True before the steps 1, k + 1, 2k + 1, until `estimate` was called."""
        return self.num_estimates * self.interval <= self.num_steps

    def weights(self) -> list[Tensor]:
        return [weight for group in self.param_groups for weight in group["params"]]

    @torch.no_grad()
    def estimate(self, loss: Tensor, num_tokens: int) -> None:
        """Updates h with the curvature estimated from the mean cross-entropy of so many tokens in nats, with labels
        drawn from the model's own distribution (`draw_labels`)."""
        with torch.enable_grad():
            estimates = iter(_estimate_curvature(loss, num_tokens, self.weights()))
        for group in self.param_groups:
            for weight in group["params"]:
                state = self.state[weight]
                beta = group["betas"][1]
                h = state.setdefault("curvature", torch.zeros_like(weight))
                h.mul_(beta).add_(next(estimates), alpha=1 - beta)
        self.num_estimates += 1

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if self.needs_estimate:
            raise RuntimeError(f"Sophia's step {self.num_steps + 1} needs a curvature estimate before it")
        for group in self.param_groups:
            beta = group["betas"][0]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                m = state.setdefault("momentum", torch.zeros_like(weight))
                m.mul_(beta).add_(weight.grad, alpha=1 - beta)
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                bounded = m / (group["gamma"] * state["curvature"]).clamp_(min=group["eps"])
                weight.sub_(bounded.clamp_(-1, 1), alpha=group["lr"])
        self.num_steps += 1
        return loss
