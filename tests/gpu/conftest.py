"""A GPU for the tests that need one: `pytest -m gpu`."""

from collections.abc import Iterator

import pytest
import torch

from experiments.benchmarks.gpu.cases import free_memory
from sweeplab.trial.resources import Resources


@pytest.fixture(scope="session")
def device() -> torch.device:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    return torch.device("cuda")


@pytest.fixture
def gpu_resources(device: torch.device) -> Iterator[Resources]:
    resources = Resources(device, cohort_size=1)
    yield resources
    resources.forget_base()
    free_memory()
