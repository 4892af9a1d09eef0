"""Every optimizer through Lightning against a plain loop with the library's own class: whole weights, bit for bit."""

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sweeplab.adapters.counting import build_skeleton, count_trainable_params
from sweeplab.config.trial import TrialConfig
from sweeplab.data.batches import Windows, collate_tokens
from sweeplab.data.tokens import Tokens
from sweeplab.multilora.batches import CohortBatch, Share
from sweeplab.planning.memory import count_optimizer_bytes
from sweeplab.training.module import compute_target_logits, compute_window_shares, sum_target_losses
from sweeplab.training.schedules import compute_rate_factor
from tests.training.conftest import SEED, examples

pytestmark = pytest.mark.filterwarnings("ignore:Paged optimizers are not supported on CPU:UserWarning")
PAD = 0  # the embedded base's, which `fit` pads with
UNPAGED = {"PagedAdamW32bit": "AdamW32bit", "PagedAdamW8bit": "AdamW8bit"}  # the plain loop is never paged
EPOCHS = 3


class Case(NamedTuple):
    """An option of conf, and what is changed in it."""

    option: str
    overrides: tuple[str, ...] = ()
    dtype: torch.dtype = torch.float64  # bitsandbytes takes 32 bits at most
    trained: tuple[str, ...] = ("lm_head", "q_proj", "norm")


CASES = {
    "adam": Case("adam"),
    "adamw": Case("adamw", ("optimizer.weight_decay=0.5",)),
    "sgd": Case("sgd", ("optimizer.weight_decay=0.5",)),
    "lion": Case("lion", (), torch.float32),
    "adamw_8bit": Case("adamw_8bit", (), torch.float32),
    "paged_adamw": Case("paged_adamw", (), torch.float32),
    "paged_adamw_8bit": Case("paged_adamw_8bit", (), torch.float32),
    "adafactor": Case("adafactor"),
    "muon": Case("muon", (), torch.float64, ("lm_head", "q_proj")),
    "schedule_free": Case("schedule_free", ("schedule=constant",)),
    "sophia": Case("sophia", ("optimizer.interval=3",)),
}


def model_of(tiny_llama: Callable[..., nn.Module], case: Case) -> nn.Module:
    """The same model at every call; the head has 128 x 32 = 4096 entries, the least that 8-bit states are kept for."""
    model = tiny_llama().to(case.dtype)
    for name, weight in model.named_parameters():
        weight.requires_grad_(any(part in name for part in case.trained))
    return model


def config_of(compose_trial: Any, case: Case, *more: str) -> TrialConfig:
    config: TrialConfig = compose_trial(
        f"optimizer={case.option}", "training.accumulation=2", "training.micro_batch_size=2",
        f"training.epochs={EPOCHS}", "training.gradient_clip=null", "schedule.warmup_steps=2", *case.overrides, *more,
    )  # fmt: skip
    return config


def plain_optimizer(model: nn.Module, config: TrialConfig) -> Any:
    """The library's own class, matrices and the rest by hand."""
    settings = config.optimizer.to_dict()
    home, _, name = settings.pop("_target_").rpartition(".")
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [weight for weight in trained if weight.ndim == 2]},
        {"params": [weight for weight in trained if weight.ndim == 1], "weight_decay": 0.0},
    ]
    kind = getattr(importlib.import_module(home), UNPAGED.get(name, name))
    return kind([group for group in groups if group["params"]], **settings)


