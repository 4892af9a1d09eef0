"""Computes the bytes that the forward pass keeps for the backward pass.

The count is Korthikanti et al. 2022 (arXiv 2205.05198, section 4) redone for what runs here: SDPA keeps no T x T
scores; a frozen matrix keeps nothing, since its input matters only for its own gradient; a frozen RMSNorm and SwiGLU
keep what `models/recomputation.py` says; adapters are in 32 bits. A trial that can share the base
(`config/shared_base.py`) keeps what the base's own matrices read, as it is, and nothing of what those two give; PEFT's
own layers, of those that cannot, each cast a copy of it where the base is in 16.
`tests/planning/test_activations.py` holds it against the tensors that autograd really saves.

Per token and layer, h hidden, i intermediate size, q attention width, e bytes of the compute dtype, r rank, of a slot
its bucket's:

    norms                 RMSNorm and LayerNorm e h each; RMSNorm that trains, or computes in another way, 4h (its
                          input in 32 bits); of query and key where there are, in the place of h: q + k
    attention             2 e q + 2 e k   (query, key, value, output; 4 e q where a mask makes key and value be repeated
                          to all heads), 4 a head of log-sum-exp
    MLP                   2 e i   (SwiGLU: its two factors); written otherwise 3 e i, with what the activation gives;
                          `blocks.py` has the other families'
    mask                  e T     (T tokens of the longest row; of packed rows only)
    adapter               4 r, and its input, e in_features, shared by what reads it; PEFT's in 16 bit: 4 of its own
    DoRA                  (e + 4) out_features: the matrix's own product and the adapter's, each scaled by column
    dropout               a mask, 1 byte an element; PEFT's: its own output in 32 bits and a mask, 4 bytes on a CPU
    experts               e k (3 i + h), k of them at work for a token, i of one of them; adapted: e k (h + i) more for
                          what they read, and once for a micro-batch every expert's W + s B A, e in out
    trained or int8 base  e in_features of every distinct input; trained norms: e h more each; of the last layers alone
                          nothing in the layers before them
    prefix                2 e k for each of its tokens (keys and values stand once more, joined to it), and a mask

Beside a frozen embedding the first norm keeps nothing but what adapters read, nor does a first MLP without adapters
that is parallel to its attention.
Left out: dropout that a family brings along (GPT-2, OPT).
"""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sweeplab.adapters.budget import AdaptedShape, find_rank
from sweeplab.adapters.counting import Skeleton, find_quantized_matrices
from sweeplab.config.adapter import (
    BASE_WEIGHT_METHODS,
    LoraAdapter,
    LoraPrefixAdapter,
    LowRankAdapter,
    PrefixAdapter,
    TopLayersAdapter,
)
from sweeplab.config.data import TextData
from sweeplab.config.shared_base import padded_rank, takes_vectors, why_exclusive
from sweeplab.config.trial import TrialConfig
from sweeplab.models.layers import ExpertShape, LinearShape
from sweeplab.planning.blocks import (
    FIRST_READERS,
    FP32_BYTES,
    IN_WORK,
    Block,
    count_backward_work,
    count_norm_bytes,
    count_number_bytes_of_norms,
    find_block,
    find_width,
    is_made_again,
)
from sweeplab.planning.lengths import DataExtent
from sweeplab.runtime.device import PlannedDevice


def _count_distinct_inputs(matrices: Iterable[LinearShape]) -> int:
    """Features of all inputs; one that several matrices of a block read is counted once."""
    return sum(features for _, features in {(one.name.rpartition(".")[0], one.in_features) for one in matrices})


def is_exclusive(config: TrialConfig, adapted: Iterable[AdaptedShape]) -> bool:
    """True where the trial needs the base for itself: by its settings, or since PEFT adapts parameters of the base."""
    return why_exclusive(config) is not None or any(isinstance(one, ExpertShape) for one in adapted)


def find_rank_in_memory(config: TrialConfig, name: str, device: PlannedDevice, in_slot: bool) -> int:
    """Rank that the matrix's A and B take up, once the adapter's budget is resolved (`budget.fit_to_budget`).

    Where the optimizer takes a slot as one vector, that is the bucket's rank, whoever trains beside it; on a GPU only
    where the matrices have several ranks."""
    assert isinstance(config.adapter, LowRankAdapter)
    rank = find_rank(config.adapter, name)
    if not in_slot or not takes_vectors(config) or (device.kind == "cuda" and not config.adapter.rank_pattern):
        return rank
    return padded_rank(rank)


