"""Computes the memory at each moment of a trial, and finds the moment that needs the most.

Parts come and go: the logits are gone before a layer's gradient is taken, gradients arrive while activations leave, and
Lightning frees the last step's gradients only after the next forward pass. So the peak is the largest sum over
the parts of one moment, not the sum of every part's peak. `tests/planning/test_phases.py` holds it against the bytes of
all live tensors of a real step.
"""

import math
from dataclasses import replace
from itertools import pairwise
from typing import Final, NamedTuple

from sweeplab.adapters.budget import AdaptedShape, count_matrices, find_rank, fit_to_budget
from sweeplab.adapters.counting import Skeleton, count_trainable_params, find_quantized_matrices
from sweeplab.config.adapter import BASE_WEIGHT_METHODS, LowRankAdapter, PromptAdapter
from sweeplab.config.shared_base import takes_vectors
from sweeplab.config.trial import TrialConfig
from sweeplab.data.batches import MOST_HELDOUT_TOKENS
from sweeplab.models.row_limits import ATTENTION_BLOCK
from sweeplab.planning.activations import (
    count_effective_bytes,
    count_prefix_cache_bytes,
    count_prefix_tokens,
    find_rank_in_memory,
    forecast_activations,
    is_exclusive,
)
from sweeplab.planning.blocks import FP32_BYTES, IN_WORK
from sweeplab.planning.lengths import DataExtent
from sweeplab.planning.loss import ScoredRows, forecast_logits
from sweeplab.planning.memory import (
    CPU_PROCESS_BYTES,
    MemoryParts,
    count_entries,
    count_optimizer_bytes,
    count_scale_bytes,
    count_weight_bytes,
    find_adapted_matrices,
)
from sweeplab.runtime.device import CUDA_CONTEXT_BYTES, PlannedDevice

_TRAINING: Final = ("forward", "loss", "backward", "step")


def _count_positions(config: TrialConfig, extent: DataExtent) -> int:
    """Logits of the longest example: one for each token, or one for an image."""
    return extent.most_targets if config.data.is_images() else extent.longest


class MemoryForecast(NamedTuple):
    """The parts of the memory at each moment of a trial."""

    load: MemoryParts
    forward: MemoryParts  # its end: the last layer, or the loss
    loss: MemoryParts  # its gradient
    backward: MemoryParts  # the last layer's gradient, or of checkpointing the largest
    step: MemoryParts  # of the optimizer
    evaluation: MemoryParts  # of the held-out loss
    context_bytes: int  # beside all of them; 0 on a CPU

    def moments(self) -> dict[str, MemoryParts]:
        return {name: parts for name, parts in self._asdict().items() if isinstance(parts, MemoryParts)}

    @property
    def training_moment(self) -> str:
        """The moment of training that needs the most."""
        return max(_TRAINING, key=lambda name: getattr(self, name).total_bytes)

    @property
    def training(self) -> MemoryParts:
        """The parts at the peak that a record's phase `train` measures."""
        parts: MemoryParts = getattr(self, self.training_moment)
        return parts

    @property
    def highest_phase(self) -> str:
        """load, train or evaluate, as a record names them."""
        phases = {"load": self.load, "train": self.training, "evaluate": self.evaluation}
        return max(phases, key=lambda name: phases[name].total_bytes)

    @property
    def needed_bytes(self) -> int:
        """What a device must have free: the highest phase, and a GPU's context beside PyTorch's allocator."""
        highest = max(self.load.total_bytes, self.training.total_bytes, self.evaluation.total_bytes)
        return highest + self.context_bytes


def _keep_one_device_share(config: TrialConfig) -> TrialConfig:
    """The trial as one of `training.num_devices` has it: its share of every micro-batch's rows."""
    training = config.training
    rows = training.micro_batch_size // training.num_devices
    return config.replaced(training=training.replaced(micro_batch_size=rows))


def forecast_base(config: TrialConfig, sizes: Skeleton, device: PlannedDevice) -> MemoryParts:
    """Every weight and scale of the base, as `measure_storage` finds them."""
    e, quantized = device.dtype.itemsize, find_quantized_matrices(config.quantization, sizes)
    as_it_was = sizes.num_params - sum(count_entries(one) for _, one in quantized)  # embeddings, norms, biases, head
    return MemoryParts(
        base_weights_bytes=as_it_was * e + sum(count_weight_bytes(config.quantization, *one) for one in quantized),
        quantization_scales_bytes=sum(count_scale_bytes(config.quantization, *one, e) for one in quantized),
    )


def _count_layer_weight_bytes(config: TrialConfig, sizes: Skeleton, device: PlannedDevice) -> int:
    """Weights of one layer."""
    quantized = find_quantized_matrices(config.quantization, sizes)
    packed = sum(count_weight_bytes(config.quantization, *one) for one in quantized) // sizes.num_layers
    as_it_was = sizes.num_params_per_layer - sum(count_entries(one) for _, one in quantized) // sizes.num_layers
    return packed + as_it_was * device.dtype.itemsize


