"""Memory parts against exact arithmetic, published figures, and the optimizers themselves."""

from dataclasses import asdict
from typing import Any

import pytest
import torch

from sweeplab.adapters.counting import count_trainable_params
from sweeplab.models.layers import LinearShape
from sweeplab.planning.memory import (
    CPU_PROCESS_BYTES,
    count_optimizer_bytes,
    count_scale_bytes,
    count_states,
    count_weight_bytes,
)
from sweeplab.runtime.errors import ConfigError
from tests.configs import quantize
from tests.planning.conftest import CPU, CUDA, Memory, Sizes
from tests.trials import Compose

LLAMA = "model=llama2_7b"
ALL_TOGGLES = tuple(f"adapter.lora_{toggle}=true" for toggle in ("query", "key", "value", "projection", "mlp", "head"))
QV_PARAMS = 4_194_304
NUM_MATRICES = 32 * 7
NUM_QUANTIZED = 6_476_005_376  # 32 x (4 x 4096 x 4096 + 3 x 4096 x 11008)


def test_every_part_is_in_the_total_of_its_moment(memory_of: Memory) -> None:
    for parts in memory_of(LLAMA).moments().values():
        assert sum(asdict(parts).values()) == parts.total_bytes
        assert min(asdict(parts).values()) >= 0


@pytest.mark.parametrize(("scheme", "bits"), [("nf4", 4.5), ("nf4_dq", 4.126953125), ("fp4_dq", 4.126953125)])
def test_bits_per_quantized_weight(memory_of: Memory, scheme: str, bits: float) -> None:
    parts = memory_of(LLAMA, f"quantization={scheme}").forward
    rest = 2 * (6_738_415_616 - NUM_QUANTIZED)  # embeddings, norms and head in bfloat16
    quantized = parts.base_weights_bytes - rest + parts.quantization_scales_bytes
    means = 32 * NUM_MATRICES if scheme.endswith("_dq") else 0  # of the scales, in 32 bits
    assert quantized * 8 == NUM_QUANTIZED * bits + means


def test_double_quantization_saves_0_30_gb_of_a_7b(memory_of: Memory) -> None:
    once, twice = (memory_of(LLAMA, f"quantization={scheme}").training.total_bytes for scheme in ("nf4", "nf4_dq"))
    assert once - twice == NUM_QUANTIZED * 0.373046875 / 8 - 4 * NUM_MATRICES
    assert (once - twice) / 1e9 == pytest.approx(0.30, abs=0.005)


def test_int8_has_a_scale_per_row() -> None:
    assert count_scale_bytes(quantize("int8", False), "int8", LinearShape("up_proj", 4096, 11008), 2) == 4 * 11008


def test_an_incomplete_block_has_a_scale_too() -> None:
    matrix = LinearShape("small", 5, 13)  # 65 weights: two blocks of 64
    assert count_scale_bytes(quantize("nf4", False), "nf4", matrix, 2) == 8
    assert count_scale_bytes(quantize("nf4", True), "nf4", matrix, 2) == 2 + 4 + 4
    assert count_weight_bytes(quantize("nf4", True), "nf4", matrix) == 33


@pytest.mark.parametrize(
    ("optimizer", "state_bytes"),
    [("adamw", 2 * 4), ("sgd", 4), ("paged_adamw", 2 * 4), ("adamw_8bit", 2 * (1 + 1 / 64))],
)
def test_adapter_gradients_and_states_of_rank_8(memory_of: Memory, optimizer: str, state_bytes: float) -> None:
    parts = memory_of(LLAMA, f"optimizer={optimizer}").step
    assert parts.adapter_bytes == parts.gradients_bytes == QV_PARAMS * 4
    assert parts.optimizer_bytes == QV_PARAMS * state_bytes


EACH = 4096 + 4096  # of rank 1 beside a query or a value matrix
BESIDE_ALL = 4 * EACH + 3 * (4096 + 11008)


