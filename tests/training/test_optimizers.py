import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from sweeplab.config import ConfigError
from sweeplab.training.optimizers import build_optimizer

CONF_OPTIONS = ("adamw", "sgd", "adamw_8bit", "paged_adamw")


@pytest.fixture
def weights() -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(torch.randn(64, 80)), torch.nn.Parameter(torch.randn(5))]


@pytest.fixture
def module_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module that would be noticed if it were imported."""
    (tmp_path / "optimizer_elsewhere.py").write_text("import torch\nAdam = torch.optim.Adam\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "optimizer_elsewhere"
    sys.modules.pop("optimizer_elsewhere", None)


@pytest.mark.filterwarnings("ignore:Paged optimizers are not supported on CPU:UserWarning")
@pytest.mark.parametrize("option", CONF_OPTIONS)
def test_every_option_steps_towards_the_minimum(
    compose_trial: Any, weights: list[torch.nn.Parameter], option: str
) -> None:
    optimizer = build_optimizer(weights, compose_trial(f"optimizer={option}").optimizer)
    before = sum(float(weight.detach().square().sum()) for weight in weights)
    for _ in range(5):
        optimizer.zero_grad()
        sum((weight.square().sum() for weight in weights), torch.zeros(())).backward()
        optimizer.step()
    assert sum(float(weight.detach().square().sum()) for weight in weights) < before


def test_arguments_reach_the_optimizer(weights: list[torch.nn.Parameter]) -> None:
    settings = {"_target_": "torch.optim.AdamW", "lr": 0.25, "betas": [0.5, 0.75], "weight_decay": 0.125}
    group = build_optimizer(weights, settings).param_groups[0]
    assert (group["lr"], list(group["betas"]), group["weight_decay"]) == (0.25, [0.5, 0.75], 0.125)
    assert group["params"] == weights


def test_an_optimizer_from_elsewhere_is_refused_and_not_imported(
    weights: list[torch.nn.Parameter], module_elsewhere: str
) -> None:
    with pytest.raises(
        ConfigError, match=r"optimizer._target_ must name an optimizer of torch.optim or bitsandbytes.optim, got opt"
    ):
        build_optimizer(weights, {"_target_": f"{module_elsewhere}.Adam", "lr": 0.1})
    assert module_elsewhere not in sys.modules


@pytest.mark.parametrize(
    "target",
    [
        "torch.optim.NoSuch",
        "torch.optim.lr_scheduler.StepLR",
        "torch.optim.optimizer.torch.nn.Linear",
        "torch.optim.optimizer.torch.load",
        "torch.optim.optimizer.warnings.sys.exit",
    ],
)
def test_what_is_no_optimizer_is_refused(weights: list[torch.nn.Parameter], target: str) -> None:
    with pytest.raises(ConfigError, match=r"optimizer torch.optim\S+ cannot be made with {'lr': 0.1}"):
        build_optimizer(weights, {"_target_": target, "lr": 0.1})


def test_unknown_and_wrong_arguments_are_refused(weights: list[torch.nn.Parameter]) -> None:
    with pytest.raises(ConfigError, match=r"cannot be made with .*unexpected keyword argument 'speed'"):
        build_optimizer(weights, {"_target_": "torch.optim.AdamW", "lr": 0.1, "speed": 3})
    with pytest.raises(ConfigError, match=r"cannot be made with .*Invalid weight_decay value: -1"):
        build_optimizer(weights, {"_target_": "torch.optim.AdamW", "lr": 0.1, "weight_decay": -1})