def _count_adapter_copies_bytes(config: TrialConfig, adapted: Sequence[AdaptedShape], device: PlannedDevice) -> int:
    """Bytes per token that all adapters keep in addition to shared inputs. Those of parameters keep nothing a token."""
    adapter, e, in_slot = config.adapter, device.dtype.itemsize, not is_exclusive(config, adapted)
    linears = _leave_parameters_out(adapted)
    ranks = FP32_BYTES * sum(find_rank_in_memory(config, one.name, device, in_slot) for one in linears)
    features = sum(one.in_features for one in linears)
    if isinstance(adapter, LoraAdapter) and adapter.dora:
        ranks += (e + FP32_BYTES) * sum(one.out_features for one in linears)
    if in_slot:
        return ranks + (features if adapter.has_dropout() else 0)
    if adapter.has_dropout():
        mask_bytes = 1 if device.kind == "cuda" else FP32_BYTES
        return ranks + (FP32_BYTES + mask_bytes) * features
    return ranks + (FP32_BYTES * features if e < FP32_BYTES else 0)


def _count_kept_inputs_bytes(
    config: TrialConfig, sizes: Skeleton, adapted: Sequence[AdaptedShape], device: PlannedDevice
) -> int:
    """Bytes per token of the inputs of matrices that are kept for the backward pass, for the whole model."""
    e = device.dtype.itemsize
    if config.adapter.method in BASE_WEIGHT_METHODS:
        normed = e * sizes.hidden_size if find_block(sizes).in_32_bits else 0
        return e * _count_distinct_inputs(sizes.linears) + (find_block(sizes).norms * sizes.num_layers + 1) * normed
    copies = _count_adapter_copies_bytes(config, adapted, device)
    shared = not is_exclusive(config, adapted) or (not config.adapter.has_dropout() and e == FP32_BYTES)
    in_place = _leave_parameters_out(adapted) if shared else []
    if not is_exclusive(config, adapted):
        in_place = [one for one in in_place if not is_made_again(config, sizes, one)]
    int8 = [one for scheme, one in find_quantized_matrices(config.quantization, sizes) if scheme == "int8"]
    # bitsandbytes keeps the inputs of int8
    return copies + e * (_count_distinct_inputs([*in_place, *int8]) + _count_parameter_inputs(sizes, adapted))


def _leave_parameters_out(adapted: Iterable[AdaptedShape]) -> list[LinearShape]:
    return [one for one in adapted if isinstance(one, LinearShape)]


def _count_parameter_inputs(sizes: Skeleton, adapted: Iterable[AdaptedShape]) -> int:
    """Features per token of what adapted parameters read: the experts of a block, as many as are at work."""
    experts = {one.name for one in sizes.experts}
    return sum(
        one.in_features * (sizes.num_active_experts if one.name in experts else 1)
        for one in adapted
        if isinstance(one, ExpertShape)
    )


def count_effective_bytes(adapted: Iterable[AdaptedShape], dtype_bytes: int) -> list[int]:
    """W + scaling B A of every adapted parameter, which its product reads in the place of W."""
    experts = (one for one in adapted if isinstance(one, ExpertShape))
    return [dtype_bytes * one.num_experts * one.in_features * one.out_features for one in experts]


def _count_unrepeated(sizes: Skeleton, query: int) -> int:
    """Features that key and value have less where they are not repeated to all heads, as without a mask.

    Of a fused product the value is a view, which keeps all of it.
    """
    fused = next((one.out_features for one in sizes.linears if one.name.endswith(".qkv_proj")), None)
    if fused is not None:
        return 2 * query - (fused - query) // 2 - fused
    return 2 * (query - find_width(sizes, "k_proj"))


def _count_mlp_features(sizes: Skeleton, block: Block) -> float:
    """Numbers per token that the MLP of a layer keeps, on average over the layers; in some of them it is experts."""
    lean = min(block.mlp, 2) if sizes.has_lean_mlps else block.mlp
    dense = lean * sizes.intermediate_size
    downs = [one for one in sizes.experts if one.name.endswith("down_proj")]
    if not downs:
        return dense
    width = downs[0].in_features
    shared = next((one.out_features for one in sizes.linears if re.search(r"shared_experts?\.up_proj$", one.name)), 0)
    experts = sizes.num_active_experts * (block.mlp * width + sizes.hidden_size) + lean * shared
    return (len(downs) * experts + (sizes.num_layers - len(downs)) * dense) / sizes.num_layers


