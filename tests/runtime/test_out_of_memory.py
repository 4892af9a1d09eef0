"""Errors for want of memory, and what they hold."""

import weakref

import pytest
import torch
from torch import Tensor

from sweeplab.runtime.out_of_memory import free_failed, is_out_of_memory, known_as_out_of_memory


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.80 GiB"),
        MemoryError(),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
        RuntimeError("CUDA driver error: out of memory"),
        RuntimeError("NCCL error, unhandled cuda error\nLast error:\nCuda failure 2 'out of memory'"),
    ],
)
def test_errors_for_want_of_memory_are_known(error: Exception) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error", [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("CUDA error: out of memory")]
)
def test_other_errors_are_not(error: Exception) -> None:
    assert not is_out_of_memory(error)


def test_whoever_says_so_it_becomes_torch_s_own_error() -> None:
    with pytest.raises(torch.OutOfMemoryError, match="CUBLAS"), known_as_out_of_memory():
        raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
    with pytest.raises(RuntimeError, match="shapes") as caught, known_as_out_of_memory():
        raise RuntimeError("shapes cannot be multiplied")
    assert not isinstance(caught.value, torch.OutOfMemoryError)


def test_torch_itself_says_so() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60)
    assert is_out_of_memory(caught.value)


def test_an_error_that_is_kept_holds_nothing() -> None:
    alive: list[weakref.ref[Tensor]] = []

    def work() -> None:
        tensor = torch.zeros(8)
        alive.append(weakref.ref(tensor))
        raise torch.OutOfMemoryError("no room")

    def attempt() -> None:
        try:
            work()
        except torch.OutOfMemoryError as error:
            raise RuntimeError("an attempt failed") from error

    try:
        attempt()
    except RuntimeError as error:
        kept = error
        assert alive[0]() is not None
        free_failed(kept)
    assert alive[0]() is None
    assert str(kept) == "an attempt failed"
