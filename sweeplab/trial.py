"""The life of a trial on one page: base -> adapter -> training -> evaluation -> record.

A cohort is a list of trials with one geometry, so they share a base, loaded once. A trial that fails leaves a record
that says how and where; it never takes the cohort with it.
"""

import logging
import math
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Trainer, seed_everything
from torch import nn

from sweeplab.config import ConfigError, DataConfig, ExecutorConfig, TrainingConfig, TrialConfig
from sweeplab.data.batches import Row, heldout_batches, train_loader
from sweeplab.data.images import heldout_images, load_images
from sweeplab.data.packing import pack
from sweeplab.data.sources import load_splits
from sweeplab.data.tokens import tokenize
from sweeplab.digits import DIGITS_TASKS
from sweeplab.evaluation.harness import Evaluation, run_lm_eval
from sweeplab.evaluation.heldout import heldout_loss
from sweeplab.evaluation.images import score_images
from sweeplab.measure import measured
from sweeplab.models.adapters import attach, detach, keeps_base, save_adapter
from sweeplab.models.base import Base, load_base
from sweeplab.models.lora import effective_layers
from sweeplab.models.quantization import resolve_device, resolve_precision
from sweeplab.models.vision import image_size, refuse_other_family
from sweeplab.provenance import provenance
from sweeplab.records import HeldoutPoint, Status, TrialRecord
from sweeplab.store import write_json_lines, write_text
from sweeplab.training.callbacks import HeldoutCurve, LossCurve
from sweeplab.training.module import Diverged, FinetuneModule, target_loss_sum
from sweeplab.training.optimizers import rate_factor

Observe = Callable[[int, int, dict[str, float]], None]  # trial number, optimizer step, metrics by name


class TrialSpec(NamedTuple):
    """One trial to run: a resolved configuration and a seed."""

    number: int
    seed: int
    params: dict[str, Any]
    config: TrialConfig
    folder: Path


class Tokenized(NamedTuple):
    """A trial's data as tokens, and what happened to it on the way."""

    train: Sequence[Row]
    heldout: Sequence[Row]
    num_truncated: int
    fingerprint: str
    num_dropped: int = 0
    num_examples: int | None = None  # to train on, with those that were dropped


@dataclass
class Workbench:
    """What trials of one worker share: the device, and the base of the last trial, kept for the next."""

    device: torch.device
    base_key: dict[str, Any] | None = None
    base: Base | None = None
    tokenized: dict[str, Tokenized] = field(default_factory=dict)

    @classmethod
    def open(cls, executor: ExecutorConfig) -> "Workbench":
        if executor.num_threads is not None:
            torch.set_num_threads(executor.num_threads)
        return cls(resolve_device(executor.device))

    def base_for(self, config: TrialConfig) -> Base:
        """The base of `config`, loaded only where the last trial had another one. Raises `ConfigError`."""
        dtype = resolve_precision(config.training.precision, self.device)
        key = {"model": asdict(config.model), "quantization": asdict(config.quantization), "dtype": str(dtype)}
        if self.base is None or self.base_key != key:
            self.forget_base()
            self.base = load_base(config.model, config.quantization, dtype, self.device)
            self.base_key = key
        return self.base

    def forget_base(self) -> None:
        """Frees the base, so that two never stand in memory, and none is reused after a trial changed or broke it."""
        self.base, self.base_key = None, None
        self.tokenized.clear()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def tokens_for(self, config: TrialConfig, base: Base) -> Tokenized:
        """The data of `config` in `base`'s tokens. Raises `ConfigError` for data that cannot be used."""
        data, length = config.data, config.training.max_length
        refuse_other_family(base.model.config, data)
        key = f"{data} {length}"
        if key not in self.tokenized and data.is_images():
            self.tokenized = {key: image_rows(data, base)}
        elif key not in self.tokenized:
            splits = load_splits(data)
            train, heldout = (
                tokenize(part, base.tokenizer, data.style, data.mask_prompt, length)
                for part in (splits.train, splits.heldout)
            )
            rows: Sequence[Row] = train.examples
            if data.packing:
                refuse_unpackable(base, length)
                rows = pack(train.examples, length)
            counts = (train.num_truncated, splits.fingerprint, train.num_dropped, len(splits.train))
            self.tokenized = {key: Tokenized(rows, heldout.examples, *counts)}
        return self.tokenized[key]