def _count_layer_bytes(config: TrialConfig, sizes: Skeleton, mask_length: int, dtype_bytes: int) -> int:
    """Bytes per token of norms, attention, mask and MLP of one layer."""
    block, e = find_block(sizes), dtype_bytes
    between = 0
    if block.query_key_norms:
        features = find_width(sizes, "q_proj") + find_width(sizes, "k_proj")
        between = count_number_bytes_of_norms(config, sizes, e) * features
    query = find_width(sizes, "q_proj")
    attention = e * (block.attention * query - (0 if mask_length else _count_unrepeated(sizes, query)))
    attention += FP32_BYTES * sizes.num_heads
    mlp = e * round(_count_mlp_features(sizes, block))
    return block.norms * count_norm_bytes(config, sizes, e) + between + attention + mlp + e * mask_length


def count_prefix_tokens(config: TrialConfig) -> int:
    """Tokens whose keys and values stand before those of every example, in every layer."""
    adapter = config.adapter
    return adapter.num_virtual_tokens if isinstance(adapter, PrefixAdapter | LoraPrefixAdapter) else 0


def count_prefix_cache_bytes(config: TrialConfig, sizes: Skeleton, num_tokens: int, dtype_bytes: int) -> int:
    """Keys and values of so many tokens of one example in all layers; 0 without a prefix."""
    return 2 * dtype_bytes * sizes.key_size * sizes.num_layers * num_tokens if count_prefix_tokens(config) else 0


class Activations(NamedTuple):
    """Bytes of one micro-batch whose examples are all as long as the longest one, without logits."""

    saved: int  # at the end of the forward pass
    forward_work: int  # on top in the last layer's MLP: its product and the residual; with checkpointing all of it
    backward_work: int  # on top while a layer's gradient is taken; with checkpointing the layer itself, computed again
    backward_beside_matrix: int  # of that what stands beside a dequantized matrix


def forecast_activations(
    config: TrialConfig, sizes: Skeleton, adapted: Sequence[AdaptedShape], extent: DataExtent, device: PlannedDevice
) -> Activations:
    """What stands for the backward pass, the adapter's rank being settled. With gradient checkpointing: the input of
    every layer and of the last norm."""
    e, training, block = device.dtype.itemsize, config.training, find_block(sizes)
    tokens = training.micro_batch_size * extent.longest
    is_packed = isinstance(config.data, TextData) and config.data.packing
    prefix_length = count_prefix_tokens(config)
    mask_length = extent.longest + prefix_length if is_packed or prefix_length else 0  # other rows have no mask
    layer = _count_layer_bytes(config, sizes, mask_length, e)
    kept = _count_kept_inputs_bytes(config, sizes, adapted, device)
    is_adapted = any(one.name.endswith("down_proj") for one in _leave_parameters_out(adapted))
    work, beside_matrix = count_backward_work(config, sizes, is_adapted, e)
    last_norm = count_norm_bytes(config, sizes, e)
    residual = 2 * e * sizes.hidden_size
    effective = count_effective_bytes(adapted, e)
    gradient = max(effective, default=0)  # of one of them at a time
    if training.gradient_checkpointing:
        inputs = sizes.num_layers * e * sizes.hidden_size
        forward_work = IN_WORK * e * sizes.intermediate_size + residual
        layer_again = layer + kept // sizes.num_layers
        one_layer = sum(effective) // sizes.num_layers
        return Activations(
            tokens * (inputs + last_norm),
            tokens * forward_work + one_layer,
            tokens * (layer_again + work) + one_layer + gradient,
            tokens * (layer_again + beside_matrix) + one_layer + gradient,
        )
    stack = sizes.num_layers * layer + kept + last_norm
    if isinstance(config.adapter, TopLayersAdapter):
        num_layers = min(config.adapter.num_layers, sizes.num_layers)
        stack = num_layers * (layer + kept // sizes.num_layers) + last_norm
    elif config.adapter.method != "none":
        idle = block.parallel and not (isinstance(config.adapter, LowRankAdapter) and config.adapter.lora_mlp)
        is_read = not is_exclusive(config, adapted) and any(
            is_made_again(config, sizes, one) and one.name.endswith(FIRST_READERS)
            for one in _leave_parameters_out(adapted)
        )
        stack -= (0 if is_read else last_norm) + (block.mlp * e * sizes.intermediate_size if idle else 0)
    forward_work = e * sizes.intermediate_size + residual
    joined = training.micro_batch_size * count_prefix_cache_bytes(config, sizes, prefix_length, e)
    return Activations(
        tokens * stack + joined + sum(effective),
        tokens * forward_work,
        tokens * work + gradient,
        tokens * beside_matrix + gradient,
    )
