"""Published peaks: those that the plan is under, and by how much and why it is over the others.

Peaks of PyTorch's allocator in GB on an A100, Alpaca cut at 1304 tokens, dropout 0.05, 128 micro-batches a step:
LitGPT's resource tables (2023-10) and S. Raschka, Finetuning LLMs with LoRA and QLoRA (2023). LitGPT of that time is
another implementation, counted in `litgpt_bytes`.
"""

from typing import Any, Final

import pytest

from sweeplab.adapters.counting import Skeleton
from sweeplab.planning.memory import find_adapted_matrices
from tests.planning.conftest import Memory, Sizes
from tests.trials import Compose

LENGTH: Final = 1304
ALL: Final = tuple(f"adapter.lora_{toggle}=true" for toggle in ("query", "key", "value", "projection", "mlp", "head"))
TRAINED: Final = ("training.accumulation=128", "adapter.dropout=0.05")

# overrides, published GB, the plan's error in percent
Published = tuple[tuple[str, ...], float, float]
UNDER: Final[list[Published]] = [
    (("model=llama2_7b", "quantization=none"), 21.30, -16),
    (("model=llama2_7b", "quantization=none", "training.micro_batch_size=2"), 29.07, -23),
    (("model=llama2_13b", "quantization=none"), 38.12, -13),
    (("model=llama2_7b", "quantization=nf4", *ALL), 16.42, -38),
    (("model=llama2_7b", "quantization=nf4", "adapter.rank=16", *ALL), 16.47, -36),
    (("model=llama2_7b", "quantization=nf4"), 14.14, -39),
    (("model=llama2_7b", "quantization=nf4_dq"), 13.84, -40),
    (("model=llama2_13b", "quantization=nf4"), 23.14, -36),
    (("model=llama2_13b", "quantization=nf4_dq"), 22.55, -37),
]
MISSED: Final[list[Published]] = [
    (("model=llama2_7b", "quantization=nf4", "adapter.rank=256", *ALL), 19.24, 7),
    (("model=phi_1_5", "quantization=none"), 4.82, 21),
    (("model=phi_1_5", "quantization=nf4"), 3.78, 9),
    (("model=phi_1_5", "quantization=nf4_dq"), 3.72, 9),
    (("model=phi_1_5", "quantization=none", "training.micro_batch_size=2"), 6.76, 29),
    (("model=phi_1_5", "quantization=none", "training.micro_batch_size=4"), 10.68, 37),
]
# less than the same source's 16.42 for AdamW at rank 8, with 32 times the adapter: no count of what must stand gives it
CONTRADICTED: Final[Published] = (
    ("model=llama2_7b", "quantization=nf4", "adapter.rank=256", "optimizer=sgd", *ALL),
    14.46,
    24,
)


def planned_gigabytes(memory_of: Memory, overrides: tuple[str, ...]) -> float:
    return memory_of(*TRAINED, *overrides, length=LENGTH).training.total_bytes / 1e9


@pytest.mark.parametrize(("overrides", "gigabytes", "percent"), UNDER)
def test_llamas_planned_peaks_are_under_the_published(
    memory_of: Memory, overrides: tuple[str, ...], gigabytes: float, percent: float
) -> None:
    error = planned_gigabytes(memory_of, overrides) / gigabytes - 1
    assert error < 0
    assert 100 * error == pytest.approx(percent, abs=1)


@pytest.mark.parametrize(("overrides", "gigabytes", "percent"), [*MISSED, CONTRADICTED])
def test_published_peaks_that_are_missed_are_missed_by_this_much(
    memory_of: Memory, overrides: tuple[str, ...], gigabytes: float, percent: float
) -> None:
    assert 100 * (planned_gigabytes(memory_of, overrides) / gigabytes - 1) == pytest.approx(percent, abs=1)


def litgpt_bytes(sizes: Skeleton, toggles: int, num_trained: int, bits: float, batch: int) -> int:
    """Peak of LitGPT 2023-10 in bf16-true with AdamW, from its code, `toggles` of 2 (query and value) or 6.

    Weights, adapter, gradients and states in 2 bytes; 4-bit head. Per token and layer, h hidden, i intermediate size:
    norm inputs, 4h each in RMSNorm's 32 bits and 2h in LayerNorm; query, key, output and the fused projection whole, 6
    tensors of 2h; the MLP's 3 (SwiGLU) or 1 (GELU) of 2i; dropout's output and mask, 3 bytes, of each distinct input of
    an adapter; in 4 bits the input of every matrix, 2 bytes, which bitsandbytes kept then. Loss in 16 bits: 6 a logit.
    """
    h, i, gelu = sizes.hidden_size, sizes.intermediate_size, sizes.model_type == "phi"
    num_matrices = sum(one.in_features * one.out_features for one in sizes.linears)
    norms, mlp = (2 * h, 2 * i) if gelu else (8 * h, 6 * i)
    dropout = 3 * (h if toggles == 2 else (3 if gelu else 4) * h + i)
    kept_inputs = 2 * ((2 if gelu else 3) * h + i) if bits < 16 else 0
    layer = norms + 12 * h + mlp + dropout + kept_inputs
    weights = 2 * (sizes.num_params - num_matrices) + round(num_matrices * bits / 8)
    activations = batch * LENGTH * (sizes.num_layers * layer + 6 * sizes.vocab_size)
    return weights + 2 * num_trained * 4 + activations


@pytest.mark.parametrize(("overrides", "gigabytes", "percent"), [*UNDER, *MISSED])
def test_counted_as_litgpt_was_written(
    compose_trial: Compose, sizes_of: Sizes, overrides: tuple[str, ...], gigabytes: float, percent: float
) -> None:
    config = compose_trial("training.micro_batch_size=1", "optimizer=adamw", *overrides)
    sizes, scheme = sizes_of(config), config.quantization
    adapted = find_adapted_matrices(config.adapter, config.model, sizes)
    lora: Any = config.adapter
    trained = sum(lora.rank * (one.in_features + one.out_features) for one in adapted)
    bits = 16.0 if scheme.scheme == "none" else 4.126953125 if scheme.double else 4.5
    toggles = len(lora.enabled())
    counted = litgpt_bytes(sizes, toggles, trained, bits, config.training.micro_batch_size) / 1e9
    assert counted == pytest.approx(gigabytes, rel=0.1)
