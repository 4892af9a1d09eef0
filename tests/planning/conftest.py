"""Configurations, sizes and devices to plan for, without a study around them."""

from collections.abc import Callable

import pytest
import torch

from sweeplab.adapters.counting import Skeleton, build_skeleton
from sweeplab.config.trial import TrialConfig
from sweeplab.planning.lengths import DataExtent
from sweeplab.planning.phases import MemoryForecast, forecast_memory
from sweeplab.runtime.device import PlannedDevice
from tests.trials import Compose

CUDA = PlannedDevice("cuda", False, torch.bfloat16)
CPU = PlannedDevice("cpu", True, torch.float32)

Sizes = Callable[[TrialConfig], Skeleton]
Memory = Callable[..., MemoryForecast]


def bound(length: int) -> DataExtent:
    """Examples of `length` tokens, every one a target."""
    return DataExtent(None, length, length, length - 1, None, measured=False)


@pytest.fixture(scope="session")
def sizes_of() -> Sizes:
    """`build_skeleton` of a configuration's model, built once."""

    built: dict[str, Skeleton] = {}

    def of(config: TrialConfig) -> Skeleton:
        name = config.model.name
        if name not in built:
            built[name] = build_skeleton(config.model)
        return built[name]

    return of


@pytest.fixture(scope="session")
def memory_of(compose_trial: Compose, sizes_of: Sizes) -> Memory:
    """Memory of the configuration that the overrides make, with examples of `length` tokens."""

    def of(*overrides: str, length: int = 512, device: PlannedDevice = CUDA) -> MemoryForecast:
        config = compose_trial("training.micro_batch_size=1", *overrides)
        return forecast_memory(config, sizes_of(config), bound(length), device)

    return of