def plain_loop(model: nn.Module, data: list[Tokens], config: TrialConfig, num_steps: int | None = None) -> Any:
    """Loss, backward, rate, step; the optimizer at its end. `num_steps`: stop after so many."""
    optimizer = plain_optimizer(model, config)
    getattr(optimizer, "train", lambda: None)()
    windows = Windows(data, 2, 2, SEED)
    total, step = EPOCHS * windows.num_per_epoch, 0
    for epoch in range(EPOCHS):
        for window in windows.order_epoch(epoch):
            if step == num_steps:
                break
            optimizer.zero_grad()
            num_targets = sum(data[index].num_targets for index in window)
            for start in range(0, len(window), 2):
                batch = collate_tokens([data[index] for index in window[start : start + 2]], PAD, 0)
                own = int((batch.labels_BT[:, 1:] >= 0).sum())
                share = Share(len(batch.ids_BT), batch.ids_BT.shape[1], 0, own, num_targets)
                compute_window_shares(model, CohortBatch(batch, (share,))).sum().backward()
            if config.optimizer.target.endswith("SophiaG") and step % 3 == 0:
                generator = torch.Generator().manual_seed(torch.initial_seed() * 1_000_003 + step)
                logits_NV, _ = compute_target_logits(model, batch)
                labels_N1 = torch.multinomial(logits_NV.detach().softmax(dim=-1), 1, generator=generator)
                optimizer.estimate(F.cross_entropy(logits_NV, labels_N1[:, 0]), len(logits_NV))
            for group in optimizer.param_groups:
                group["lr"] = config.optimizer.lr * compute_rate_factor(config.schedule, step, total)
            optimizer.step()
            step += 1
    return optimizer


def trained_weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters() if weight.requires_grad}


@pytest.mark.parametrize("name", CASES)
def test_a_trajectory_is_the_plain_loop_s(name: str, tiny_llama: Any, train: Any, compose_trial: Any) -> None:
    case, data = CASES[name], examples(14, seed=1)  # windows of 4, 4, 4 and 2
    config = config_of(compose_trial, case)
    model, by_hand = model_of(tiny_llama, case), model_of(tiny_llama, case)
    start = trained_weights(model)
    record = train(model, data, config)
    assert record.step == EPOCHS * 4
    optimizer = plain_loop(by_hand, data, config)
    getattr(optimizer, "eval", lambda: None)()
    found, expected = trained_weights(model), trained_weights(by_hand)
    assert found.keys() == expected.keys()
    tolerance = 1e-12 if name == "sophia" else 0  # its estimate sums the gradients of chunks
    for weight in found:
        torch.testing.assert_close(found[weight], expected[weight], rtol=0, atol=tolerance, msg=f"{name}: {weight}")
        assert not torch.equal(found[weight], start[weight])


def test_every_option_of_conf_has_a_trajectory() -> None:
    from sweeplab.config.conf import CONF

    assert {path.stem for path in (CONF / "optimizer").glob("*.yaml")} == set(CASES)


def test_a_schedule_free_model_is_measured_at_its_average_and_trains_on(
    tiny_llama: Any, train: Any, compose_trial: Any
) -> None:
    case, data = CASES["schedule_free"], examples(14, seed=1)
    model, by_hand, undisturbed = (model_of(tiny_llama, case) for _ in range(3))
    record = train(model, data, config_of(compose_trial, case, "training.heldout_interval=5"))
    train(undisturbed, data, config_of(compose_trial, case))
    for name, weight in trained_weights(undisturbed).items():  # to the average and back costs a rounding
        torch.testing.assert_close(trained_weights(model)[name], weight, rtol=0, atol=1e-12, msg=name)
    optimizer = plain_loop(by_hand, data, config_of(compose_trial, case), num_steps=5)
    heldout = collate_tokens(examples(5, seed=9), PAD, 0)
    num_targets = sum(tokens.num_targets for tokens in examples(5, seed=9))
    at_training_weights = sum_target_losses(by_hand, heldout).item() / num_targets
    optimizer.eval()
    at_average = sum_target_losses(by_hand, heldout).item() / num_targets
    assert record.heldout_losses[0].loss == pytest.approx(at_average, rel=1e-10)
    assert abs(at_training_weights - at_average) > 1e-5


def test_warmup_of_the_schedule_is_the_schedule_free_optimizer_s_own(
    tiny_llama: Any, train: Any, compose_trial: Any
) -> None:
    case, data = CASES["schedule_free"], examples(14, seed=1)
    ours, own = model_of(tiny_llama, case), model_of(tiny_llama, case)
    train(ours, data, config_of(compose_trial, case, "schedule.warmup_steps=3"))
    train(own, data, config_of(compose_trial, case, "schedule.warmup_steps=0", "+optimizer.warmup_steps=3"))
    for name, weight in trained_weights(own).items():
        torch.testing.assert_close(trained_weights(ours)[name], weight, rtol=0, atol=1e-14, msg=name)