def _forecast_device_base(config: TrialConfig, sizes: Skeleton, device: PlannedDevice) -> MemoryParts:
    """The base as it stands on one device. Of fsdp a share of each weight, and whole: what is in no layer, the layer
    that computes, and the next one on its way (`training/fsdp.py`)."""
    whole = forecast_base(config, sizes, device)
    if config.training.strategy != "fsdp":
        return whole
    weights, layer = whole.base_weights_bytes, _count_layer_weight_bytes(config, sizes, device)
    return replace(
        whole,
        base_weights_bytes=math.ceil(weights / config.training.num_devices),
        gathered_bytes=weights - max(0, sizes.num_layers - 2) * layer,
    )


def _count_loading_bytes(config: TrialConfig, sizes: Skeleton, device: PlannedDevice) -> int:
    """On top of the base while it is read: a CPU holds what is to be quantized in 32 bits, a GPU one matrix of it.

    Random weights are made matrix by matrix: one, and its copy on the way into the quantized layer.
    """
    quantized = find_quantized_matrices(config.quantization, sizes)
    if config.model.random_init:
        return 2 * max((count_entries(one) for _, one in quantized), default=0) * device.dtype.itemsize
    if device.kind == "cpu":
        return FP32_BYTES * sizes.num_params if quantized else 0
    return max((count_entries(one) for _, one in quantized), default=0) * device.dtype.itemsize


def _count_step_bytes(
    config: TrialConfig, weights: list[int], entry_bytes: int, sizes: Skeleton, device: PlannedDevice
) -> int:
    """torch.optim's own copies: on CUDA of all weights at once, none where it is one fused kernel; on a CPU two of each
    weight while one of the last still stands. bitsandbytes has none."""
    if not config.optimizer.is_of_torch():
        return 0
    if device.kind == "cuda" and config.optimizer.arguments().get("fused"):
        return 0
    if device.kind == "cuda":
        return entry_bytes * sum(weights)
    if isinstance(config.adapter, LowRankAdapter):
        return entry_bytes * max(before + 2 * one for before, one in pairwise([0, *weights]))
    largest_matrix = max(sizes.vocab_size * sizes.hidden_size, *map(count_entries, sizes.linears))
    return entry_bytes * 2 * min(max(weights), largest_matrix)


