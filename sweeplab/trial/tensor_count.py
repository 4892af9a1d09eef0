"""Counts the bytes of tensors on a CPU, as CUDA's allocator does on a GPU."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.autograd.profiler import profile
from torch.profiler import kineto_available

from sweeplab.models.quantization.schemes import measure_storage


class TensorCount:
    """Bytes of the tensors that were made while `count_tensors` watched, as they came and went; read when it is over.

    Nothing is known where this build of torch has no profiler.
    """

    def __init__(self) -> None:
        self._levels: list[tuple[int, int]] = []  # (nanosecond, bytes that stand from then on)
        self._spans: list[tuple[str, int, int]] = []  # parts by name: first and last nanosecond

    def peak_bytes(self, part: str | None = None) -> int | None:
        """The most bytes that stood at once, in the whole or in a part, with what was made before it and still stood.

        None: not known, or there was no such part.
        """
        spans = [(start, end) for name, start, end in self._spans if name == part]
        if part is None and self._levels:
            spans = [(0, self._levels[-1][0])]
        return max((self._find_peak(start, end) for start, end in spans if self._levels), default=None)

    def _find_peak(self, start: int, end: int) -> int:
        (_, standing) = [level for level in self._levels if level[0] <= start][-1]
        return max([standing, *(size for now, size in self._levels if start < now <= end)])

    def _read(self, events: list[Any]) -> None:
        """The allocator's events have the bytes that it gave out or, as a negative number, took back."""
        self._levels, size = [(0, 0)], 0
        for event in sorted((one for one in events if one.name() == "[memory]"), key=lambda one: one.start_ns()):
            size += event.nbytes()
            self._levels.append((event.start_ns(), size))
        self._spans = [(one.name(), one.start_ns(), one.end_ns()) for one in events if one.is_user_annotation()]


@contextmanager
def count_tensors() -> Iterator[TensorCount]:
    """Counts what torch's CPU allocator gives out within it; `torch.profiler.record_function` names a part of it.

    The count is exact and repeats: it is what `torch.cuda.max_memory_allocated` counts, without a caching allocator's
    rounding. It includes tensors that torch's kernels need for a moment, but not the scratch memory of MKL and
    oneDNN, Python's objects, or what a heap loses between its blocks.
    """
    count = TensorCount()
    if not kineto_available():
        yield count
        return
    os.environ.setdefault("KINETO_LOG_LEVEL", "9")  # else every use writes two lines to the terminal
    with profile(profile_memory=True) as watched:
        yield count
    assert watched.kineto_results is not None
    count._read(watched.kineto_results.events())


def measure_standing_bytes(model: nn.Module) -> int:
    """Bytes of a model's own tensors: weights, trained ones too, buffers, and the scales of quantized matrices."""
    return measure_storage(model).num_bytes + sum(buffer.nbytes for buffer in model.buffers())
