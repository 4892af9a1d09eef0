"""Builds the optimizer that conf names."""

from collections.abc import Iterable
from typing import Any

from hydra.utils import get_class
from torch import nn
from torch.optim import Optimizer

from sweeplab.config import ConfigError, check_optimizer


def build_optimizer(parameters: Iterable[nn.Parameter], settings: dict[str, Any]) -> Optimizer:
    """The optimizer `settings["_target_"]` with its other entries as arguments. Raises `ConfigError`.

    Only classes of torch.optim and bitsandbytes.optim are imported, so that a record from elsewhere runs no code.
    """
    check_optimizer(settings)
    target = settings["_target_"]
    arguments = {name: value for name, value in settings.items() if name != "_target_"}
    try:
        kind = get_class(target)
        if not issubclass(kind, Optimizer):
            raise TypeError("it is no torch optimizer")
        return kind(list(parameters), **arguments)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ConfigError(f"optimizer {target} cannot be made with {arguments}: {error}") from error