@pytest.mark.parametrize(
    ("overrides", "num_trained", "num_held"),
    [
        (("adapter.rank=1",), 64 * EACH, 8 * 64 * EACH),  # the smallest bucket's rank is 8
        (("adapter.rank=33",), 33 * 64 * EACH, 64 * 64 * EACH),
        (("adapter.rank=64",), 64 * 64 * EACH, 64 * 64 * EACH),
        (("adapter.rank=65",), 65 * 64 * EACH, 128 * 64 * EACH),
        (("adapter.rank=65", "optimizer=paged_adamw"), 65 * 64 * EACH, 128 * 64 * EACH),
        (("adapter.rank=65", "+adapter.lr_pattern={q_proj: 0.5}"), 65 * 64 * EACH, 65 * 64 * EACH),
        (("adapter.rank=65", "adapter.bias=all"), 65 * 64 * EACH, 65 * 64 * EACH),  # alone; a Llama has no biases
        (("adapter.rank=65", "adapter.dora=true"), 64 * (65 * EACH + 4096), 64 * (65 * EACH + 4096)),
        (("+adapter.rank_pattern={q_proj: 256}",), 32 * (256 + 8) * EACH, 32 * (256 + 8) * EACH),
        (("+adapter.rank_pattern={q_proj: 129}",), 32 * (129 + 8) * EACH, 32 * (256 + 8) * EACH),
        (("adapter.budget=160000000",), 305 * 64 * EACH, 512 * 64 * EACH),
        (("adapter.budget=160000000", "adapter.lora_key=true", "adapter.lora_projection=true", "adapter.lora_mlp=true"),
         64 * 32 * BESIDE_ALL, 64 * 32 * BESIDE_ALL),
        (("adapter.budget=160000000", "+adapter.rank_pattern={q_proj: 9}"), (9 + 601) * 32 * EACH,
         (16 + 1024) * 32 * EACH),
    ],
)  # fmt: skip
def test_weights_gradients_and_states_have_the_rank_that_stands(
    memory_of: Memory,
    compose_trial: Compose,
    sizes_of: Sizes,
    overrides: tuple[str, ...],
    num_trained: int,
    num_held: int,
) -> None:
    """A budget's, a pattern's, and of what its optimizer takes as a vector the next power of two; on a GPU only where
    matrices have several ranks."""
    config = compose_trial(LLAMA, *overrides)
    assert count_trainable_params(config.adapter, config.model, sizes_of(config)) == num_trained
    num_on_gpu = num_held if any("rank_pattern" in one for one in overrides) else num_trained
    for device, num_numbers in ((CPU, num_held), (CUDA, num_on_gpu)):
        parts = memory_of(LLAMA, *overrides, device=device).step
        assert parts.adapter_bytes == parts.gradients_bytes == 4 * num_numbers
        assert parts.optimizer_bytes == 2 * 4 * num_numbers


def test_what_a_low_rank_update_keeps_has_the_rank_that_stands(memory_of: Memory) -> None:
    """32 bits a token and rank, of 32 queries and 32 values."""
    saved = {
        rank: memory_of(LLAMA, f"adapter.rank={rank}", device=CPU).forward.activations_bytes for rank in (1, 8, 33, 64)
    }
    assert saved[1] == saved[8] == saved[33] - 512 * 4 * 64 * (64 - 8)
    assert saved[33] == saved[64]
    pattern = memory_of(LLAMA, "adapter.rank=8", "+adapter.rank_pattern={q_proj: 33}", device=CPU).forward
    assert pattern.activations_bytes == saved[8] + 512 * 4 * 32 * (64 - 8)
    budget = memory_of(LLAMA, "adapter.rank=8", f"adapter.budget={33 * 64 * EACH}", device=CPU).forward
    assert budget.activations_bytes == saved[33]
    on_gpu = [memory_of(LLAMA, f"adapter.rank={rank}").forward.activations_bytes for rank in (33, 64)]
    assert on_gpu[1] - on_gpu[0] == 512 * 4 * 64 * (64 - 33)


