"""Estimates the seconds of training with a simple model: counted operations and one short measurement."""

import math
import time
from typing import TYPE_CHECKING, Final, NamedTuple

import torch
from torch import Tensor

from sweeplab.adapters.budget import count_adapter_params, find_rank, fit_to_budget
from sweeplab.adapters.counting import Skeleton
from sweeplab.config.adapter import LowRankAdapter
from sweeplab.config.quantization import QuantizationConfig
from sweeplab.config.training import TrainingConfig
from sweeplab.config.trial import TrialConfig
from sweeplab.models.layers import ExpertShape
from sweeplab.planning.lengths import DataExtent
from sweeplab.planning.memory import find_adapted_matrices
from sweeplab.planning.tasks import EvaluationWork
from sweeplab.runtime.device import PlannedDevice

if TYPE_CHECKING:
    from sweeplab.planning.speed import PassSeconds

PROFILE_STEPS: Final = 24  # of the longest batch, as long as a worker's measurements before trials share a pass
_PROBE_SECONDS: Final = 0.15
_FOUR_BIT_SLOWDOWN: Final = 10059.53 / 6685.75  # nf4 against bf16, Llama-2-7B on an A100; Raschka 2023, Insights


class _Efficiency(NamedTuple):
    """Share of a large matrix product's speed that training reaches.

    CPU: a trial of the default rank_sweep (rank 8, nf4_dq, 200 steps of 16 x 35 tokens) took 12 s on two cores, 37e9
    FLOP/s where the probe found 140e9: its matrices are small, and its 4-bit products are in it. Other work on the
    same cores made it five times slower, which no short probe foresees. CUDA: 38 to 43 % of the peak in the training of
    Llama 3 (arXiv 2407.21783, section 3.3.2); micro-batches of one or two short examples reach a third of that or less.
    """

    cpu: float = 0.26
    cuda: float = 0.4


_EFFICIENCY: Final = _Efficiency()


def _count_entries(sizes: Skeleton, has_head: bool = True) -> tuple[float, float]:
    """Entries of the matrices that a token is multiplied with: of all but the head, and of the head. Of a block's
    experts those count that its router chooses for a token."""
    heads = [one for one in sizes.linears if has_head and sizes.is_head(one)]
    layers = sum(one.in_features * one.out_features for one in sizes.linears if one not in heads)
    experts = sum(one.in_features * one.out_features for one in sizes.experts)
    return layers + sizes.num_active_experts * experts, sum(one.in_features * one.out_features for one in heads)


class _AdaptedParameters(NamedTuple):
    """What PEFT adapts as parameters, experts in one tensor: W + s B A is computed once for a micro-batch."""

    num_trainable: int = 0  # entries of A and B
    active: int = 0  # entries of W that a token is multiplied with
    products: int = 0  # multiply-adds of all B A
    forward_products: int = 0  # of a forward, where PEFT 0.21 computes that of experts twice: on registering it, too


def _count_adapted_parameters(config: TrialConfig, sizes: Skeleton) -> _AdaptedParameters:
    if not isinstance(config.adapter, LowRankAdapter):
        return _AdaptedParameters()
    shapes = find_adapted_matrices(config.adapter, config.model, sizes)
    adapter = fit_to_budget(config.adapter, shapes)
    num_active = {one.name: sizes.num_active_experts for one in sizes.experts}
    found = [one for one in shapes if isinstance(one, ExpertShape)]
    entries = [one.in_features * one.out_features for one in found]
    products = [one.num_experts * find_rank(adapter, one.name) * size for one, size in zip(found, entries, strict=True)]
    return _AdaptedParameters(
        count_adapter_params(adapter, found),
        sum(num_active.get(one.name, 1) * size for one, size in zip(found, entries, strict=True)),
        sum(products),
        sum(size * min(one.num_experts, 2) for one, size in zip(found, products, strict=True)),
    )


