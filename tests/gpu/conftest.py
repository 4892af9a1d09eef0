"""A GPU for the tests that need one: `pytest -m gpu`."""

from collections.abc import Iterator

import pytest
import torch

from experiments.benchmarks.gpu.cases import free_memory
from sweeplab.trial.resources import Workbench


@pytest.fixture(scope="session")
def device() -> torch.device:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    return torch.device("cuda")


@pytest.fixture
def gpu_bench(device: torch.device) -> Iterator[Workbench]:
    bench = Workbench(device, cohort_size=1)
    yield bench
    bench.forget_base()
    free_memory()
