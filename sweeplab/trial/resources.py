"""What the trials of one worker share: the device, and the base and the tokens of the last trial, kept for the next."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import psutil
import torch

from sweeplab.config.data import DigitsData, TextData
from sweeplab.config.executor import ExecutorConfig
from sweeplab.config.trial import TrialConfig
from sweeplab.data.batches import Row, Tokenized
from sweeplab.data.images import load_images
from sweeplab.data.packing import pack_examples
from sweeplab.data.sources import load_splits
from sweeplab.data.tokens import tokenize_examples
from sweeplab.models.base import Base, load_base
from sweeplab.models.vision import read_image_size, refuse_other_family
from sweeplab.runtime.device import resolve_device, resolve_precision
from sweeplab.runtime.errors import ConfigError
from sweeplab.runtime.process_group import ONE_PROCESS, Ranks
from sweeplab.training.fsdp import shard
from sweeplab.trial.exactness import refuse_inexact_packing
from sweeplab.trial.measurement import MOST_MAPPING_BYTES, resident_bytes


@dataclass
class Resources:
    """One worker's."""

    device: torch.device
    cohort_size: int | None = None  # trials at once; None: what is measured to be fastest
    checkpoint_seconds: float | None = None  # between checkpoints of a trial; None: none are kept
    trial_seconds: float | None = None  # that a trial may train
    alive: Callable[[], None] = lambda: None  # called at every forward of the base
    returned_from_bytes: int = MOST_MAPPING_BYTES  # blocks that glibc gives back to the system while trials train
    ranks: Ranks = ONE_PROCESS  # which have the rows of every micro-batch among them
    base_key: dict[str, Any] | None = None
    base: Base | None = None
    base_memory_bytes: int | None = None  # what stood once the base was loaded
    tokenized: dict[str, Tokenized] = field(default_factory=dict)

    @classmethod
    def open(
        cls, executor: ExecutorConfig, alive: Callable[[], None] = lambda: None, ranks: Ranks = ONE_PROCESS
    ) -> "Resources":
        if executor.num_threads is not None:
            torch.set_num_threads(executor.num_threads)
        size = executor.cohort_size
        if size == "auto" and ranks.size > 1:
            size = 1  # how many are fastest would be another answer on every device
        return cls(
            resolve_device(executor.device),
            None if size == "auto" else int(size),
            executor.checkpoint_seconds,
            executor.trial_seconds,
            alive,
            ranks=ranks,
        )

    def base_for(self, config: TrialConfig) -> Base:
        """The base of `config`, loaded only where the last trial had another one. Raises `ConfigError`."""
        dtype = resolve_precision(config.training.precision, self.device)
        key = {"model": config.model.to_dict(), "quantization": config.quantization.to_dict(), "dtype": str(dtype)}
        if self.base is None or self.base_key != key:
            self.forget_base()
            in_parts = config.training.strategy == "fsdp"
            loaded_on = torch.device("cpu") if in_parts else self.device  # which has no room for all of it
            self.base = load_base(config.model, config.quantization, dtype, loaded_on)
            if self.ranks.size > 1:
                refuse_drawing(self.base, config.training.strategy)
            if in_parts:
                shard(self.base.model, self.ranks)
            self.base.model.register_forward_pre_hook(lambda *_: self.alive())
            self.base_key = key
            self.base_memory_bytes = self.memory_bytes()
        return self.base

    def memory_bytes(self) -> int | None:
        """What stands now, as `measured` counts peaks: CUDA tensors, or the resident set where Linux tells it."""
        if self.device.type == "cuda":
            return torch.cuda.memory_allocated(self.device)
        return resident_bytes("VmRSS") if sys.platform == "linux" else None

    def free_bytes(self) -> int:
        """What the device, with what torch keeps of it for later, or the machine has left."""
        if self.device.type == "cuda":
            kept = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
            return torch.cuda.mem_get_info(self.device)[0] + kept
        return int(psutil.virtual_memory().available)

    def forget_base(self) -> None:
        """Frees the base, so that two never stand in memory, and none is reused after a trial changed or broke it."""
        self.base, self.base_key = None, None
        self.tokenized.clear()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def tokens_for(self, config: TrialConfig, base: Base) -> Tokenized:
        """The data of `config` as `base` reads them. Raises `ConfigError` for data that cannot be used."""
        data, length = config.data, config.training.max_length
        refuse_other_family(base.model.config, data)
        key = f"{data} {length}"
        if key not in self.tokenized and isinstance(data, DigitsData):
            self.tokenized = {key: image_rows(data, base)}
        elif key not in self.tokenized and isinstance(data, TextData):
            splits = load_splits(data)
            train, heldout = (
                tokenize_examples(part, base.tokenizer, data.style, data.mask_prompt, length)
                for part in (splits.train, splits.heldout)
            )
            rows: Sequence[Row] = train.examples
            if data.packing:
                packed = pack_examples(train.examples, length)
                refuse_inexact_packing(base, packed, length)
                rows = packed
            counts = (train.num_dropped, len(splits.train), heldout.num_truncated)
            self.tokenized = {key: Tokenized(rows, heldout.examples, train.num_truncated, splits.fingerprint, *counts)}
        return self.tokenized[key]


def refuse_drawing(base: Base, strategy: str) -> None:
    """Devices that share a trial's rows would draw other numbers than one device does. Raises `ConfigError`."""
    if base.draws_random_numbers:
        raise ConfigError(
            f"training.strategy={strategy} does not go with this model, which has dropout of its own, or another "
            "draw in training, that every device would draw for itself; choose training.strategy=single"
        )


def image_rows(data: DigitsData, base: Base) -> Tokenized:
    """The images of `data` at the size that `base` reads. Raises `ConfigError` for a model with too few classes."""
    splits = load_images(data, read_image_size(base.model.config))
    return Tokenized(splits.train, splits.heldout, 0, splits.fingerprint, num_examples=len(splits.train))