def count_flops_per_token(
    config: TrialConfig, sizes: Skeleton, num_trainable: int, mean_tokens: float, target_share: float = 1.0
) -> float:
    """Floating-point operations of forward and backward, N entries of all matrices, t trained.

    The entries of the head count for the share of tokens that are targets: its logits are computed of no others, and
    once (`training/chunked_loss.py`).

    Full finetuning 6 N (Kaplan et al. 2020, arXiv 2001.08361, section 2.1). Adapter on a frozen base: 4 N, since no
    gradient of N is taken, and 6 t. Of experts N has those that the router chooses for a token. Gradient checkpointing
    adds a forward pass, 2 N and 2 t. Of what PEFT adapts as parameters the gradient is taken, 2 N, and their B A, with
    its gradients, is computed once for a micro-batch of rows of `mean_tokens`. Left out: attention's scores (less than
    5 % of it below a thousand tokens in a 7B), and everything that is no product.
    """
    again = config.training.gradient_checkpointing
    layers, head = _count_entries(sizes, has_head=not config.data.is_images())
    head *= target_share
    if config.adapter.method == "none":
        return (8 if again else 6) * layers + 6 * head
    whole = _count_adapted_parameters(config, sizes)
    of_batch = (4 if again else 2) * whole.forward_products + 4 * whole.products
    trained = (8 if again else 6) * (num_trainable - whole.num_trainable) + 2 * whole.active
    return (
        (6 if again else 4) * layers + 4 * head + trained + of_batch / (config.training.micro_batch_size * mean_tokens)
    )


def count_optimizer_steps(training: TrainingConfig, num_examples: int | None) -> int | None:
    """Optimizer steps: `max_steps`, or all windows of all epochs; None where the number of examples is unknown."""
    if training.max_steps is not None:
        return training.max_steps
    if num_examples is None:
        return None
    return training.epochs * -(-num_examples // (training.micro_batch_size * training.accumulation))


def count_train_tokens(training: TrainingConfig, extent: DataExtent) -> float | None:
    """Tokens of all steps, padding not counted; an epoch's last window may be smaller."""
    steps = count_optimizer_steps(training, extent.num_examples)
    if steps is None:
        return None
    window = training.micro_batch_size * training.accumulation
    n = extent.num_examples
    examples_per_step = window if n is None else n / -(-n // window)
    return steps * examples_per_step * extent.mean


def _multiply_matrix(matrix: Tensor) -> None:
    torch.mm(matrix, matrix)
    if matrix.is_cuda:
        torch.cuda.synchronize()


def measure_flops_per_second(device: PlannedDevice, num_threads: int | None) -> float | None:
    """Speed of a square matrix product in the device's dtype, in less than 0.3 s; None without the device."""
    if not device.present:
        return None
    size = 8192 if device.kind == "cuda" else 1024 if device.dtype is torch.float32 else 256
    threads_before = torch.get_num_threads()
    torch.set_num_threads(num_threads or threads_before)
    matrix = torch.ones(size, size, dtype=device.dtype, device=device.kind)
    _multiply_matrix(matrix)  # the first product also starts threads and libraries
    num_products, started = 0, time.perf_counter()
    while time.perf_counter() - started < _PROBE_SECONDS:
        _multiply_matrix(matrix)
        num_products += 1
    seconds = time.perf_counter() - started
    torch.set_num_threads(threads_before)
    return 2 * size**3 * num_products / seconds


def _estimate_slowdown(quantization: QuantizationConfig, device: PlannedDevice) -> float:
    """Of unpacking weights on CUDA, HQQ's as if they were nf4 (not measured); a CPU's is in its efficiency."""
    unpacks = bool(quantization.schemes() - {"none", "int8"})
    return _FOUR_BIT_SLOWDOWN if device.kind == "cuda" and unpacks else 1.0


def count_heldout_measurements(training: TrainingConfig, num_steps: int) -> int:
    """How often a trial measures its held-out loss: at the end, and before it every `heldout_interval`."""
    interval = training.heldout_interval
    if interval is None:
        return 1
    before = num_steps - 1  # the last step's is the end's
    rungs = before // interval if interval >= 1 else before / num_steps / interval + 1e-9
    return min(before, math.floor(rungs)) + 1


def share_of_layers(sizes: Skeleton, target_share: float) -> float:
    """The part of a forward's products that is not the head's, which computes targets only."""
    layers, head = _count_entries(sizes)
    return layers / (layers + target_share * head)


def estimate_task_seconds(work: EvaluationWork, passes: "PassSeconds", share: float) -> float:
    """Of all tasks of a trial alone: what is read, what is written, and lm-eval's own work. `share`: of what a token of
    the held-out loss takes, that a token of a question takes."""
    return share * passes.evaluate * work.num_tokens + passes.write * work.num_steps + work.harness_seconds


def estimate_train_seconds(
    config: TrialConfig, flops: float, tokens: float | None, device: PlannedDevice, flops_per_second: float | None
) -> float | None:
    """flops x tokens / (efficiency x measured speed), evaluation not included; None where a factor is unknown."""
    if tokens is None or flops_per_second is None:
        return None
    efficiency = _EFFICIENCY.cuda if device.kind == "cuda" else _EFFICIENCY.cpu
    return flops * tokens / (efficiency * flops_per_second) * _estimate_slowdown(config.quantization, device)
