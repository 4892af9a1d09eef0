"""Waits and managed memory of bitsandbytes' optimizers, against bitsandbytes' own steps on the CPU."""

from types import SimpleNamespace
from typing import Any

import bitsandbytes.optim
import pytest
import torch
from bitsandbytes import functional
from bitsandbytes.optim import optimizer
from torch import Tensor, nn

from sweeplab.training import bitsandbytes_states as module
from sweeplab.training.bitsandbytes_states import give_paged_memory_back, reuse_paged_memory, without_waiting
from sweeplab.training.checkpoints import write_checkpoint

NUM_ENTRIES = 200_000
bnb: Any = bitsandbytes.optim  # without types
bnb_optimizer: Any = optimizer


def step_often(kind: Any, weights: list[nn.Parameter], waits: bool) -> None:
    adam = kind(weights, lr=0.01)
    for step in range(3):
        for weight in weights:
            weight.grad = torch.sin(step + weight.detach())
        if waits:
            adam.step()
        else:
            with without_waiting(adam):
                adam.step()


@pytest.mark.filterwarnings("ignore:Paged optimizers are not supported on CPU:UserWarning")
@pytest.mark.parametrize(("name", "own"), [("AdamW8bit", 9), ("PagedAdamW8bit", 12)])
def test_steps_without_waiting_are_bit_equal(name: str, own: int, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[Tensor] = []
    monkeypatch.setattr(bnb_optimizer, "sync_gpu", waited.append)
    plain = [nn.Parameter(torch.randn(64, 128)) for _ in range(3)]
    mine = [nn.Parameter(weight.detach().clone()) for weight in plain]
    step_often(getattr(bnb, name), plain, waits=True)
    assert len(waited) == own  # once a parameter and step, and of a paged one at a step's end
    step_often(getattr(bnb, name), mine, waits=False)
    assert len(waited) == own
    assert all(map(torch.equal, plain, mine))
    bnb_optimizer.sync_gpu(plain[0])
    assert len(waited) == own + 1  # bitsandbytes has its own again


@pytest.mark.parametrize(("is_paged", "num_waits"), [(True, 1), (False, 0)])
def test_a_checkpoint_waits_for_paged_states(is_paged: bool, num_waits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    def read(*_: Any) -> Any:
        order.append("read")
        raise EOFError  # far enough

    optimizer = SimpleNamespace(is_paged=is_paged, state_dict=read)
    trial: Any = SimpleNamespace(optimizer=optimizer, parameters=[], identity=dict)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: order.append("wait"))
    with pytest.raises(EOFError):
        write_checkpoint(trial)
    assert order == ["wait"] * num_waits + ["read"]


@pytest.fixture
def allocated(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes of every block of managed memory, which the CPU's memory stands for."""
    sizes: list[int] = []

    def get_paged(*shape: int, dtype: torch.dtype, device: torch.device) -> Any:
        made: Any = torch.ones(shape, dtype=dtype)
        made.is_paged, made.page_deviceid = True, device.index
        sizes.append(made.nbytes)
        return made

    monkeypatch.setattr(functional, "get_paged", get_paged)
    monkeypatch.setattr(functional, "fill", lambda buffer, value: buffer.fill_(value))
    monkeypatch.setattr(module, "_idle", [])
    return sizes


def take(owner: Any, num_entries: int, dtype: torch.dtype = torch.float32) -> Tensor:
    weight = SimpleNamespace(device=torch.device("cuda", 0), shape=(1, num_entries), numel=lambda: num_entries)
    buffer: Tensor = owner.get_state_buffer(weight, dtype=dtype)
    assert (tuple(buffer.shape), buffer.dtype, int(buffer.count_nonzero())) == ((1, num_entries), dtype, 0)
    assert (buffer.is_paged, buffer.page_deviceid) == (True, 0)  # type: ignore[attr-defined]
    return buffer


def test_paged_memory_of_an_ended_trial_is_used_again(allocated: list[int]) -> None:
    for num_entries in (NUM_ENTRIES, NUM_ENTRIES, NUM_ENTRIES // 2):
        adam = bnb.PagedAdamW32bit([nn.Parameter(torch.zeros(2))])
        reuse_paged_memory(adam)
        states = [take(adam, num_entries) for _ in range(2)]
        states[0].fill_(3)
        assert states[1].count_nonzero() == 0  # each has memory of its own
        adam.state["weight"] = {"state1": states[0], "state2": states[1], "step": 1}
        give_paged_memory_back(adam)
    assert allocated == [4 * NUM_ENTRIES] * 2


def test_trials_at_once_share_no_paged_memory_and_a_larger_one_gets_its_own(allocated: list[int]) -> None:
    first, second = (bnb.PagedAdamW32bit([nn.Parameter(torch.zeros(2))]) for _ in range(2))
    for one in (first, second):
        reuse_paged_memory(one)
    mine, other = take(first, NUM_ENTRIES), take(second, NUM_ENTRIES)
    assert mine.data_ptr() != other.data_ptr()
    first.state["weight"] = {"state1": mine}
    give_paged_memory_back(first)
    take(second, 2 * NUM_ENTRIES)
    assert allocated == [4 * NUM_ENTRIES, 4 * NUM_ENTRIES, 8 * NUM_ENTRIES]
    again = take(second, NUM_ENTRIES, torch.uint8)
    assert again.data_ptr() == mine.data_ptr()
