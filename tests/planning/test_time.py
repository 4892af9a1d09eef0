"""FLOPs against PyTorch's counter, steps and tokens against the sampler that makes the batches."""

import time
from typing import Any

import pytest
import torch
from peft import get_peft_model
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM

from sweeplab.adapters.counting import build_skeleton, count_trainable_params
from sweeplab.adapters.lora import make_lora_config
from sweeplab.config.adapter import LoraAdapter
from sweeplab.config.model import HubModel
from sweeplab.data.batches import Windows
from sweeplab.data.tokens import Tokens
from sweeplab.models.base import read_architecture
from sweeplab.planning.lengths import DataExtent
from sweeplab.planning.time import (
    _FOUR_BIT_SLOWDOWN,
    count_flops_per_token,
    count_heldout_measurements,
    count_optimizer_steps,
    count_train_tokens,
    estimate_train_seconds,
    measure_flops_per_second,
    share_of_layers,
)
from sweeplab.training.running_trial import _reaches_rung
from tests.planning.conftest import CPU, CUDA, bound
from tests.trials import Compose

SMALL = {"model_type": "llama", "vocab_size": 96, "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 6}
SMALL |= {"num_attention_heads": 4, "num_key_value_heads": 4, "tie_word_embeddings": False}


@pytest.mark.filterwarnings("ignore:.gradient_checkpointing_enable.:FutureWarning")  # as a trial calls it
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("adapter", ["lora", "none"])
def test_flops_are_what_pytorch_counts(compose_trial: Compose, adapter: str, checkpointing: bool) -> None:
    toggles = ["adapter.lora_mlp=true"] if adapter == "lora" else []
    config = compose_trial("quantization=none", f"adapter={adapter}", *toggles)
    config = config.replaced(
        model=HubModel(name="small", random_init=True, architecture=SMALL),
        training=config.training.replaced(gradient_checkpointing=checkpointing),
    )
    base = AutoModelForCausalLM.from_config(read_architecture(config.model), attn_implementation="eager")
    base.requires_grad_(adapter == "none")
    if checkpointing:
        base.gradient_checkpointing_enable({"use_reentrant": False})
    lora = config.adapter
    model: Any = (
        get_peft_model(base, make_lora_config(lora, config.model, base)) if isinstance(lora, LoraAdapter) else base
    )
    model.train()
    ids = torch.randint(2, 96, (4, 8))  # short, so that attention's scores hardly count
    with FlopCounterMode(display=False) as counter:
        model(input_ids=ids, use_cache=False).logits.sum().backward()
    sizes = build_skeleton(config.model)
    num_trainable = count_trainable_params(config.adapter, config.model, sizes)
    predicted = count_flops_per_token(config, sizes, num_trainable, 8) * ids.numel()
    assert predicted == pytest.approx(counter.get_total_flops(), rel=0.08)


EXPERTS: dict[str, dict[str, Any]] = {
    "mixtral": {"num_local_experts": 8, "num_experts_per_tok": 2},
    "qwen2_moe": {"num_experts": 6, "num_experts_per_tok": 3, "moe_intermediate_size": 80},
}


@pytest.mark.parametrize("name", EXPERTS)
def test_frozen_experts_count_as_many_as_a_token_goes_through(compose_trial: Compose, name: str) -> None:
    architecture = SMALL | EXPERTS[name] | {"model_type": name, "num_hidden_layers": 3}
    config = compose_trial("quantization=none")
    config = config.replaced(model=HubModel(name="small", random_init=True, architecture=architecture))
    base = AutoModelForCausalLM.from_config(read_architecture(config.model), attn_implementation="eager")
    base.requires_grad_(False)
    base.set_experts_implementation("eager")  # the counter knows no products of groups
    assert isinstance(config.adapter, LoraAdapter)
    model: Any = get_peft_model(base, make_lora_config(config.adapter, config.model, base)).train()
    ids = torch.randint(2, 96, (4, 8))
    with FlopCounterMode(display=False) as counter:
        model(input_ids=ids, use_cache=False).logits.sum().backward()
    sizes = build_skeleton(config.model)
    num_trainable = count_trainable_params(config.adapter, config.model, sizes)
    predicted = count_flops_per_token(config, sizes, num_trainable, 8) * ids.numel()
    assert predicted == pytest.approx(counter.get_total_flops(), rel=0.03)
    experts = 2 * ids.numel() * sum(one.in_features * one.out_features for one in sizes.experts)
    assert counter.get_total_flops() > 2 * experts  # they are no small part
    head = 96 * 64
    dense = sum(one.in_features * one.out_features for one in sizes.linears) - head
    active = dense + sizes.num_active_experts * experts / (2 * ids.numel())
    assert share_of_layers(sizes, 0.5) == pytest.approx(active / (active + 0.5 * head))


@pytest.mark.filterwarnings("ignore:.gradient_checkpointing_enable.:FutureWarning")  # as a trial calls it
@pytest.mark.parametrize("rank", [4, 64])
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("name", EXPERTS)
def test_adapted_experts_are_computed_once_for_a_micro_batch(
    compose_trial: Compose, name: str, checkpointing: bool, rank: int
) -> None:
    architecture = SMALL | EXPERTS[name] | {"model_type": name, "num_hidden_layers": 3}
    config = compose_trial(
        "quantization=none", "adapter.lora_mlp=true", f"adapter.rank={rank}", "training.micro_batch_size=4"
    )
    config = config.replaced(
        model=HubModel(name="small", random_init=True, architecture=architecture),
        training=config.training.replaced(gradient_checkpointing=checkpointing),
    )
    base = AutoModelForCausalLM.from_config(read_architecture(config.model), attn_implementation="eager")
    base.requires_grad_(False)
    base.set_experts_implementation("eager")
    if checkpointing:
        base.gradient_checkpointing_enable({"use_reentrant": False})
    assert isinstance(config.adapter, LoraAdapter)
    model: Any = get_peft_model(base, make_lora_config(config.adapter, config.model, base)).train()
    sizes = build_skeleton(config.model)
    num_trainable = count_trainable_params(config.adapter, config.model, sizes)
    for length in (8, 16):
        ids = torch.randint(2, 96, (4, length))
        with FlopCounterMode(display=False) as counter:
            model(input_ids=ids, use_cache=False).logits.sum().backward()
        predicted = count_flops_per_token(config, sizes, num_trainable, length) * ids.numel()
        assert predicted == pytest.approx(counter.get_total_flops(), rel=0.03)


@pytest.mark.parametrize("adapter", ["lora", "none"])
def test_the_head_counts_for_targets(compose_trial: Compose, adapter: str) -> None:
    config = compose_trial("quantization=none", f"adapter={adapter}")
    config = config.replaced(model=HubModel(name="small", random_init=True, architecture=SMALL))
    sizes = build_skeleton(config.model)
    all_tokens, a_quarter = (count_flops_per_token(config, sizes, 0, 8, share) for share in (1.0, 0.25))
    assert all_tokens - a_quarter == 0.75 * (4 if adapter == "lora" else 6) * 64 * 96


@pytest.mark.parametrize(("num_examples", "micro_batch_size", "accumulation"), [(64, 8, 2), (50, 8, 2), (3, 4, 1)])
def test_an_epoch_has_the_samplers_steps_and_all_its_tokens(
    compose_trial: Compose, num_examples: int, micro_batch_size: int, accumulation: int
) -> None:
    batch = (f"training.micro_batch_size={micro_batch_size}", f"training.accumulation={accumulation}")
    training = compose_trial("training.epochs=2", *batch).training
    examples = [Tokens([1] * length, [1] * length) for length in range(2, num_examples + 2)]
    windows = Windows(examples, micro_batch_size, accumulation, seed=0)
    num_tokens = sum(len(tokens.ids) for tokens in examples)
    extent = DataExtent(num_examples, num_examples + 1, num_tokens / num_examples, num_examples, 0, measured=True)
    assert count_optimizer_steps(training, num_examples) == 2 * windows.num_per_epoch
    assert count_train_tokens(training, extent) == pytest.approx(2 * num_tokens)


def test_steps_are_unknown_for_data_nobody_looked_at(compose_trial: Compose) -> None:
    assert count_train_tokens(compose_trial().training, bound(256)) is None
    training = compose_trial("training.max_steps=7", "training.micro_batch_size=2", "training.accumulation=3").training
    assert count_train_tokens(training, bound(256)) == 7 * 6 * 256


def test_the_probe_is_short_and_leaves_the_threads() -> None:
    threads, started = torch.get_num_threads(), time.process_time()
    speed = measure_flops_per_second(CPU, 1)
    assert speed is not None
    assert 1e8 < speed < 1e14
    assert time.process_time() - started < 5  # 0.2 s on an idle machine
    assert torch.get_num_threads() == threads


def test_no_time_without_the_device_or_the_steps(compose_trial: Compose) -> None:
    config = compose_trial()
    assert measure_flops_per_second(CUDA, None) is None
    assert estimate_train_seconds(config, 10, 1000, CUDA, None) is None
    assert estimate_train_seconds(config, 10, None, CPU, 1e9) is None


def test_four_bit_costs_half_as_much_again_on_cuda(compose_trial: Compose) -> None:
    seconds = {
        (scheme, device.kind): estimate_train_seconds(compose_trial(f"quantization={scheme}"), 10, 1e6, device, 1e9)
        for scheme in ("none", "nf4")
        for device in (CPU, CUDA)
    }
    assert seconds["none", "cuda"] == pytest.approx(10 * 1e6 / 1e9 / 0.4)
    assert seconds["nf4", "cuda"] == pytest.approx(10 * 1e6 / 1e9 / 0.4 * _FOUR_BIT_SLOWDOWN)
    assert seconds["nf4", "cpu"] == seconds["none", "cpu"]


@pytest.mark.parametrize(
    ("interval", "num_steps"), [("null", 8), ("3", 8), ("4", 8), ("9", 8), ("0.25", 200), ("0.3", 7)]
)
def test_held_out_losses_are_counted_as_training_measures_them(
    compose_trial: Compose, interval: str, num_steps: int
) -> None:
    """The last step's is evaluation's."""
    training = compose_trial(f"training.heldout_interval={interval}").training
    rungs = training.heldout_interval
    due = [step for step in range(1, num_steps) if rungs is not None and _reaches_rung(step, rungs, num_steps)]
    assert count_heldout_measurements(training, num_steps) == len(due) + 1
