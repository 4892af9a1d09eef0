"""Exact bytes of a few tensors, and of a model's own."""

import pytest
import torch
from torch import nn
from torch.profiler import record_function

from sweeplab.trial import tensor_count as module
from sweeplab.trial.tensor_count import count_tensors, measure_standing_bytes


def test_a_step_by_hand() -> None:
    """y = w x and its gradient: every number is a float of 4 bytes, and stands as long as something needs it."""
    weight = torch.ones(100, 50, requires_grad=True)  # made before: not counted
    with count_tensors() as count:
        x = torch.empty(50, 8)
        with record_function("forward"):
            y = weight @ x
        with record_function("backward"):
            y.backward(torch.empty(100, 8))
        del x
        with record_function("after"):
            torch.empty(10)
        with record_function("nothing"):
            pass
    assert count.peak_bytes("forward") == 4 * (50 * 8 + 100 * 8)
    assert count.peak_bytes("backward") == 4 * (50 * 8 + 2 * 100 * 8 + 100 * 50)
    assert count.peak_bytes() == count.peak_bytes("backward")
    assert count.peak_bytes("after") == 4 * (100 * 8 + 100 * 50 + 10)
    assert count.peak_bytes("nothing") == 4 * (100 * 8 + 100 * 50)
    assert count.peak_bytes("never") is None


def test_what_was_freed_before_a_part_is_none_of_it() -> None:
    with count_tensors() as count:
        large = torch.empty(10_000)
        del large
        with record_function("part"):
            kept = torch.empty(100)
    assert (count.peak_bytes("part"), kept.nbytes) == (400, 400)
    assert count.peak_bytes() == 40_000


def test_without_a_profiler_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "kineto_available", lambda: False)
    with count_tensors() as count:
        torch.empty(10)
    assert count.peak_bytes() is None


def test_an_error_leaves_the_profiler_ready_for_the_next_count() -> None:
    with pytest.raises(ZeroDivisionError), count_tensors():
        raise ZeroDivisionError
    with count_tensors() as count:
        torch.empty(10)
    assert count.peak_bytes() == 40


def test_a_model_stands_with_weights_and_buffers_once() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    model.append(model[0])  # tied
    assert measure_standing_bytes(model) == 4 * (4 * 3 + 3) + 4 * 4 * 3 + 8  # weight, bias, mean, variance; a counter