def image_rows(data: DataConfig, base: Base) -> Tokenized:
    """The images of `data` at the size that `base` reads. Raises `ConfigError` for a model with too few classes."""
    splits = load_images(data, image_size(base.model.config))
    return Tokenized(splits.train, splits.heldout, 0, splits.fingerprint, num_examples=len(splits.train))


def refuse_unpackable(base: Base, max_length: int) -> None:
    """A window of attention would be lost: packed rows bring their own mask. Raises `ConfigError`."""
    window = getattr(base.model.config, "sliding_window", None)
    if window is not None and window < max_length:
        raise ConfigError(
            f"data.packing=true does not keep this model's attention window of {window} tokens within "
            f"training.max_length={max_length}; choose data.packing=false, or a max_length up to the window"
        )


def num_steps(training: TrainingConfig, num_windows: int) -> int:
    """Optimizer steps of the training: `max_steps`, or all windows of all epochs."""
    return training.max_steps if training.max_steps is not None else training.epochs * num_windows


def peak_rate(config: TrialConfig, name: str) -> float:
    """The highest learning rate that the parameter `name` sees."""
    return float(config.optimizer["lr"]) * rate_factor(name, config.adapter.lr_pattern, config.adapter.lr_ratio)


@contextmanager
def adapted(base: Base, spec: TrialSpec) -> Iterator[nn.Module]:
    """The model that trains: the base with a fresh adapter, taken off at the end; or the base itself."""
    model = attach(base.model, spec.config.adapter, spec.config.model, spec.seed)
    checkpointing = spec.config.training.gradient_checkpointing
    if checkpointing:
        base.model.gradient_checkpointing_enable({"use_reentrant": False})
    try:
        yield model
    finally:
        detach(model)
        if checkpointing:
            base.model.gradient_checkpointing_disable()
            base.model.disable_input_require_grads()  # the hook on the embedding that transformers leaves behind


