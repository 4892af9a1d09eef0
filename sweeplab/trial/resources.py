"""What the trials of one worker share: the device, and the base and the tokens, which the next trial can use again."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import psutil
import torch

from sweeplab.config.data import DigitsData, TextData
from sweeplab.config.executor import ExecutorConfig
from sweeplab.config.trial import TrialConfig
from sweeplab.data.batches import Row, Tokenized
from sweeplab.data.images import load_images
from sweeplab.data.packing import pack_examples
from sweeplab.data.sources import count_learned, load_splits, warn_of_learned
from sweeplab.data.tokenized import tokenize_splits
from sweeplab.data.tokens import refuse_unknown_tokens
from sweeplab.models.base import Base, count_embeddings, load_base
from sweeplab.models.vision import read_image_size, refuse_other_family
from sweeplab.records.record import Solo
from sweeplab.runtime.device import CUDA_RESERVE_BYTES, choose_kernels, limit_memory, resolve_device, resolve_precision
from sweeplab.runtime.errors import ConfigError
from sweeplab.runtime.process_group import ONE_PROCESS, Ranks
from sweeplab.training.fsdp import shard_base
from sweeplab.training.running_trial import OptimizerBytes, RunningTrial
from sweeplab.training.stopping import StoppedByHand
from sweeplab.trial.exactness import refuse_inexact_packing
from sweeplab.trial.measurement import LARGEST_MAPPING_BYTES, read_resident_bytes


class Tell(Protocol):
    """Is told what the worker does now (a word of `tracking.pace`), of which trials, how far it is with it, and which
    step each of the trials has reached."""

    def __call__(self, what: str, trials: Sequence[int], count: str = "", steps: Sequence[int] = ()) -> None: ...


@dataclass
class Resources:
    """Device, limits, base and data of one worker."""

    device: torch.device
    cohort_size: int | None = None  # trials at once; None: the size that is measured to be fastest
    checkpoint_seconds: float | None = None  # between checkpoints of a trial; None: no checkpoints
    trial_seconds: float | None = None  # most seconds of training of a trial; None: no limit
    report_alive: Callable[[], None] = lambda: None  # called before every forward of the base
    tell: Tell = lambda what, trials, count="", steps=(): None  # what the worker does now
    training: Sequence[RunningTrial] = ()  # that train now
    stopping: set[int] = field(default_factory=set)  # numbers of trials that a person stops; another thread adds them
    scored: frozenset[int] = frozenset()  # numbers of the trials that every forward now is for
    returned_from_bytes: int = LARGEST_MAPPING_BYTES  # `freed_memory_returned(afterwards=...)` while trials train
    ranks: Ranks = ONE_PROCESS  # the processes that share the rows of every micro-batch
    memory_limit_bytes: int | None = None  # of tensors on a GPU that other workers use, too; None: all there is
    base_key: dict[str, Any] | None = None  # what must be equal for `base` to serve another trial
    base: Base | None = None
    base_memory_bytes: int | None = None  # in use after the base was loaded
    tokenized: dict[str, Tokenized] = field(default_factory=dict)
    solos: dict[str, Solo | None] = field(default_factory=dict)  # by `shared_base.describe_layout`
    optimizer_bytes: dict[str, OptimizerBytes] = field(default_factory=dict)  # likewise
    fastest_sizes: dict[str, tuple[int, int]] = field(default_factory=dict)  # by geometry; of how many trials

    @classmethod
    def open(
        cls,
        executor: ExecutorConfig,
        report_alive: Callable[[], None] = lambda: None,
        ranks: Ranks = ONE_PROCESS,
        gpu_share: float = 1.0,
    ) -> "Resources":
        """The resources that the configuration of a worker asks for; nothing is loaded yet."""
        if executor.num_threads is not None:
            torch.set_num_threads(executor.num_threads)
        size = executor.cohort_size
        if size == "auto" and ranks.size > 1:
            size = 1  # every device would measure another size
        device = resolve_device(executor.device)
        choose_kernels(device)
        return cls(
            device,
            None if size == "auto" else int(size),
            executor.checkpoint_seconds,
            executor.trial_seconds,
            report_alive,
            ranks=ranks,
            memory_limit_bytes=limit_memory(device, gpu_share),
        )

    def base_for(self, config: TrialConfig) -> Base:
        """The base of `config`; the loaded one where it is the same. Raises `ConfigError`."""
        dtype = resolve_precision(config.training.precision, self.device)
        key = {"model": config.model.to_dict(), "quantization": config.quantization.to_dict(), "dtype": str(dtype)}
        if self.base is None or self.base_key != key:
            self.forget_base()
            in_parts = config.training.strategy == "fsdp"
            device = torch.device("cpu") if in_parts else self.device  # a sharded base may not fit on one device
            self.base = load_base(config.model, config.quantization, dtype, device)
            if self.ranks.size > 1:
                _refuse_random_base(self.base, config.training.strategy)
            if in_parts:
                shard_base(self.base.model, self.ranks)
            self.base.model.register_forward_pre_hook(lambda *_: self.note_forward())
            self.base_key = key
            self.base_memory_bytes = self.memory_bytes()
        return self.base

    @contextmanager
    def scoring(self, numbers: Iterable[int]) -> Iterator[None]:
        """Within it every forward is for these trials, and raises `StoppedByHand` once a person has stopped them all;
        with several devices it does not, since the others would wait."""
        self.scored = frozenset(numbers if self.ranks.size == 1 else ())
        try:
            yield
        finally:
            self.scored = frozenset()

    def note_forward(self) -> None:
        """Called before every forward of the base. Raises `StoppedByHand` where nobody wants its result."""
        self.report_alive()
        if self.scored and self.scored <= self.stopping:
            raise StoppedByHand
        if self.training:
            numbers = [trial.spec.number for trial in self.training]
            self.tell("training", numbers, steps=[trial.step for trial in self.training])

    def memory_bytes(self) -> int | None:
        """Bytes in use now: of CUDA tensors, or the resident set on Linux; None on other systems."""
        if self.device.type == "cuda":
            return torch.cuda.memory_allocated(self.device)
        return read_resident_bytes("VmRSS") if sys.platform == "linux" else None

    def free_bytes(self) -> int:
        """Bytes that are free for this worker on the device, those that torch has reserved but not used included, or on
        the machine."""
        if self.device.type == "cuda":
            allocated = torch.cuda.memory_allocated(self.device)
            free = torch.cuda.mem_get_info(self.device)[0] + torch.cuda.memory_reserved(self.device) - allocated
            return free if self.memory_limit_bytes is None else min(free, self.memory_limit_bytes - allocated)
        return int(psutil.virtual_memory().available)

    def foreign_bytes(self) -> int:
        """Bytes of a GPU that other processes hold, as far as they can be told from what this one has beside tensors; 0
        on a CPU."""
        if self.device.type != "cuda":
            return 0
        free, total = torch.cuda.mem_get_info(self.device)
        return max(0, total - free - torch.cuda.memory_reserved(self.device) - CUDA_RESERVE_BYTES)

    def forget_base(self) -> None:
        """Frees the base and the tokens: two bases must never be in memory, and a base that a trial changed must not
        serve another trial."""
        self.base, self.base_key = None, None
        self.tokenized.clear()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def tokens_for(self, config: TrialConfig, base: Base) -> Tokenized:
        """The data of `config` tokenized for `base`, or its images. Raises `ConfigError` for data that does not fit."""
        data, length = config.data, config.training.max_length
        refuse_other_family(base.model.config, data)
        key = f"{data} {length}"
        if key not in self.tokenized and isinstance(data, DigitsData):
            self.tokenized = {key: _prepare_images(data, base)}
        elif key not in self.tokenized and isinstance(data, TextData):
            splits = load_splits(data)
            tokenized = tokenize_splits(splits.train, splits.heldout, base.tokenizer, data, length)
            train, heldout = tokenized.train, tokenized.heldout
            refuse_unknown_tokens([*train.examples, *heldout.examples], count_embeddings(base.model))
            rows: Sequence[Row] = train.examples
            num_learned = count_learned(splits)
            if data.packing:
                packed = pack_examples(train.examples, length)
                refuse_inexact_packing(base, packed, length)
                rows = packed
            self.tokenized = {
                key: Tokenized(
                    rows,
                    heldout.examples,
                    train.num_truncated,
                    splits.fingerprint,
                    train.num_dropped,
                    len(splits.train),
                    len(splits.heldout),
                    heldout.num_truncated,
                    train.num_naming_special,
                    num_skipped=None if splits.num_skipped is None else splits.num_skipped + tokenized.num_unusable,
                    notes=(*splits.reading, *train.notes),
                    num_learned=num_learned,
                    warnings=(*splits.skipping, *tokenized.skipping, *warn_of_learned(splits, num_learned)),
                )
            }
        return self.tokenized[key]


def _refuse_random_base(base: Base, strategy: str) -> None:
    """Raises `ConfigError` for a base that draws random numbers: several devices would draw other numbers than one."""
    if base.draws_random_numbers:
        raise ConfigError(
            f"training.strategy={strategy} does not go with this model: it has dropout of its own, or draws random "
            "numbers in another way, and every device would draw others; choose training.strategy=single"
        )


def _prepare_images(data: DigitsData, base: Base) -> Tokenized:
    """The images of `data` at the size that `base` reads. Raises `ConfigError` for a model with too few classes."""
    splits = load_images(data, read_image_size(base.model.config))
    return Tokenized(splits.train, splits.heldout, 0, splits.fingerprint, 0, len(splits.train), len(splits.heldout))
