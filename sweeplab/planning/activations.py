"""What the forward pass keeps for the backward pass, by arithmetic.

The count is Korthikanti et al. 2022 (arXiv 2205.05198, section 4) redone for what runs here: SDPA keeps no T x T
scores; a frozen matrix keeps nothing, since its input matters only for its own gradient; transformers computes norms
in 32 bits; PEFT's adapters are in 32 bits, and each casts its own copy of its input where the base is in 16.
`tests/planning/test_activations.py` holds it against the tensors that autograd really saves.

Per token and layer, h hidden, i intermediate size, q attention width, e bytes of the compute dtype, r rank:

    RMSNorm x 2           4h each (32-bit input); LayerNorm: e h each; norms of query and key where there are: 4 (q + k)
    attention             4 e q   (query, key and value repeated to all heads, output)
    MLP                   3 e i   (input and output of the activation function, and its factor or its inner term);
                          e i where the function is torch's own GELU, which keeps its input alone
    mask                  e T     (T tokens of the longest example; where padding can occur)
    adapter               4 r, and its input: 4 in_features of its own in 16 bit; in 32 bit shared by what reads it
    dropout               its own output in 32 bits and a mask (1 byte an element on CUDA, 4 on a CPU)
    trained or int8 base  e in_features of every distinct input; trained RMSNorms: e h more each
"""

from collections.abc import Iterable
from typing import Final

from sweeplab.config import AdapterConfig, TrialConfig
from sweeplab.models.base import LinearShape
from sweeplab.models.counting import Skeleton
from sweeplab.planning.device import PlannedDevice
from sweeplab.planning.lengths import DataExtent

FP32_BYTES: Final = 4
NORMS_PER_LAYER: Final = 2
LAYER_NORM_TYPES: Final = ("phi", "opt", "gpt_neox", "gpt2", "vit")
ONE_TERM_MLP_TYPES: Final = ("vit",)
QUERY_KEY_NORM_TYPES: Final = ("qwen3",)


def width(sizes: Skeleton, suffix: str) -> int:
    """Output features of the first matrix with this name; the hidden size where attention is fused."""
    return next((one.out_features for one in sizes.linears if one.name.endswith(f".{suffix}")), sizes.hidden_size)


def distinct_inputs(matrices: Iterable[LinearShape]) -> int:
    """Features of all inputs, those that several matrices of one block read counted once."""
    return sum(features for _, features in {(one.name.rpartition(".")[0], one.in_features) for one in matrices})


def norm_bytes(sizes: Skeleton, dtype_bytes: int) -> int:
    if sizes.model_type in LAYER_NORM_TYPES:
        return NORMS_PER_LAYER * dtype_bytes * sizes.hidden_size
    between = FP32_BYTES * (width(sizes, "q_proj") + width(sizes, "k_proj"))
    named = between if sizes.model_type in QUERY_KEY_NORM_TYPES else 0
    return NORMS_PER_LAYER * FP32_BYTES * sizes.hidden_size + named


def adapter_copies_bytes(adapter: AdapterConfig, adapted: list[LinearShape], device: PlannedDevice) -> int:
    """What all adapters keep beside inputs that are shared, per token."""
    ranks = FP32_BYTES * adapter.rank * len(adapted)
    features = sum(one.in_features for one in adapted)
    if adapter.dropout > 0:
        mask_bytes = 1 if device.kind == "cuda" else FP32_BYTES
        return ranks + (FP32_BYTES + mask_bytes) * features
    return ranks + (FP32_BYTES * features if device.dtype.itemsize < FP32_BYTES else 0)


def kept_inputs_bytes(config: TrialConfig, sizes: Skeleton, adapted: list[LinearShape], device: PlannedDevice) -> int:
    """Inputs of matrices that stay for the backward pass, of the whole model, per token."""
    e = device.dtype.itemsize
    if config.adapter.method == "none":
        norms = 0 if sizes.model_type in LAYER_NORM_TYPES else NORMS_PER_LAYER * sizes.num_layers
        return e * (distinct_inputs(sizes.linears) + norms * sizes.hidden_size)
    copies = adapter_copies_bytes(config.adapter, adapted, device)
    if config.quantization.scheme == "int8":  # bitsandbytes keeps every input; an adapter's is among them
        return copies + e * distinct_inputs(sizes.linears)
    in_place = config.adapter.dropout == 0 and e == FP32_BYTES
    return copies + (e * distinct_inputs(adapted) if in_place else 0)


def activations_bytes(
    config: TrialConfig, sizes: Skeleton, adapted: list[LinearShape], extent: DataExtent, device: PlannedDevice
) -> int:
    """Saved for the backward pass of one micro-batch whose examples all have the longest one's tokens, logits apart.

    With gradient checkpointing: every layer's input, and one layer's activations while it is computed again.
    """
    e, training = device.dtype.itemsize, config.training
    padded = training.micro_batch_size > 1 and not config.data.is_images()
    mask = e * extent.longest if padded else 0
    attention = 4 * e * width(sizes, "q_proj")
    kept = kept_inputs_bytes(config, sizes, adapted, device) // sizes.num_layers
    mlp = (1 if sizes.model_type in ONE_TERM_MLP_TYPES else 3) * e * sizes.intermediate_size
    layer = norm_bytes(sizes, e) + attention + mlp + mask + kept
    last_norm = FP32_BYTES * sizes.hidden_size
    stack = (
        sizes.num_layers * e * sizes.hidden_size + layer
        if training.gradient_checkpointing
        else (sizes.num_layers * layer)
    )
    return training.micro_batch_size * extent.longest * (stack + last_norm)


def logits_bytes(config: TrialConfig, sizes: Skeleton, extent: DataExtent, device: PlannedDevice) -> int:
    """V (e B T + (e + 8) P): logits of all B x T positions, one an image; of the P that predict a target a copy in the
    compute dtype, one in 32 bits, and their log-softmax, which the backward pass replaces by gradients of that size."""
    e, batch = device.dtype.itemsize, config.training.micro_batch_size
    targets = batch * extent.most_targets
    positions = targets if config.data.is_images() else batch * extent.longest
    return sizes.vocab_size * (e * positions + (e + 2 * FP32_BYTES) * targets)
