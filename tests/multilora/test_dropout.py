"""Dropout follows from its key alone: neither padding nor company nor what else is drawn changes it."""

import pytest
import torch
from torch import Tensor

from sweeplab.multilora.dropout import Extent, draw_dropout_mask

CPU = torch.device("cpu")
OWN = Extent(3, 5)


def mask(key: str = "0 0 q", dropout: float = 0.5, own: Extent = OWN, padded: Extent = OWN, width: int = 16) -> Tensor:
    return draw_dropout_mask(key, dropout, own, padded, width, CPU)


@pytest.mark.parametrize("padded", [OWN, Extent(3, 9), Extent(7, 5), Extent(8, 11)])
def test_the_same_key_is_the_same_mask_in_any_padding_and_random_state(padded: Extent) -> None:
    expected = mask()
    torch.manual_seed(99)
    before = torch.get_rng_state()
    found = mask(padded=padded)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(found[:3, :5], expected)
    found[:3, :5] = 1
    assert torch.equal(found, torch.ones(*padded, 16))


def test_another_seed_step_or_matrix_is_another_mask() -> None:
    keys = ["0 0 q", "1 0 q", "0 1 q", "0 0 v", "1 1 q", "0 10 q", "10 0 q"]
    masks = [mask(key, width=64) for key in keys]
    for place, one in enumerate(masks):
        for other in masks[place + 1 :]:  # independent ones agree in half of 960 places, give or take 16
            assert 380 < (one == other).sum().item() < 580


@pytest.mark.parametrize("dropout", [0.05, 0.3, 0.5, 0.9])
def test_the_share_of_zeros_is_the_probability_and_the_mean_stays(dropout: float) -> None:
    own = Extent(20, 50)
    found = mask(dropout=dropout, own=own, padded=own, width=100)
    assert set(found.unique().tolist()) == {0.0, torch.tensor(1 / (1 - dropout)).item()}
    deviation = (dropout * (1 - dropout) / found.numel()) ** 0.5  # of a binomial share
    assert abs((found == 0).double().mean().item() - dropout) < 5 * deviation
    assert abs(found.double().mean().item() - 1) < 5 * deviation / (1 - dropout)


def test_no_dropout_is_ones() -> None:
    assert torch.equal(mask(dropout=0.0), torch.ones(3, 5, 16))
