"""Steps of Adafactor that read nothing back, against torch's own on the CPU."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import Adafactor, _adafactor

from sweeplab.training import adafactor

SHAPES = ((64, 8), (8, 96), (5,))
SIZES = (1e-6, 1.0, 30.0)  # of the weights: below and above `eps2`, which bounds the step


def train(monkeypatch: pytest.MonkeyPatch, on_device: bool, dtype: torch.dtype, **arguments: Any) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    weights = [
        nn.Parameter(size * torch.randn(shape, generator=generator, dtype=dtype)) for shape in SHAPES for size in SIZES
    ]
    optimizer = Adafactor(weights, **arguments)
    with monkeypatch.context() as patch:
        if on_device:
            patch.setattr(_adafactor, "adafactor", adafactor._step_on_device)
        for step in range(6):
            for weight in weights:  # small and large gradients, so that some updates are clipped and some are not
                weight.grad = 10.0 ** (step - 4) * torch.randn(weight.shape, generator=generator, dtype=dtype)
            optimizer.step()
    return weights


@pytest.mark.parametrize(
    "arguments",
    [
        {"lr": 0.3},
        {"lr": 0.01, "weight_decay": 0.1, "maximize": True, "eps": (1e-8, 0.1)},
        {"lr": 0.3, "d": 1.5, "foreach": True, "beta2_decay": -0.5},
    ],
    ids=["plain", "all else", "foreach"],
)
@pytest.mark.parametrize(("dtype", "allowed"), [(torch.float64, 1e-13), (torch.float32, 2e-6)])
def test_steps_are_torch_s(
    arguments: dict[str, Any], dtype: torch.dtype, allowed: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = train(monkeypatch, False, dtype, **arguments)
    found = train(monkeypatch, True, dtype, **arguments)
    for mine, own in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, own, rtol=allowed, atol=allowed * float(own.detach().abs().max()))


def test_a_cpu_keeps_torch_s_own_function() -> None:
    own = _adafactor.adafactor
    with adafactor.sizes_on_device(Adafactor([nn.Parameter(torch.ones(2, 2))])):
        assert _adafactor.adafactor is own