def _count_evaluation_bytes(
    config: TrialConfig, sizes: Skeleton, adapted: list[AdaptedShape], extent: DataExtent, device: PlannedDevice
) -> tuple[int, int]:
    """Logits and one layer's work of the held-out loss, its examples as long as the longest for training.

    Or the adapter once more, without the padding of its slot: it is saved from PEFT's own layers.
    """
    length, dtype_bytes = extent.longest, device.dtype.itemsize
    batch = max(1, min(config.evaluation.batch_size, MOST_HELDOUT_TOKENS // length))
    scored = ScoredRows(batch, _count_positions(config, extent), extent.most_targets)
    logits = forecast_logits(sizes, scored, device, config.data.is_images()).forward
    layer = batch * length * dtype_bytes * IN_WORK * (sizes.intermediate_size + sizes.hidden_size)
    # a prefix is a cache of keys and values, to which every layer adds its own; it is gone before the logits
    layer += batch * count_prefix_cache_bytes(config, sizes, length + count_prefix_tokens(config), dtype_bytes)
    layer += sum(count_effective_bytes(adapted, dtype_bytes)) // sizes.num_layers
    saved = 0
    if isinstance(config.adapter, LowRankAdapter) and not is_exclusive(config, adapted):
        sides = ((find_rank(config.adapter, one.name), one.in_features + one.out_features) for one in adapted)
        saved = FP32_BYTES * sum(rank * features for rank, features in sides)
    return logits, max(0, layer - logits, saved - logits)


def _resolve_rank(config: TrialConfig, adapted: list[AdaptedShape]) -> TrialConfig:
    """The trial with the rank that its adapter's budget allows. Raises `ConfigError` as `fit_to_budget` does."""
    if not isinstance(config.adapter, LowRankAdapter):
        return config
    return config.replaced(adapter=fit_to_budget(config.adapter, adapted))


def _list_trained_sizes(
    config: TrialConfig, sizes: Skeleton, adapted: list[AdaptedShape], device: PlannedDevice
) -> list[int]:
    """Entries of each trained weight as it stands in memory, the adapter's rank being settled.

    Of a slot that the optimizer takes as a vector all A and all B, each matrix with its bucket's rank; else of every
    matrix A and B, and in one what trains beside them: magnitudes, biases, norms, a prefix, the base itself.
    """
    in_slot = not is_exclusive(config, adapted)
    ranks = [count_matrices(one) * find_rank_in_memory(config, one.name, device, in_slot) for one in adapted]
    a = [rank * one.in_features for rank, one in zip(ranks, adapted, strict=True)]
    b = [rank * one.out_features for rank, one in zip(ranks, adapted, strict=True)]
    if in_slot and takes_vectors(config):
        return [sum(a), sum(b)]
    beside = count_trainable_params(config.adapter, config.model, sizes) - sum(a) - sum(b)
    return [size for pair in zip(a, b, strict=True) for size in pair] + ([beside] if beside else [])


def forecast_memory(config: TrialConfig, sizes: Skeleton, extent: DataExtent, device: PlannedDevice) -> MemoryForecast:
    """Memory of one trial on one of its devices, with its longest micro-batch. Raises `ConfigError`.

    An adapter is in 32 bits with gradients and states in 32 bits, and its padding too. Without one the base itself
    trains, in the compute dtype: with AdamW four times its weights, 8 bytes a parameter in 16 bit.
    """
    if isinstance(config.adapter, PromptAdapter):  # its tokens stand before those of every example
        extent = extent._replace(longest=extent.longest + config.adapter.num_virtual_tokens)
    adapted = find_adapted_matrices(config.adapter, config.model, sizes)
    in_slot = not is_exclusive(config, adapted)
    if in_slot and device.dtype.itemsize < FP32_BYTES and not config.data.is_images():
        extent = extent._replace(longest=-(-extent.longest // ATTENTION_BLOCK) * ATTENTION_BLOCK)
    config = _resolve_rank(_keep_one_device_share(config), adapted)
    e, training = device.dtype.itemsize, config.training
    full = config.adapter.method == "none"
    entry_bytes = e if full else FP32_BYTES
    weights = _list_trained_sizes(config, sizes, adapted, device)
    trained = sum(weights)
    quantized = find_quantized_matrices(config.quantization, sizes)
    scored = ScoredRows(training.micro_batch_size, _count_positions(config, extent), extent.most_targets)
    adapts_head = any(map(sizes.is_head, adapted))
    logits = forecast_logits(sizes, scored, device, config.data.is_images(), adapts_head)
    kept = forecast_activations(config, sizes, adapted, extent, device)
    dequantized = max((count_entries(one) for _, one in quantized), default=0) * e
    evaluation_logits, evaluation_work = _count_evaluation_bytes(config, sizes, adapted, extent, device)

    process_bytes = CPU_PROCESS_BYTES if device.kind == "cpu" else 0
    base = replace(_forecast_device_base(config, sizes, device), process_bytes=process_bytes)
    loaded = replace(forecast_base(config, sizes, device), process_bytes=process_bytes)
    if training.strategy == "fsdp" and device.kind == "cuda":  # it is read on the CPU, and comes layer by layer
        loaded = base
    own = 0 if config.adapter.method in BASE_WEIGHT_METHODS else trained * FP32_BYTES  # those are the base's weights
    adapter = replace(base, adapter_bytes=own)
    if training.keep == "best" and device.kind == "cpu":  # a copy, which a GPU does not hold
        adapter = replace(adapter, adapter_bytes=own + trained * entry_bytes)
    begun = replace(adapter, optimizer_bytes=count_optimizer_bytes(config.optimizer.to_dict(), weights, entry_bytes))
    stepped = replace(begun, gradients_bytes=trained * entry_bytes)
    stay = training.accumulation > 1 or in_slot  # a slot's gradients have their place at all times
    in_loss = replace(stepped, activations_bytes=kept.saved, logits_bytes=logits.forward)
    in_last_layer = replace(
        stepped, activations_bytes=kept.saved, workspace_bytes=kept.forward_work, dequantized_bytes=dequantized
    )
    backward_work = max(kept.backward_beside_matrix, kept.backward_work - dequantized)
    again = replace(stepped if stay else begun, activations_bytes=kept.saved)
    # states stay until the trial has ended, and gradients until the adapter goes; on a GPU a slot's go with training
    evaluated = begun if in_slot and device.kind == "cuda" else stepped
    return MemoryForecast(
        load=replace(loaded, workspace_bytes=_count_loading_bytes(config, sizes, device)),
        forward=max(in_last_layer, in_loss, key=lambda parts: parts.total_bytes),
        loss=replace(again, logits_bytes=logits.backward),
        backward=replace(again, workspace_bytes=backward_work, dequantized_bytes=dequantized),
        step=replace(stepped, workspace_bytes=_count_step_bytes(config, weights, entry_bytes, sizes, device)),
        evaluation=replace(evaluated, logits_bytes=evaluation_logits, workspace_bytes=evaluation_work),
        context_bytes=CUDA_CONTEXT_BYTES if device.kind == "cuda" else 0,
    )
