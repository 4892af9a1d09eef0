"""One row of memory per trial: where its matrices lie, what its optimizer gets, and that a move loses nothing."""

from collections.abc import Callable
from typing import Any, Final

import pytest
import torch
from torch import Tensor

from sweeplab.adapters.attach import attach_adapter
from sweeplab.config.adapter import AdapterConfig
from sweeplab.config.model import HubModel
from sweeplab.config.shared_base import padded_rank
from sweeplab.multilora.slots import (
    LoraMatrix,
    Slot,
    Weights,
    _lay_out,
    copy_weights,
    list_lora_matrices,
    read_lora_weights,
)

MATRICES: Final = [
    LoraMatrix("q", 3, 5, 7, 2.0, 0.0),
    LoraMatrix("k", 9, 5, 4, 0.5, 0.0),
    LoraMatrix("v", 8, 6, 5, 1.0, 0.0),
]


@pytest.fixture
def weights() -> Weights:
    return {
        one.name: (torch.randn(one.rank, one.in_features), torch.randn(one.out_features, one.rank)) for one in MATRICES
    }


def test_ranks_are_rounded_up_to_a_bucket() -> None:
    expected = {1: 8, 7: 8, 8: 8, 9: 16, 16: 16, 17: 32, 64: 64, 65: 128}
    assert {rank: padded_rank(rank) for rank in expected} == expected


@pytest.mark.parametrize("padded", [False, True])
def test_the_matrices_of_a_layout_fill_a_row_without_overlap(padded: bool) -> None:
    layout = _lay_out(MATRICES, padded)
    num_numbers = sum(place.rank * (place.in_features + place.out_features) for place in layout)
    row = torch.zeros(1, num_numbers)
    for place in layout:
        place.a_KRI(row).add_(1)
        place.b_KOR(row).add_(1)
    assert torch.equal(row, torch.ones(1, num_numbers))  # each number in exactly one matrix
    assert [place.rank for place in layout] == ([8, 16, 8] if padded else [3, 9, 8])


@pytest.mark.parametrize("whole", [False, True])
def test_a_slot_holds_the_values_and_zeros_in_its_padding(weights: Weights, whole: bool) -> None:
    slot = Slot(MATRICES, weights, 0, whole)
    for name, (a_RI, b_OR) in weights.items():
        assert torch.equal(slot.weights()[name][0], a_RI)
        assert torch.equal(slot.weights()[name][1], b_OR)
    values = torch.cat([tensor.flatten() for pair in weights.values() for tensor in pair])
    assert slot.num_params == len(values)
    assert slot.row_P.count_nonzero() == len(values)
    assert slot.row_P.sum().item() == pytest.approx(values.sum().item(), abs=1e-4)


@pytest.mark.parametrize("whole", [False, True])
def test_an_optimizer_follows_its_slot_into_another_row(weights: Weights, whole: bool) -> None:
    """Its steps, moments included, are those of plain tensors that never moved."""
    slot = Slot(MATRICES, weights, 0, whole)
    plain = [torch.nn.Parameter(tensor.clone()) for pair in weights.values() for tensor in pair]
    optimizers = [torch.optim.AdamW(these, lr=0.1) for these in (list(slot.parameters.values()), plain)]
    for step in range(4):
        rows, grads = torch.full((2, len(slot.row_P)), 7.0), torch.zeros(2, len(slot.row_P))
        slot.move(rows[1])
        slot.set_gradients(grads[1])
        flat = [tensor for pair in slot._view_pairs(grads[1]).values() for tensor in pair]
        for weight, grad in zip(plain, flat, strict=True):
            grad.copy_(torch.sin(step + weight.detach()))
            weight.grad = grad.clone()
        for optimizer in optimizers:
            optimizer.step()
        assert torch.equal(rows[0], torch.full_like(rows[0], 7.0))
    found = [tensor for pair in slot.weights().values() for tensor in pair]
    for mine, weight in zip(found, plain, strict=True):
        torch.testing.assert_close(mine, weight.detach())
    assert slot.row_P.count_nonzero() == slot.num_params  # padding stays zero
    slot.drop_gradients()
    assert all(weight.grad is None for weight in slot.parameters.values())


def test_matrices_and_weights_are_peft_s(
    random_model: Callable[[str], Any], make_adapter: Callable[..., AdapterConfig]
) -> None:
    adapted: Any = attach_adapter(
        random_model("llama"), make_adapter("query", "mlp", rank=3, dropout=0.25), HubModel(name="any"), 0
    )
    slot = Slot(list_lora_matrices(adapted), read_lora_weights(adapted), 0, as_vectors=False)
    named: dict[str, Tensor] = {name: weight for name, weight in adapted.named_parameters() if weight.requires_grad}
    assert named.keys() == slot.parameters.keys()
    for name, weight in named.items():
        assert torch.equal(slot.parameters[name], weight)
    assert {(one.rank, one.scaling, one.dropout) for one in slot.matrices.values()} == {(3, 2.0, 0.25)}
    changed = {name: (a_RI + 1, b_OR - 1) for name, (a_RI, b_OR) in slot.weights().items()}
    copy_weights(changed, read_lora_weights(adapted))
    for name, weight in named.items():
        difference = 1 if "lora_A" in name else -1
        assert torch.equal(weight, slot.parameters[name] + difference)
