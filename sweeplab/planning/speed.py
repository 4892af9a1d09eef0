"""Measures in about a second what a pass takes on this machine: the model's own layers, quantized as they will be.

A model of one and one of two layers, with random weights, say what a layer takes and what the rest does; what the whole
model takes follows. A small model is measured whole.
"""

import time
import warnings
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import torch
from torch import nn
from transformers import PreTrainedModel

from sweeplab.adapters.attach import attach_adapter
from sweeplab.adapters.counting import Skeleton
from sweeplab.config.adapter import LowRankAdapter
from sweeplab.config.trial import TrialConfig
from sweeplab.data.batches import Batch, collate_tokens
from sweeplab.data.tokens import IGNORED, Tokens
from sweeplab.models.base import load_tokenizer, read_architecture
from sweeplab.models.layers import list_quantizable_shapes
from sweeplab.models.quantization.schemes import choose_schemes, keep_packing
from sweeplab.models.random_weights import fill_layers, make_empty_model
from sweeplab.planning.lengths import DataExtent
from sweeplab.planning.tasks import NO_TASKS, EvaluationWork
from sweeplab.runtime.device import PlannedDevice
from sweeplab.runtime.errors import ConfigError
from sweeplab.training.module import sum_target_losses

_SECONDS: Final = 0.4  # for the passes of one model, after one that is not counted
_MOST_PASSES: Final = 20
_MOST_TOKENS: Final = 1024  # of the measured batches; a larger one takes proportionally longer
_MOST_PARAMS: Final = 100_000_000  # of a model of two layers, so that it is made in seconds
_WHOLE_PARAMS: Final = 5_000_000  # of a model that is measured whole
_WRITTEN_STEPS: Final = 9


class PassSeconds(NamedTuple):
    """Seconds for a token of the mean micro-batch, the fastest of a few passes, where nothing else runs."""

    train: float  # forward and backward
    evaluate: float  # forward and loss, without a gradient
    load: float  # of the whole model, once
    write: float = 0.0  # of the next token of a whole batch of texts; 0 where no task has any written


class _Measured(NamedTuple):
    build: float
    train: float
    evaluate: float
    write: float


def measure_passes(
    config: TrialConfig,
    sizes: Skeleton,
    extent: DataExtent,
    device: PlannedDevice,
    num_threads: int | None,
    work: EvaluationWork | None = None,
    known: PassSeconds | None = None,
) -> PassSeconds | None:
    """None where it is not measured: on a GPU, for images, and for layers that are too large to make in a second.

    `work`: of the trial's tasks, whose batches of texts are written as they will be. `known`: of a setting that differs
    in its adapter only, for which training alone is measured.
    """
    rest = sizes.num_params - sizes.num_layers * sizes.num_params_per_layer
    small = sizes.num_params <= _WHOLE_PARAMS
    fits = small or rest + 2 * sizes.num_params_per_layer <= _MOST_PARAMS
    if device.kind != "cpu" or config.data.is_images() or not fits or config.training.num_devices > 1:
        return None
    length = max(2, round(extent.mean))
    batches = _Batches(
        _make_batch(config.training.micro_batch_size, length, extent.target_share),
        _make_batch(config.evaluation.batch_size, length, extent.target_share),
    )
    threads_before = torch.get_num_threads()
    torch.set_num_threads(num_threads or threads_before)
    try:
        counts = [sizes.num_layers] if small else [1, 2]
        asked = None if known else work or NO_TASKS
        measured = [_measure_layers(config, count, batches, device.dtype, asked) for count in counts]
    finally:
        torch.set_num_threads(threads_before)
    first, last = measured[0], measured[-1]
    beyond = sizes.num_layers - counts[0]
    whole = _Measured(*(one + beyond * max(0.0, two - one) for one, two in zip(first, last, strict=True)))
    train = whole.train / batches.train.ids_BT.numel()
    if known is not None:
        return known._replace(train=train)
    return PassSeconds(train, whole.evaluate / batches.evaluate.ids_BT.numel(), whole.build, whole.write)


class _Batches(NamedTuple):
    train: Batch
    evaluate: Batch


