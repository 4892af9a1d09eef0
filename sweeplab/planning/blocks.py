"""What a layer keeps for the backward, by family, and what its norms and MLP need while their gradient is taken."""

from typing import Final, NamedTuple

from sweeplab.adapters.counting import Skeleton
from sweeplab.config.adapter import BASE_WEIGHT_METHODS
from sweeplab.config.trial import TrialConfig
from sweeplab.models.layers import LinearShape

FP32_BYTES: Final = 4
IN_WORK: Final = 3  # tensors of the MLP's width while its gradient is computed
_NORM_IN_WORK: Final = 5  # 32-bit tensors of the hidden size in the backward pass of RMSNorm
_LEAN_NORM_IN_WORK: Final = 4
_OF_NORMS: Final = ("q_proj", "k_proj", "v_proj", "qkv_proj", "gate_proj", "up_proj", "gate_up_proj", "lm_head")
FIRST_READERS: Final = _OF_NORMS[:4]  # of a layer's first norm


class Block(NamedTuple):
    """What a family's decoder layer keeps, in tensors of the part's width."""

    norms: int = 2  # inputs; two norms that read the same keep it once
    in_32_bits: bool = True  # RMSNorm
    attention: int = 4
    mlp: int = 3
    parallel: bool = False  # the MLP reads what the attention reads
    query_key_norms: bool = False


_BLOCKS: Final = {
    "qwen3": Block(query_key_norms=True),
    # GELU written out keeps its input, half of it, the tanh, and the tanh plus one
    "phi": Block(norms=1, in_32_bits=False, mlp=4, parallel=True),
    "gpt2": Block(in_32_bits=False, attention=5, mlp=4),
    # a fused projection of width 3 q stays whole for the value's sake
    "gpt_neox": Block(norms=1, in_32_bits=False, attention=6, mlp=1, parallel=True),
    "opt": Block(in_32_bits=False, mlp=1),
    "vit": Block(in_32_bits=False, mlp=1),  # torch's own GELU
}


def find_block(sizes: Skeleton) -> Block:
    return _BLOCKS.get(sizes.model_type, Block())


def find_width(sizes: Skeleton, suffix: str) -> int:
    """Output features of the first matrix with this name; the hidden size where attention is fused."""
    return next((one.out_features for one in sizes.linears if one.name.endswith(f".{suffix}")), sizes.hidden_size)


def has_lean_norms(config: TrialConfig, sizes: Skeleton) -> bool:
    adapter = config.adapter
    trains = adapter.method in (*BASE_WEIGHT_METHODS, "norms") or getattr(adapter, "train_norms", False)
    return sizes.has_lean_norms and not trains


def count_number_bytes_of_norms(config: TrialConfig, sizes: Skeleton, dtype_bytes: int) -> int:
    """Of each number that a norm keeps of its input."""
    return FP32_BYTES if find_block(sizes).in_32_bits and not has_lean_norms(config, sizes) else dtype_bytes


def count_norm_bytes(config: TrialConfig, sizes: Skeleton, dtype_bytes: int) -> int:
    """Of one norm of the hidden size, per token: its input, and a statistic or two in 32 bits."""
    return count_number_bytes_of_norms(config, sizes, dtype_bytes) * sizes.hidden_size + FP32_BYTES


def is_made_again(config: TrialConfig, sizes: Skeleton, matrix: LinearShape) -> bool:
    """Whether a slot keeps nothing of what the matrix reads: a lean norm's or SwiGLU's result, or that of attention,
    which is kept with attention."""
    name = matrix.name.rpartition(".")[2]
    of_mlp = sizes.has_lean_mlps and name == "down_proj"
    return of_mlp or (has_lean_norms(config, sizes) and name in (*_OF_NORMS, "o_proj"))


def count_backward_work(config: TrialConfig, sizes: Skeleton, is_adapted: bool, dtype_bytes: int) -> tuple[int, int]:
    """Bytes per token on top of what is saved while the gradient of a layer is taken, and those beside its dequantized
    matrix: of a lean SwiGLU the gradient of what its last matrix reads, and where that `is_adapted` the adapter's, too.
    """
    e, h, i = dtype_bytes, sizes.hidden_size, sizes.intermediate_size
    gated = IN_WORK * e * i
    if not sizes.has_lean_mlps or not has_lean_norms(config, sizes):
        work = max(gated, _NORM_IN_WORK * FP32_BYTES * h if find_block(sizes).in_32_bits else 0)
        return work, work
    norm = _LEAN_NORM_IN_WORK * FP32_BYTES * h - 2 * e * i  # by then the MLP's own have gone
    adapter = (FP32_BYTES + e) * i + e * h if is_adapted and e < FP32_BYTES else 0  # in 32 bits, and in 16
    return max(gated, norm, adapter), (2 if is_adapted else 1) * e * i + e * h
