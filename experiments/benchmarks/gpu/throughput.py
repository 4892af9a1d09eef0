"""Tokens per second by micro-batch and length, what changes them, and where a step's time goes."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, Final

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile

from experiments.benchmarks.gpu.cases import Case, Row
from experiments.benchmarks.gpu.lengths import alpaca_lengths
from experiments.benchmarks.gpu.trials import LLAMA_7B, Laboratory, begun, config_of, measured_trial
from sweeplab.adapters.counting import build_skeleton, count_trainable_params
from sweeplab.config.trial import TrialConfig
from sweeplab.models.layers import find_decoder_layers, find_norm_layers
from sweeplab.planning.time import count_flops_per_token
from sweeplab.records.record import Phase
from sweeplab.trial.measurement import measure_phase
from sweeplab.trial.profile import prepare_longest_pass, time_fastest

QUANTIZATIONS: Final = ("quantization=nf4_dq", "quantization=none")
GEOMETRIES: Final = ((1, 128), (1, 512), (1, 2048), (4, 512), (4, 2048), (16, 128), (16, 512))
NUM_EXAMPLES: Final = 128  # with Alpaca's lengths
ALPACA_LENGTH: Final = 2048
ALPACA: Final = {  # one epoch, or as many tokens in fewer, longer rows
    "Alpaca's lengths, padded": ("training.max_steps=32",),
    "Alpaca's lengths, packed": ("training.max_steps=4", "data.packing=true"),
}
BACKENDS: Final = {
    "flash attention": SDPBackend.FLASH_ATTENTION,
    "memory-efficient attention": SDPBackend.EFFICIENT_ATTENTION,
    "attention by cuDNN": SDPBackend.CUDNN_ATTENTION,
    "attention written out": SDPBackend.MATH,
}
# words in the names of kernels, in the order in which they are looked for
KINDS: Final = {
    "dequantization": ("dequantize", "kdequant", "quantiz"),
    "attention": ("flash", "fmha", "attention", "softmax_warp", "sdpa"),
    "matrix products": ("gemm", "nvjet", "cutlass", "cublas", "xmma", "splitk", "gemv"),
    "copies": ("memcpy", "memset"),
}
MOST_KERNELS: Final = 12  # that a row names
MOST_NAME: Final = 120  # characters
OTHER: Final = "elementwise and the rest"

Within = Callable[[nn.Module], AbstractContextManager[None]]  # of the base, around all steps


def flops_of(config: TrialConfig, length: int) -> float:
    """Of forward and backward, per token of rows of one length; the plan's count."""
    sizes = build_skeleton(config.model)
    return count_flops_per_token(config, sizes, count_trainable_params(config.adapter, config.model, sizes), length)


def speed(lab: Laboratory, config: TrialConfig, length: int, within: Within, ceiling: float) -> Row:
    """Of forward and backward of one micro-batch, the fastest of three; an optimizer's step is not in it."""
    batch = config.training.micro_batch_size
    runs, phases = begun(lab, config, [length] * batch, [0]), dict[str, Phase]()
    with within(runs[0].base.model), measure_phase(phases, "work", lab.device), prepare_longest_pass(runs, lab) as work:
        seconds = time_fastest(work, lab.device)
    tokens_per_second = batch * length / seconds
    return {
        "step_seconds": seconds,
        "tokens_per_second": tokens_per_second,
        "share_of_ceiling": tokens_per_second * flops_of(config, length) / ceiling,
        "peak_bytes": phases["work"].peak_allocated_bytes,
    }


def plain(model: nn.Module) -> AbstractContextManager[None]:
    return nullcontext()


@contextmanager
def attending(backend: SDPBackend, model: nn.Module) -> Iterator[None]:
    with sdpa_kernel(backend):
        yield


@contextmanager
def compiled(choose: Callable[[nn.Module], Iterable[nn.Module]], model: nn.Module) -> Iterator[None]:
    """Within it the chosen modules are compiled when they are first called."""
    chosen: list[Any] = list(choose(model))
    for module in chosen:
        module.compile()
    try:
        yield
    finally:
        for module in chosen:
            module._compiled_call_impl = None
        torch._dynamo.reset()


def norms(model: nn.Module) -> list[nn.Module]:
    return list(find_norm_layers(model).values())


def layers(model: Any) -> list[nn.Module]:
    return list(find_decoder_layers(model))


def kind_of(kernel: str) -> str:
    lower = kernel.lower()
    return next((kind for kind, words in KINDS.items() if any(word in lower for word in words)), OTHER)