def fit(
    model: nn.Module, spec: TrialSpec, bench: Workbench, base: Base, data: Tokenized, record: TrialRecord, tell: Observe
) -> None:
    """Trains `model`; losses, steps and tokens go into `record`. Raises `Diverged` for a loss that is no number."""
    training = spec.config.training
    loader = train_loader(data.train, base.pad_id, training.micro_batch_size, training.accumulation, spec.seed)
    steps = num_steps(training, loader.sampler.num_windows)  # type: ignore[attr-defined]
    adapter, optimizer, schedule = spec.config.adapter, spec.config.optimizer, spec.config.schedule
    module = FinetuneModule(
        model, optimizer, schedule, steps, training.accumulation, adapter.lr_pattern, adapter.lr_ratio
    )

    def observe(step: int, metrics: dict[str, float]) -> None:
        tell(spec.number, step, metrics | {"num_steps": steps})

    curve = LossCurve(training.log_interval, observe)
    batches = heldout_batches(data.heldout, base.pad_id, spec.config.evaluation.batch_size)
    heldout = HeldoutCurve(
        training.heldout_interval or steps, lambda: heldout_loss(model, batches, target_loss_sum, bench.device), observe
    )
    trainer = Trainer(
        accelerator="gpu" if bench.device.type == "cuda" else "cpu",
        devices=1,
        max_steps=steps,
        max_epochs=-1,
        accumulate_grad_batches=training.accumulation,
        gradient_clip_val=training.gradient_clip,
        callbacks=[curve, heldout],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    model.train()
    observe(0, {})
    try:
        trainer.fit(module, loader)
    finally:
        record.step = trainer.global_step
        record.losses, record.heldout_losses = curve.points, heldout.points
        record.num_train_tokens = module.num_tokens


def scored(model: nn.Module, config: TrialConfig, bench: Workbench, base: Base) -> Evaluation:
    """What `evaluation.tasks` ask: lm-eval's for text, accuracies for images."""
    settings = config.evaluation
    if not config.data.is_images():
        return run_lm_eval(model, base.tokenizer, settings)
    size = image_size(base.model.config)
    images = {task: heldout_images(DIGITS_TASKS[task], size)[: settings.limit] for task in settings.tasks}
    batches = {task: heldout_batches(rows, base.pad_id, settings.batch_size) for task, rows in images.items()}
    return score_images(model, batches, bench.device)


def evaluate(
    model: nn.Module, spec: TrialSpec, bench: Workbench, base: Base, data: Tokenized, record: TrialRecord
) -> None:
    """Held-out loss, the tasks' scores with their per-item results beside the record, and the adapter on disk."""
    settings = spec.config.evaluation
    batches = heldout_batches(data.heldout, base.pad_id, settings.batch_size)
    loss = heldout_loss(model, batches, target_loss_sum, bench.device)
    if not math.isfinite(loss):
        raise Diverged(f"the held-out loss became {loss} after {record.step} steps")
    record.heldout_loss_nats_per_token = loss
    record.heldout_losses.append(HeldoutPoint(record.step or 0, loss))
    if settings.tasks:
        evaluation = scored(model, spec.config, bench, base)
        record.scores = evaluation.scores
        write_json_lines(spec.folder / "items.jsonl", evaluation.items)
    if spec.config.adapter.method != "none":  # a whole model per trial would fill the disk
        record.adapter_bytes = save_adapter(model, spec.folder / "adapter")


def walk(spec: TrialSpec, bench: Workbench, record: TrialRecord, observe: Observe) -> None:
    """The trial itself; what is known so far stands in `record` at every moment."""
    record.phase = "load"
    with measured(record.phases, "load", bench.device):
        base = bench.base_for(spec.config)
        data = bench.tokens_for(spec.config, base)
    record.provenance = provenance(bench.device, base.fingerprint, data.fingerprint)
    record.num_train_examples = data.num_examples
    record.num_truncated, record.num_dropped = data.num_truncated, data.num_dropped
    seed_everything(spec.seed, verbose=False)
    with adapted(base, spec) as model:
        record.num_trainable_params = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
        record.num_total_params = base.num_params
        record.adapter_layers = effective_layers(model, lambda name: peak_rate(spec.config, name))
        record.phase = "train"
        with measured(record.phases, "train", bench.device):
            fit(model, spec, bench, base, data, record, observe)
        assert record.num_train_tokens is not None
        record.tokens_per_second = record.num_train_tokens / record.phases["train"].seconds
        record.phase = "evaluate"
        with measured(record.phases, "evaluate", bench.device):
            evaluate(model, spec, bench, base, data, record)
    record.phase = None
    record.status = Status.FINISHED


def run_trial(spec: TrialSpec, bench: Workbench, observe: Observe) -> TrialRecord:
    """One trial from configuration to record. Raises `ConfigError` only: a mistake of the user's stops the study."""
    record = TrialRecord(spec.number, Status.FAILED, spec.seed, spec.params, asdict(spec.config))
    try:
        walk(spec, bench, record, observe)
    except ConfigError:
        raise
    except Diverged as error:
        record.status, record.reason = Status.DIVERGED, str(error)
    except torch.OutOfMemoryError as error:
        record.status, record.reason = Status.OUT_OF_MEMORY, str(error).splitlines()[0]
    except Exception as error:  # the one place where an unknown failure becomes data: its traceback is kept
        record.reason = f"{type(error).__name__}: {error}".splitlines()[0]
        write_text(spec.folder / "traceback.txt", traceback.format_exc())
        logging.getLogger(__name__).exception("trial %d failed", spec.number)
    if record.status is not Status.FINISHED or not keeps_base(spec.config.adapter):
        bench.forget_base()
    return record


def run_cohort(specs: list[TrialSpec], bench: Workbench, observe: Observe) -> Iterator[TrialRecord]:
    """Records of a cohort in the order in which its trials end. Raises `ConfigError` as `run_trial` does."""
    for spec in specs:
        yield run_trial(spec, bench, observe)