def test_in_half_precision_rows_of_a_slot_end_at_attentions_blocks(memory_of: Memory) -> None:
    saved = [memory_of(LLAMA, length=length).forward.activations_bytes for length in (10, 16, 17)]
    assert saved[0] == saved[1] < saved[2]
    dora = [memory_of(LLAMA, "adapter.dora=true", length=length).forward.activations_bytes for length in (10, 16)]
    assert dora[0] < dora[1]


@pytest.mark.parametrize(
    "settings",
    [
        {"_target_": "torch.optim.AdamW", "lr": 0.1},
        {"_target_": "torch.optim.AdamW", "lr": 0.1, "amsgrad": True},
        {"_target_": "torch.optim.SGD", "lr": 0.1},
        {"_target_": "torch.optim.SGD", "lr": 0.1, "momentum": 0.9},
        {"_target_": "torch.optim.RMSprop", "lr": 0.1},
        {"_target_": "torch.optim.RMSprop", "lr": 0.1, "momentum": 0.9},
        {"_target_": "torch.optim.Adagrad", "lr": 0.1},
        {"_target_": "torch.optim.NAdam", "lr": 0.1},
        {"_target_": "torch.optim.Adadelta", "lr": 0.1},
        {"_target_": "torch.optim.Rprop", "lr": 0.1},
        {"_target_": "torch.optim.Muon", "lr": 0.1},
    ],
)
def test_states_are_what_the_optimizer_keeps(settings: dict[str, Any]) -> None:
    weight = torch.nn.Parameter(torch.ones(32, 32))
    arguments = {name: value for name, value in settings.items() if name != "_target_"}
    optimizer = getattr(torch.optim, settings["_target_"].rpartition(".")[2])([weight], **arguments)
    for _ in range(2):
        weight.grad = torch.ones_like(weight)
        optimizer.step()
    kept = [one for one in optimizer.state[weight].values() if isinstance(one, torch.Tensor) and one.numel() > 1]
    assert count_states(settings) == len(kept)
    assert count_optimizer_bytes(settings, [weight.numel()], 4) == sum(one.nbytes for one in kept)


def test_small_weights_keep_32_bit_states_in_an_8_bit_optimizer() -> None:
    settings = {"_target_": "bitsandbytes.optim.AdamW8bit", "lr": 0.1}
    assert count_optimizer_bytes(settings, [4095], 4) == 2 * 4095 * 4
    assert count_optimizer_bytes(settings, [4096], 4) == 2 * (4096 + 4096 // 256 * 4)


def test_an_optimizer_without_an_entry_is_refused_in_one_line() -> None:
    with pytest.raises(ConfigError, match=r"optimizer\._target_=torch\.optim\.LBFGS .*AdamW.*action=run") as caught:
        count_states({"_target_": "torch.optim.LBFGS", "lr": 1.0})
    assert "\n" not in str(caught.value)


def test_full_finetuning_keeps_weights_gradients_and_states_in_the_compute_dtype(memory_of: Memory) -> None:
    parts = memory_of("model=phi_1_5", "adapter=none", "quantization=none").step
    assert parts.base_weights_bytes == parts.gradients_bytes == 1_418_270_720 * 2
    assert parts.optimizer_bytes == 2 * 1_418_270_720 * 2
    assert parts.adapter_bytes == 0


def test_a_cpu_counts_its_process_and_32_bit_weights(memory_of: Memory) -> None:
    memory = memory_of("model=tiny", "quantization=none", device=CPU)
    parts = memory.backward
    assert memory.context_bytes == 0
    assert parts.process_bytes == CPU_PROCESS_BYTES
    assert parts.base_weights_bytes == 885_888 * 4
    assert parts.dequantized_bytes == 0