def _make_batch(num_rows: int, length: int, target_share: float) -> Batch:
    """Rows of one length with such a share of targets, of at most `_MOST_TOKENS` in all."""
    rows = max(1, min(num_rows, _MOST_TOKENS // length))
    num_targets = min(length - 1, max(1, round(target_share * length)))
    generator = torch.Generator().manual_seed(0)
    made = []
    for _ in range(rows):
        ids = torch.randint(2, 64, (length,), generator=generator).tolist()
        made.append(Tokens(ids, [IGNORED] * (length - num_targets) + ids[length - num_targets :]))
    return collate_tokens(made, 0, 1)


def _measure_layers(
    config: TrialConfig, num_layers: int, batches: _Batches, dtype: torch.dtype, work: EvaluationWork | None
) -> _Measured:
    """Seconds of the passes of a model with so many layers; of training alone where no `work` is given."""
    models: list[PreTrainedModel] = []
    build = _measure(lambda: models.append(_build(config, num_layers, dtype)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of what PEFT asks transformers for
        trained = _attach(models[0], config)

    def train() -> None:
        with torch.enable_grad():
            sum_target_losses(trained, batches.train).backward()

    def evaluate() -> None:
        with torch.no_grad():
            sum_target_losses(trained, batches.evaluate)

    if work is None:
        return _Measured(build, _time(train), 0.0, 0.0)
    return _Measured(build, _time(train), _time(evaluate), _time_writing(trained, config, work))


def _time_writing(model: Any, config: TrialConfig, work: EvaluationWork) -> float:
    """Seconds in which a batch of texts gets its next token, as lm-eval has it written; 0 where nothing is."""
    if work.written_rows == 0:
        return 0.0
    from lm_eval.models.huggingface import HFLM

    lm: Any = HFLM(pretrained=model, backend="causal", tokenizer=load_tokenizer(config.model))
    ids = torch.randint(2, 64, (work.written_rows, work.written_after))
    mask = torch.ones_like(ids)

    def write(num_steps: int) -> None:
        options: dict[str, Any] = {"attention_mask": mask, "min_new_tokens": num_steps}
        with torch.no_grad():  # a text that ends with a line, as most tasks have it
            lm._model_generate(ids, work.written_after + num_steps, ["\n"], **options)

    write(1)  # what comes only once
    first, all_steps = _measure(lambda: write(1)), _measure(lambda: write(_WRITTEN_STEPS))
    return max(0.0, all_steps - first) / (_WRITTEN_STEPS - 1)


def _build(config: TrialConfig, num_layers: int, dtype: torch.dtype) -> PreTrainedModel:
    """The base with so many layers and random weights, frozen."""
    architecture = read_architecture(config.model)
    architecture.get_text_config().num_hidden_layers = num_layers
    skeleton = make_empty_model(architecture, dtype)
    schemes = choose_schemes(config.quantization, list_quantizable_shapes(skeleton))
    model = fill_layers(skeleton, schemes, config.quantization, dtype, torch.device("cpu"))
    keep_packing(model)  # as a worker's base, which bitsandbytes would refuse to repack in odd sizes
    model.requires_grad_(False)
    return model


def _attach(model: PreTrainedModel, config: TrialConfig) -> nn.Module:
    """The model with the trial's adapter, or as one that hands gradients down to its embedding."""
    if isinstance(config.adapter, LowRankAdapter) and config.adapter.budget is None:
        try:
            return attach_adapter(model, config.adapter, config.model, 0)
        except ConfigError:  # a pattern that names a layer beyond
            pass
    embedding: Any = model.get_input_embeddings()
    embedding.register_forward_hook(lambda *given: given[2].requires_grad_())
    return model


def _time(work: Callable[[], None]) -> float:
    """Seconds of the fastest call, as if nothing else ran on the machine."""
    first = _measure(work)
    if first > 2 * _SECONDS:  # what comes only once is little of it
        return first
    fastest, used = float("inf"), 0.0
    for _ in range(_MOST_PASSES):
        seconds = _measure(work)
        fastest, used = min(fastest, seconds), used + seconds
        if used > _SECONDS:
            break
    return fastest


def _measure(work: Callable[[], Any]) -> float:
    """Seconds of a call; of one thread without those in which other work had its core."""
    started, processor_started = time.perf_counter(), time.process_time()
    work()
    passed = time.perf_counter() - started
    num_threads = torch.get_num_threads()  # of several, some wait, and that is no time of others
    return min(passed, time.process_time() - processor_started) if num_threads == 1 else passed
