"""Builds a trial's optimizer from the configuration, with a learning rate and a weight decay for each parameter."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from hydra.utils import get_class
from torch import nn
from torch.optim import Optimizer

from sweeplab.config.optimizer import OptimizerConfig
from sweeplab.config.trial import TrialConfig
from sweeplab.runtime.errors import ConfigError

_NamedParameters = Iterable[tuple[str, nn.Parameter]]


def _find_rate_factor(name: str, lr_pattern: dict[str, float], lr_ratio: float) -> float:
    """Factor on the learning rate of the parameter `name`: that of the first pattern which `re.search` finds in it, or
    1; for a matrix B of LoRA times `lr_ratio`."""
    matched = (factor for pattern, factor in lr_pattern.items() if re.search(pattern, name))
    return next(matched, 1.0) * (lr_ratio if "lora_B" in name else 1.0)


def find_peak_rate(config: TrialConfig, name: str) -> float:
    """The highest learning rate of the parameter `name` over the whole schedule."""
    return config.optimizer.lr * _find_rate_factor(name, config.adapter.lr_pattern, config.adapter.factor_of_b())


def _check_patterns(names: list[str], lr_pattern: dict[str, float]) -> None:
    """Raises `ConfigError` for a pattern that matches no name."""
    for pattern in lr_pattern:
        if not any(re.search(pattern, name) for name in names):
            known = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
            raise ConfigError(f"adapter.lr_pattern {pattern!r} matches no trained parameter; there are {known}")


def _group_parameters(
    named_parameters: _NamedParameters, settings: OptimizerConfig, lr_pattern: dict[str, float], lr_ratio: float
) -> list[dict[str, Any]]:
    """Parameter groups of equal learning rate and weight decay; the group without a factor comes first.

    Parameters of one dimension (biases, norms, DoRA's magnitudes) get no weight decay, matrices do, A and B of LoRA
    too. The rate is `settings.lr` times `_find_rate_factor`; `lr_ratio` is that of LoRA+ (Hayou et al. 2024,
    arXiv 2402.12354). Raises `ConfigError` as `_check_patterns` does.
    """
    named = list(named_parameters)
    _check_patterns([name for name, _ in named], lr_pattern)
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, weight in named:
        groups.setdefault((_find_rate_factor(name, lr_pattern, lr_ratio), weight.ndim >= 2), []).append(weight)
    ordered = sorted(groups.items(), key=lambda one: (one[0][0] != 1, not one[0][1]))
    return [
        {"params": weights, "lr": settings.lr * factor} | ({} if decays else {"weight_decay": 0.0})
        for (factor, decays), weights in ordered
    ]


def build_optimizer(
    named_parameters: _NamedParameters, settings: OptimizerConfig, lr_pattern: dict[str, float], lr_ratio: float
) -> Optimizer:
    """The optimizer class `settings.target`, built with its arguments. Raises `ConfigError` where it refuses them.

    The configuration allows only classes from a fixed list of packages, so a record from elsewhere can run no code.
    """
    target, arguments = settings.target, settings.arguments()
    named = list(named_parameters)
    if target == "torch.optim.Muon":
        _check_matrices(named)
    groups = _group_parameters(named, settings, lr_pattern, lr_ratio)
    try:
        kind = get_class(target)
        if not issubclass(kind, Optimizer):
            raise TypeError("it is not a torch optimizer")
        return kind(groups, **arguments)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ConfigError(
            f"optimizer {target} cannot be built with {arguments}: {error}; correct that argument, or choose "
            "optimizer=adamw"
        ) from error


def check_optimizer(settings: OptimizerConfig) -> None:
    """Builds an optimizer of torch for a dummy weight, so that a plan, too, sees arguments that torch refuses.

    Optimizers of other packages are not checked, since importing those takes long. Raises `ConfigError`.
    """
    if settings.is_of_torch():
        build_optimizer([("weight", nn.Parameter(torch.empty(2, 2)))], settings, {}, 1.0)


def _check_matrices(named: list[tuple[str, nn.Parameter]]) -> None:
    """Muon orthogonalizes each update, which is defined for matrices only. Raises `ConfigError` for other weights."""
    others = [f"{name} {tuple(weight.shape)}" for name, weight in named if weight.ndim != 2]
    if others:
        raise ConfigError(
            f"optimizer=muon takes matrices only, but {len(others)} trained weights are not, such as {others[0]}; "
            "choose optimizer=adamw, or train matrices only: adapter.train_norms=false, adapter.bias=none, "
            "adapter.dora=false"
        )


@contextmanager
def evaluation_weights(optimizer: Any) -> Iterator[None]:
    """Within it the model has the weights that should be evaluated; afterwards it has those that are trained again.

    They differ for a schedule-free optimizer, which evaluates an average (Defazio et al. 2024, arXiv 2405.15682).
    """
    if not hasattr(optimizer, "eval"):
        yield
        return
    optimizer.eval()
    try:
        yield
    finally:
        optimizer.train()