def test_patterns_and_the_ratio_of_b_reach_training(new_model: Any, train: Any, compose_trial: Any) -> None:
    config = compose_trial(
        "optimizer=sgd", "optimizer.lr=0.25", "optimizer.momentum=0", "training.accumulation=2",
        "training.micro_batch_size=2", "training.max_steps=1", "training.gradient_clip=null", "schedule=constant",
        "schedule.warmup_steps=0", "adapter.lr_ratio=4", "++adapter.lr_pattern={mlp: 0.5, layers.1: 8}",
    )  # fmt: skip
    plain = config.replaced(adapter=config.adapter.replaced(lr_ratio=1.0, lr_pattern={}))
    start, scaled, model = trained_weights(new_model()), new_model(), new_model()
    for one in (scaled, model):  # B = 0 would leave A without a gradient
        for name, weight in one.named_parameters():
            if "lora_B" in name:
                nn.init.normal_(weight, std=0.1, generator=torch.Generator().manual_seed(len(name)))
                start[name] = weight.detach().clone()
    record = train(scaled, examples(4, seed=1), config)
    train(model, examples(4, seed=1), plain)
    assert record.losses[-1].lr == 0.25  # the plain rate, though no group of matrices in the mlp has it
    found, expected = trained_weights(scaled), trained_weights(model)
    for name in start:
        factor = (0.5 if "mlp" in name else 8.0 if "layers.1" in name else 1.0) * (4.0 if "lora_B" in name else 1.0)
        change = factor * (expected[name] - start[name])
        torch.testing.assert_close(found[name] - start[name], change, rtol=0, atol=1e-13, msg=name)


@pytest.mark.parametrize("name", ["adamw_8bit", "paged_adamw_8bit", "paged_adamw", "lion", "adamw", "sgd"])
def test_the_states_that_stand_after_training_are_those_that_are_planned(
    name: str, tiny_llama: Any, compose_trial: Any
) -> None:
    case = CASES[name]._replace(dtype=torch.float32)
    model, config = model_of(tiny_llama, case), config_of(compose_trial, case)
    optimizer = plain_loop(model, examples(6, seed=1), config, num_steps=1)
    stored = {
        state.untyped_storage().data_ptr(): state.untyped_storage().nbytes()
        for states in optimizer.state.values()
        for key, state in states.items()
        if isinstance(state, Tensor) and state.numel() > 1 and "qmap" not in key  # two tables of 256 values in all
    }
    sizes = [weight.numel() for weight in model.parameters() if weight.requires_grad]
    assert sum(stored.values()) == count_optimizer_bytes(config.optimizer.to_dict(), sizes, 4)
    if name == "adamw_8bit":  # the head's 4096 in 8 bits with 16 scales, twice; the rest in 32 bits
        assert sum(stored.values()) == 2 * (4096 + 4096 // 256 * 4) + 2 * 4 * (sum(sizes) - 4096)


def test_adamw_s_states_of_a_7b_are_16_777_mb_at_rank_8_and_2_595_gb_at_rank_256(compose_trial: Any) -> None:
    toggles = [f"adapter.lora_{one}=true" for one in ("query", "key", "value", "projection", "mlp", "head")]
    small = compose_trial("model=llama2_7b", "adapter.rank=8")
    large = compose_trial("model=llama2_7b", "adapter.rank=256", *toggles)
    sizes = build_skeleton(small.model)
    counts = [count_trainable_params(one.adapter, one.model, sizes) for one in (small, large)]
    assert counts == [4_194_304, 648_871_936]
    found = [count_optimizer_bytes(small.optimizer.to_dict(), [count], 2) for count in counts]
    assert found == [2 * 4_194_304 * 2, 2 * 648_871_936 * 2] == [16_777_216, 2_595_487_744]