def sums_by_kind(kernels: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Seconds by kind of what the GPU did, of (name, seconds)."""
    sums = dict.fromkeys((*KINDS, OTHER), 0.0)
    for name, seconds in kernels:
        sums[kind_of(name)] += seconds
    return sums


def is_kernel(event: Any) -> bool:
    """Of the profiler's averages: what ran on the GPU, annotations of ranges left out."""
    return event.device_type.name == "CUDA" and not event.is_user_annotation


def shares(lab: Laboratory, config: TrialConfig, length: int) -> Row:
    """Where the time of a step goes: kernels by kind, and what the GPU waited for, as shares of the wall time.

    The wall time is that of steps without the profiler, which slows the launches that it counts.
    """
    runs = begun(lab, config, [length] * config.training.micro_batch_size, [0])
    on_gpu = lab.device.type == "cuda"
    with prepare_longest_pass(runs, lab) as work:
        wall = time_fastest(work, lab.device)
        with profile(
            activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU], acc_events=True
        ) as profiled:
            work()
            if on_gpu:
                torch.cuda.synchronize(lab.device)
    events = profiled.key_averages()
    kernels = [(one.key, one.self_device_time_total / 1e6, one.count) for one in events if is_kernel(one)]
    kernels.sort(key=lambda one: -one[1])
    sums = sums_by_kind((name, seconds) for name, seconds, _ in kernels)
    return {
        "step_seconds": wall,
        "kernel_seconds": sums,
        "num_kernels": sum(count for _, _, count in kernels),
        "waiting_seconds": max(0.0, wall - sum(sums.values())),  # for launches
        "longest_kernels": [
            {"name": name[:MOST_NAME], "seconds": seconds, "count": count}
            for name, seconds, count in kernels[:MOST_KERNELS]
        ],
    }


def alpaca_speed(lab: Laboratory, config: TrialConfig) -> Row:
    """Of a training as a trial does it, on examples with Alpaca's lengths."""
    record = measured_trial(lab, config, alpaca_lengths(NUM_EXAMPLES))
    phase = record.phases["train"]
    return {
        "tokens_per_second": record.tokens_per_second,
        "num_steps": record.step,
        "train_seconds": phase.seconds,
        "peak_bytes": phase.peak_allocated_bytes,
    }


def cases(
    lab: Laboratory,
    ceiling: float,
    shape: Sequence[str] = LLAMA_7B,
    geometries: Sequence[tuple[int, int]] = GEOMETRIES,
) -> list[Case]:
    """The grid of each quantization, then what changes one of its points, the profile and Alpaca's lengths."""
    made = []
    for quantization in QUANTIZATIONS:
        name = quantization.partition("=")[2]

        def config(batch: int, length: int, *more: str, quantization: str = quantization) -> TrialConfig:
            sizes = (f"training.micro_batch_size={batch}", f"training.max_length={length}")
            return config_of(shape, quantization, *sizes, *more)

        def add(
            title: str, seconds: float, geometry: tuple[int, int], measure: Callable[[], Row], name: str = name
        ) -> None:
            facts = {"quantization": name, "micro_batch_size": geometry[0], "length": geometry[1], "what": title}
            made.append(Case(f"{name}, {geometry[0]} x {geometry[1]}, {title}", seconds, facts, measure))

        for place, one in enumerate(geometries):
            add("plain", 25 if place == 0 else 6, one, partial(speed, lab, config(*one), one[1], plain, ceiling))
        for one in (geometries[1], geometries[2]):
            add("profile", 12, one, partial(shares, lab, config(*one), one[1]))
        long = geometries[2]
        checkpointed = config(*long, "training.gradient_checkpointing=true")
        add("checkpointing", 6, long, partial(speed, lab, checkpointed, long[1], plain, ceiling))
        for title, backend in BACKENDS.items():
            within = partial(attending, backend)
            add(title, 6, long, partial(speed, lab, config(*long), long[1], within, ceiling))
        for title, packed in ALPACA.items():
            add(title, 20, (4, ALPACA_LENGTH), partial(alpaca_speed, lab, config(4, ALPACA_LENGTH, *packed)))
        for title, choose in (("norms compiled", norms), ("layers compiled", layers)):
            within = partial(compiled, choose)
            add(
                title, 60, geometries[1], partial(speed, lab, config(*geometries[1]), geometries[1][1], within, ceiling)
            )
    return made
