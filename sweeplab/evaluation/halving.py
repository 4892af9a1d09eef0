"""Evaluation with smaller batches where memory is short."""

from collections.abc import Callable
from typing import TypeVar

from sweeplab.runtime.out_of_memory import free_failed, is_out_of_memory
from sweeplab.runtime.process_group import ONE_PROCESS, Ranks

_T = TypeVar("_T")


def halve_until_it_fits(batch_size: int, work: Callable[[int], _T], notes: list[str], ranks: Ranks = ONE_PROCESS) -> _T:
    """`work(batch_size)`; where memory runs out, with half as many rows, down to one, which `notes` then says once.

    Raises what `work` raises, when one row does not fit either, or other processes wait for this one.
    """
    size = batch_size
    while True:
        try:
            done = work(size)
        except Exception as error:
            if size == 1 or ranks.size > 1 or not is_out_of_memory(error):
                raise
            free_failed(error)
            size //= 2
        else:
            text = f"memory was short in evaluation: batches of {size} instead of evaluation.batch_size={batch_size}"
            if size < batch_size and text not in notes:
                notes.append(text)
            return done
