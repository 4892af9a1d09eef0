from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from sweeplab.data.batches import heldout_batches
from sweeplab.data.tokens import IGNORED, Tokens
from sweeplab.evaluation.heldout import heldout_loss
from sweeplab.training.module import target_loss_sum

CPU = torch.device("cpu")


def examples() -> list[Tokens]:
    made = []
    for length in (3, 9, 4, 12, 7):
        ids = torch.randint(2, 128, (length,)).tolist()
        num_prompt = length // 2
        made.append(Tokens(ids, [IGNORED] * num_prompt + ids[num_prompt:]))
    return made


def by_transformers(model: Any, data: list[Tokens]) -> float:
    """transformers' own loss of each example, weighted by its targets."""
    total, count = 0.0, 0
    for tokens in data:
        loss = model(input_ids=tokens.ids[None], labels=tokens.labels[None]).loss
        num_targets = sum(label != IGNORED for label in tokens.labels.tolist())
        total, count = total + loss.item() * num_targets, count + num_targets
    return total / count


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_heldout_loss_is_the_mean_per_target_token(tiny_llama: Callable[..., Any], batch_size: int) -> None:
    model, data = tiny_llama().eval(), examples()
    found = heldout_loss(model, heldout_batches(data, 0, batch_size), target_loss_sum, CPU)
    # transformers' loss passes through 32 bits
    assert found == pytest.approx(by_transformers(model, data), rel=1e-6)


def test_heldout_loss_is_measured_without_dropout_and_restores_the_mode(tiny_llama: Callable[..., Any]) -> None:
    model, data = tiny_llama(attention_dropout=0.5), examples()
    batches = heldout_batches(data, 0, 2)
    quiet = heldout_loss(model.eval(), batches, target_loss_sum, CPU)
    assert not model.training
    assert heldout_loss(model.train(), batches, target_loss_sum, CPU) == quiet
    assert model.training
    noisy = sum(target_loss_sum(model, batch).item() for batch in batches)
    assert noisy / sum(batch.num_window_targets for batch in batches) != pytest.approx(quiet, rel=1e-6)


def test_no_gradient_is_kept(tiny_llama: Callable[..., Any]) -> None:
    model = tiny_llama()
    tracked: list[bool] = []

    def loss_sum(model: nn.Module, batch: Any) -> torch.Tensor:
        tracked.append(torch.is_grad_enabled())
        return target_loss_sum(model, batch)

    heldout_loss(model, heldout_batches(examples(), 0, 4), loss_sum, CPU)
    assert tracked == [False, False]
