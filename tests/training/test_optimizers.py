"""Which optimizers are made, with which groups of weights, and what an option of conf is."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sweeplab.config.conf import CONF
from sweeplab.runtime.errors import ConfigError
from sweeplab.training.optimizers import _group_parameters, build_optimizer, check_optimizer, evaluation_weights
from sweeplab.training.sophia import SophiaG
from tests.configs import optimizer_of

CONF_OPTIONS = sorted(path.stem for path in (CONF / "optimizer").glob("*.yaml"))
A, B = "layers.0.q_proj.lora_A.default.weight", "layers.0.q_proj.lora_B.default.weight"
DEEP_B = "layers.1.q_proj.lora_B.default.weight"
NORM, BIAS = "layers.0.norm.weight", "layers.0.q_proj.bias"


@pytest.fixture
def weights() -> dict[str, nn.Parameter]:
    return {"matrix": nn.Parameter(torch.randn(64, 80)), "bias": nn.Parameter(torch.randn(5))}


@pytest.fixture
def adapter() -> dict[str, nn.Parameter]:
    """Parameters as PEFT names them, in 64 bits, with gradients."""
    shapes = {A: (2, 6), B: (5, 2), DEEP_B: (5, 2), NORM: (6,), BIAS: (5,)}
    made = {name: nn.Parameter(torch.randn(shape, dtype=torch.float64)) for name, shape in shapes.items()}
    for weight in made.values():
        weight.grad = torch.randn_like(weight)
    return made


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
    compose_trial: Any, weights: dict[str, nn.Parameter], option: str
) -> None:
    if option == "muon":
        del weights["bias"]
    optimizer: Any = build_optimizer(weights.items(), compose_trial(f"optimizer={option}").optimizer, {}, 1.0)
    before = sum(float(weight.detach().square().sum()) for weight in weights.values())
    if option == "schedule_free":
        optimizer.train()
    for _ in range(5):
        optimizer.zero_grad()
        if option == "sophia" and optimizer.needs_estimate:
            logits_NV = torch.stack([weight.mean() for weight in weights.values()]).expand(3, -1)
            optimizer.estimate(F.cross_entropy(logits_NV, torch.arange(3) % logits_NV.shape[1]), 3)
        sum((weight.square().sum() for weight in weights.values()), torch.zeros(())).backward()
        optimizer.step()
    assert sum(float(weight.detach().square().sum()) for weight in weights.values()) < before


def test_arguments_reach_the_optimizer(weights: dict[str, nn.Parameter]) -> None:
    settings = optimizer_of({"_target_": "torch.optim.AdamW", "lr": 0.25, "betas": [0.5, 0.75], "weight_decay": 0.125})
    matrices, others = build_optimizer(weights.items(), settings, {}, 1.0).param_groups
    assert (matrices["lr"], list(matrices["betas"]), matrices["weight_decay"]) == (0.25, [0.5, 0.75], 0.125)
    assert (others["lr"], list(others["betas"]), others["weight_decay"]) == (0.25, [0.5, 0.75], 0.0)
    assert (matrices["params"], others["params"]) == ([weights["matrix"]], [weights["bias"]])


def test_groups_by_rate_and_decay_with_the_plain_one_first(adapter: dict[str, nn.Parameter]) -> None:
    settings = optimizer_of({"_target_": "torch.optim.SGD", "lr": 0.5})
    groups = _group_parameters(
        adapter.items(),
        settings,
        {r"layers\.1\.": 3.0, "norm": 0.25, "q_proj": 1.0},
        8.0,
    )
    names = {id(weight): name for name, weight in adapter.items()}
    found = [([names[id(one)] for one in group["params"]], group["lr"], group.get("weight_decay")) for group in groups]
    assert found == [
        ([A], 0.5, None),
        ([BIAS], 0.5, 0.0),
        ([B], 4.0, None),
        ([DEEP_B], 12.0, None),
        ([NORM], 0.125, 0.0),
    ]


def test_one_step_of_sgd_is_rate_times_factor_and_decays_matrices_only(adapter: dict[str, nn.Parameter]) -> None:
    before = {name: weight.detach().clone() for name, weight in adapter.items()}
    settings = optimizer_of({"_target_": "torch.optim.SGD", "lr": 0.5, "weight_decay": 0.125})
    build_optimizer(adapter.items(), settings, {r"layers\.1\.": 0.5, "norm": 0.25}, 4.0).step()
    rates = {A: 0.5, B: 2.0, DEEP_B: 1.0, NORM: 0.125, BIAS: 0.5}
    for name, weight in adapter.items():
        decay = 0.0 if name in (NORM, BIAS) else 0.125
        assert weight.grad is not None
        expected = before[name] - rates[name] * (weight.grad + decay * before[name])
        torch.testing.assert_close(weight.detach(), expected, rtol=0, atol=1e-15, msg=name)


@pytest.mark.parametrize("target", ["torch.optim.AdamW", "bitsandbytes.optim.AdamW", "schedulefree.AdamWScheduleFree"])
def test_an_optimizer_that_decays_by_default_spares_what_has_one_dimension(target: str) -> None:
    weights = {"norm": nn.Parameter(torch.ones(8)), "matrix": nn.Parameter(torch.ones(8, 8))}
    settings = optimizer_of({"_target_": target, "lr": 0.5, "weight_decay": 0.5})
    optimizer: Any = build_optimizer(weights.items(), settings, {}, 1.0)
    getattr(optimizer, "train", lambda: None)()
    for weight in weights.values():
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    assert torch.equal(weights["norm"], torch.ones(8))
    torch.testing.assert_close(weights["matrix"].detach(), torch.full((8, 8), 0.75))


def test_a_pattern_that_matches_nothing_is_refused(adapter: dict[str, nn.Parameter]) -> None:
    settings = optimizer_of({"_target_": "torch.optim.SGD", "lr": 0.5})
    with pytest.raises(ConfigError, match=r"lr_pattern 'k_proj' matches no trained parameter; there are layers.0.q"):
        build_optimizer(adapter.items(), settings, {"q_proj": 2.0, "k_proj": 2.0}, 1.0)


def test_muon_refuses_what_is_no_matrix(adapter: dict[str, nn.Parameter], compose_trial: Any) -> None:
    with pytest.raises(ConfigError, match=r"optimizer=muon takes matrices only, but 2 .* not, such as layers.0.norm"):
        build_optimizer(adapter.items(), compose_trial("optimizer=muon").optimizer, {}, 1.0)


def test_evaluation_weights_of_a_schedule_free_optimizer_come_and_go() -> None:
    weight = nn.Parameter(torch.randn(3, 4, dtype=torch.float64))
    settings = optimizer_of({"_target_": "schedulefree.AdamWScheduleFree", "lr": 0.25, "weight_decay": 0.0})
    optimizer: Any = build_optimizer([("matrix", weight)], settings, {}, 1.0)
    optimizer.train()
    z, average = weight.detach().clone(), weight.detach().clone()
    second = torch.zeros_like(z)
    for step in range(1, 6):  # Defazio et al. 2024, algorithm 1 with equal rates: x is the mean of z
        y = 0.9 * average + 0.1 * z
        torch.testing.assert_close(weight.detach(), y, rtol=0, atol=1e-12)
        gradient = torch.sin(3 * y)
        second = 0.999 * second + 0.001 * gradient**2
        z = z - 0.25 * gradient / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
        average = average + (z - average) / step
        weight.grad = gradient.clone()
        optimizer.step()
    trained = weight.detach().clone()
    with evaluation_weights(optimizer):
        torch.testing.assert_close(weight.detach(), average, rtol=0, atol=1e-12)
    torch.testing.assert_close(weight.detach(), trained, rtol=0, atol=1e-12)
    plain = torch.optim.SGD([weight], lr=1.0)
    with evaluation_weights(plain):
        torch.testing.assert_close(weight.detach(), trained, rtol=0, atol=1e-12)


def test_an_optimizer_from_elsewhere_is_refused_and_not_imported(
    weights: dict[str, nn.Parameter], module_elsewhere: str
) -> None:
    with pytest.raises(
        ConfigError, match=r"_target_ must name an optimizer of torch.optim or bitsandbytes.optim or .*sophia, got opt"
    ):
        build_optimizer(weights.items(), optimizer_of({"_target_": f"{module_elsewhere}.Adam", "lr": 0.1}), {}, 1.0)
    assert module_elsewhere not in sys.modules


@pytest.mark.parametrize(
    "target",
    [
        "torch.optim.NoSuch",
        "torch.optim.lr_scheduler.StepLR",
        "torch.optim.optimizer.torch.nn.Linear",
        "torch.optim.optimizer.torch.load",
        "torch.optim.optimizer.warnings.sys.exit",
        "sweeplab.training.sophia.torch.load",
        "schedulefree.adamw_schedulefree.math.sqrt",
    ],
)
def test_what_is_no_optimizer_is_refused(weights: dict[str, nn.Parameter], target: str) -> None:
    with pytest.raises(ConfigError, match=r"optimizer \S+ cannot be built with {'lr': 0.1}"):
        build_optimizer(weights.items(), optimizer_of({"_target_": target, "lr": 0.1}), {}, 1.0)


def test_a_plan_makes_what_torch_itself_checks_and_imports_no_other_package(compose_trial: Any) -> None:
    check_optimizer(compose_trial("optimizer=muon").optimizer)
    with pytest.raises(
        ConfigError, match=r"optimizer torch\.optim\.Muon cannot be built with .*'fast'.*; correct that"
    ):
        check_optimizer(compose_trial("optimizer=muon", "optimizer.adjust_lr_fn=fast").optimizer)
    check_optimizer(optimizer_of({"_target_": "bitsandbytes.optim.AdEMAMix", "lr": 0.1, "unheard_of": 1}))


def test_unknown_and_wrong_arguments_are_refused(weights: dict[str, nn.Parameter]) -> None:
    with pytest.raises(ConfigError, match=r"cannot be built with .*unexpected keyword argument 'speed'"):
        build_optimizer(
            weights.items(), optimizer_of({"_target_": "torch.optim.RAdam", "lr": 0.1, "speed": 3}), {}, 1.0
        )
    with pytest.raises(
        ConfigError, match=r"cannot be built with .*Invalid epsilon value: -1; correct that argument, or"
    ):
        build_optimizer(weights.items(), optimizer_of({"_target_": "torch.optim.AdamW", "lr": 0.1, "eps": -1}), {}, 1.0)
    sophia = {"_target_": f"{SophiaG.__module__}.SophiaG", "lr": 0.1}
    for wrong, said in {"gamma": "gamma must be above 0, got 0", "interval": "interval=0 from 1"}.items():
        with pytest.raises(ConfigError, match=said):
            build_optimizer(weights.items(), optimizer_of(sophia | {wrong: 0}), {}, 1.0)
