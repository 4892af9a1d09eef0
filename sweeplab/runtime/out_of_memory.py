"""What an error for want of memory looks like, and how what it holds is freed."""

import gc
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch

# beside torch's own class: cuBLAS and cuDNN have no room for their workspaces, torch's allocator of the CPU has none
# for a tensor, and CUDA itself has none for a context or for managed memory, which bitsandbytes asks for
_MESSAGES: Final = (
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUSOLVER_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDA error: out of memory",
    "CUDA driver error: out of memory",
    "Cuda failure 2 'out of memory'",  # NCCL
    "Error out of memory at line",
    "DefaultCPUAllocator: can't allocate memory",
)


def is_out_of_memory(error: BaseException) -> bool:
    """True where memory was short, whoever says so."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(message in str(error) for message in _MESSAGES)


@contextmanager
def known_as_out_of_memory() -> Iterator[None]:
    """Within it memory that is short is torch's own error, whoever says so, for code that lets only that one pass."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error) and not isinstance(error, torch.OutOfMemoryError):
            raise torch.OutOfMemoryError(str(error)) from error
        raise


def free_failed(error: BaseException) -> None:
    """Frees what a failed attempt had allocated.

    The frames of the error's traceback hold it, and who logs the error keeps those. What is in cycles goes as Python's
    collector runs, which nothing else calls where memory is short; cached blocks go back, since they lie in pieces.
    """
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        traceback.clear_frames(link.__traceback__)
        link = link.__cause__ or link.__context__
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
