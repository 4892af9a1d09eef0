"""Computes the parts of the memory that training needs."""

import math
from dataclasses import dataclass, fields
from typing import Any, Final

from sweeplab.adapters.budget import AdaptedShape, find_targeted_shapes
from sweeplab.adapters.counting import Skeleton
from sweeplab.config.adapter import AdapterConfig, LowRankAdapter
from sweeplab.config.model import ModelConfig
from sweeplab.config.quantization import HQQ_BITS, QuantizationConfig
from sweeplab.models.layers import LinearShape
from sweeplab.planning.blocks import FP32_BYTES
from sweeplab.runtime.errors import ConfigError

_BLOCK: Final = 64  # weights per scale of nf4 and fp4; Dettmers et al. 2023, arXiv 2305.14314, section 2
_OUTER_BLOCK: Final = 256  # 8-bit scales per 32-bit scale, with double quantization; section 3
_STATE_BLOCK: Final = 256  # entries of an 8-bit optimizer state per 32-bit scale, in bitsandbytes
_LEAST_8BIT_ENTRIES: Final = 4096  # bitsandbytes' min_8bit_size: smaller weights have 32-bit states
# peak resident set of a worker with torch, transformers, peft, lightning, bitsandbytes and lm-eval that trained the
# embedded base on one example at a time: 533 MB, 499 MB after the imports (torch 2.13, Linux x86-64)
CPU_PROCESS_BYTES: Final = 533_000_000
_STATES_PER_PARAM: Final = {
    **dict.fromkeys(("Adam", "AdamW", "Adamax", "NAdam", "RAdam", "Adadelta", "Rprop", "SparseAdam", "LAMB"), 2),
    **dict.fromkeys(("SophiaG", "AdamWScheduleFree"), 2),
    "Adafactor": 0,  # sums of rows and columns: a rank's share of a matrix
    **dict.fromkeys(("Adagrad", "ASGD", "LARS", "Lion", "Muon", "RMSprop"), 1),
    "AdEMAMix": 3,
    "SGD": 0,  # and one with momentum
}


@dataclass(frozen=True)
class MemoryParts:
    """Bytes in memory at one moment."""

    base_weights_bytes: int = 0
    quantization_scales_bytes: int = 0
    gathered_bytes: int = 0  # of fsdp: what is whole while it computes
    adapter_bytes: int = 0
    gradients_bytes: int = 0
    optimizer_bytes: int = 0
    activations_bytes: int = 0
    logits_bytes: int = 0
    dequantized_bytes: int = 0  # the largest quantized matrix in the compute dtype, for its product
    workspace_bytes: int = 0  # what comes and goes: a layer's gradients, an optimizer's step, a checkpoint being read
    process_bytes: int = 0  # Python and its libraries, where the peak is a process's resident set: on a CPU

    @property
    def base_bytes(self) -> int:
        """The base alone: every weight and scale, as `measure_storage` finds them."""
        return self.base_weights_bytes + self.quantization_scales_bytes

    @property
    def total_bytes(self) -> int:
        """As a record measures it: resident set on a CPU, PyTorch's allocator on CUDA."""
        return sum(getattr(self, one.name) for one in fields(self))


def count_entries(matrix: LinearShape) -> int:
    return matrix.in_features * matrix.out_features


def find_adapted_matrices(adapter: AdapterConfig, model: ModelConfig, sizes: Skeleton) -> list[AdaptedShape]:
    """The matrices that LoRA adapts; none for other methods. Raises `ConfigError` as `find_targets` does."""
    if not isinstance(adapter, LowRankAdapter):
        return []
    return find_targeted_shapes(adapter, sizes.model_type, model.modules, sizes.linears, sizes.experts)


def count_weight_bytes(quantization: QuantizationConfig, scheme: str, matrix: LinearShape) -> int:
    """Packed weights. HQQ's 3 bits: the weights of ten groups side by side in 32 bits, the last ones filled up."""
    entries, bits = count_entries(matrix), {"nf4": 4, "fp4": 4, "int8": 8, **HQQ_BITS}[scheme]
    if bits == 3:
        return 4 * quantization.num_per_group * math.ceil(entries // quantization.num_per_group / 10)
    return math.ceil(entries * bits / 8)


def count_scale_bytes(quantization: QuantizationConfig, scheme: str, matrix: LinearShape, dtype_bytes: int) -> int:
    """nf4 and fp4: 32 bits per 64 weights, 0.5 bits each; double: 8 bits per 64 and 32 per 64 x 256, 0.126953125 bits
    each, and 32 bits once; int8: 32 bits per row; HQQ: a scale and a zero per group in the compute dtype."""
    if scheme in HQQ_BITS:
        return 2 * dtype_bytes * (count_entries(matrix) // quantization.num_per_group)
    if scheme == "int8":
        return FP32_BYTES * matrix.out_features
    blocks = math.ceil(count_entries(matrix) / _BLOCK)
    return (
        blocks + FP32_BYTES * (math.ceil(blocks / _OUTER_BLOCK) + 1) if quantization.is_double else FP32_BYTES * blocks
    )


def count_states(optimizer: dict[str, Any]) -> int:
    """State entries per trained weight. Raises `ConfigError` for an optimizer that the table lacks."""
    kind = _name_optimizer(optimizer)
    if kind not in _STATES_PER_PARAM:
        raise ConfigError(
            f"optimizer._target_={optimizer['_target_']} is not among those whose memory can be planned "
            f"({', '.join(sorted(_STATES_PER_PARAM))}); choose one of them, or train without a plan: action=run"
        )
    with_momentum = kind in ("SGD", "RMSprop") and bool(optimizer.get("momentum"))
    return _STATES_PER_PARAM[kind] + with_momentum + bool(optimizer.get("amsgrad"))


def _name_optimizer(optimizer: dict[str, Any]) -> str:
    """`AdamW` for torch.optim.AdamW, bitsandbytes.optim.PagedAdamW8bit and the like."""
    name = str(optimizer["_target_"]).rpartition(".")[2]
    return name.removeprefix("Paged").removesuffix("8bit").removesuffix("32bit")


def count_optimizer_bytes(optimizer: dict[str, Any], weights: list[int], weight_bytes: int) -> int:
    """States of all trained weights, given their sizes; paged ones counted too, since they stand there if they can.

    torch.optim keeps states in the weights' own dtype, bitsandbytes in 32 bits, or in 8 with a 32-bit scale per 256
    (Dettmers et al. 2021, arXiv 2110.02861) where a weight has at least 4096 entries.
    """
    target = str(optimizer["_target_"])
    entry_bytes = weight_bytes if target.startswith("torch.") else FP32_BYTES
    in_8_bits = sum(one for one in weights if target.endswith("8bit") and one >= _LEAST_8BIT_ENTRIES)
    scales = FP32_BYTES * math.ceil(in_8_bits / _STATE_BLOCK)
    return count_states(optimizer) * (in_8_bits + scales + (sum(weights) - in_8_bits) * entry_bytes)
