"""Builds the optimizer that conf names, with a rate and a decay for every weight."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from hydra.utils import get_class
from torch import nn
from torch.optim import Optimizer

from sweeplab.config.optimizer import check_optimizer
from sweeplab.config.trial import TrialConfig
from sweeplab.runtime.errors import ConfigError

NamedParameters = Iterable[tuple[str, nn.Parameter]]


def rate_factor(name: str, lr_pattern: dict[str, float], lr_ratio: float) -> float:
    """Factor on the rate of the parameter `name`: that of the first pattern found in it, times `lr_ratio` for a B."""
    matched = (factor for pattern, factor in lr_pattern.items() if re.search(pattern, name))
    return next(matched, 1.0) * (lr_ratio if "lora_B" in name else 1.0)


def find_peak_rate(config: TrialConfig, name: str) -> float:
    """The highest learning rate that the parameter `name` sees."""
    return float(config.optimizer["lr"]) * rate_factor(name, config.adapter.lr_pattern, config.adapter.lr_ratio)


def check_patterns(names: list[str], lr_pattern: dict[str, float]) -> None:
    """Raises `ConfigError` for a pattern that is no regular expression or is found in no name."""
    for pattern in lr_pattern:
        try:
            found = any(re.search(pattern, name) for name in names)
        except re.error as error:
            raise ConfigError(f"adapter.lr_pattern {pattern!r} is no regular expression: {error}") from error
        if not found:
            known = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
            raise ConfigError(f"adapter.lr_pattern {pattern!r} matches no trained parameter; there are {known}")


def parameter_groups(
    named_parameters: NamedParameters, settings: dict[str, Any], lr_pattern: dict[str, float], lr_ratio: float
) -> list[dict[str, Any]]:
    """Groups of equal rate and decay, in the parameters' order within each; the plain rate and decay come first.

    Biases, norms and DoRA's magnitudes, which have one dimension, do not decay; matrices do, A and B of LoRA too. The
    rate is `settings["lr"]` times the factor of the first of `lr_pattern` that `re.search` finds in the name, and B's
    times `lr_ratio` (LoRA+: Hayou et al. 2024, arXiv 2402.12354). Raises `ConfigError` as `check_patterns` does.
    """
    named = list(named_parameters)
    check_patterns([name for name, _ in named], lr_pattern)
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, weight in named:
        groups.setdefault((rate_factor(name, lr_pattern, lr_ratio), weight.ndim >= 2), []).append(weight)
    ordered = sorted(groups.items(), key=lambda one: (one[0][0] != 1, not one[0][1]))
    return [
        {"params": weights, "lr": settings["lr"] * factor} | ({} if decays else {"weight_decay": 0.0})
        for (factor, decays), weights in ordered
    ]


def build_optimizer(
    named_parameters: NamedParameters, settings: dict[str, Any], lr_pattern: dict[str, float], lr_ratio: float
) -> Optimizer:
    """The optimizer `settings["_target_"]` with its other entries as arguments. Raises `ConfigError`.

    Only classes of `OPTIMIZER_HOMES` are imported, so that a record from elsewhere runs no code.
    """
    check_optimizer(settings)
    target = settings["_target_"]
    arguments = {name: value for name, value in settings.items() if name != "_target_"}
    named = list(named_parameters)
    if target == "torch.optim.Muon":
        check_matrices(named)
    groups = parameter_groups(named, settings, lr_pattern, lr_ratio)
    try:
        kind = get_class(target)
        if not issubclass(kind, Optimizer):
            raise TypeError("it is no torch optimizer")
        return kind(groups, **arguments)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ConfigError(
            f"optimizer {target} cannot be made with {arguments}: {error}; mend that argument, or choose "
            "optimizer=adamw"
        ) from error


def check_made(settings: dict[str, Any]) -> None:
    """Makes an optimizer of torch's own for a weight that nobody trains, as a plan may: torch says what it refuses.

    Raises `ConfigError`. Other packages are imported by a training only.
    """
    if settings["_target_"].startswith("torch."):
        build_optimizer([("weight", nn.Parameter(torch.empty(2, 2)))], settings, {}, 1.0)


def check_matrices(named: list[tuple[str, nn.Parameter]]) -> None:
    """Muon makes each update orthogonal, which means something for a matrix only. Raises `ConfigError`."""
    others = [f"{name} {tuple(weight.shape)}" for name, weight in named if weight.ndim != 2]
    if others:
        raise ConfigError(
            f"optimizer=muon takes matrices only, and {len(others)} trained weights are none, such as {others[0]}; "
            "choose optimizer=adamw, or train matrices only: adapter.train_norms=false, adapter.bias=none, "
            "adapter.dora=false"
        )


@contextmanager
def evaluation_weights(optimizer: Any) -> Iterator[None]:
    """Within it the model has the weights that the optimizer means to be evaluated, and after it those that train.

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
