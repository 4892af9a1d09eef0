"""The held-out loss against transformers' own, and accuracy of an image classifier against NumPy."""

import math
from collections.abc import Callable
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sweeplab.data import batches as module
from sweeplab.data.batches import Batch, make_heldout_batches, order_by_length
from sweeplab.data.images import ImageBatch
from sweeplab.data.tokens import IGNORED, Tokens
from sweeplab.evaluation.heldout import _score_hits, measure_heldout_losses, score_images
from sweeplab.records.record import Score
from sweeplab.training.module import sum_row_losses, sum_target_losses

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
    found = measure_heldout_losses(model, make_heldout_batches(data, 0, batch_size), sum_row_losses, CPU).mean
    # transformers' loss passes through 32 bits
    assert found == pytest.approx(by_transformers(model, data), rel=1e-6)


def test_losses_by_example_are_transformers_own_in_the_order_of_the_data(tiny_llama: Callable[..., Any]) -> None:
    model, data = tiny_llama().eval(), examples()
    found = measure_heldout_losses(model, make_heldout_batches(data, 0, 2), sum_row_losses, CPU)
    restored = found.restored(order_by_length(data))
    assert restored.counts == [2, 5, 2, 6, 4]
    for tokens, total, count in zip(data, *restored, strict=True):
        assert total / count == pytest.approx(by_transformers(model, [tokens]), rel=1e-6)
    assert restored.mean == found.mean == float(sum(map(Fraction, found.sums))) / sum(found.counts)


def test_losses_of_images_are_those_of_each_image() -> None:
    """An image without a class only fills up a batch."""
    images = batch([0, 1, 3], [2, IGNORED, 3])
    found_B, counts_B = sum_row_losses(Mean().eval(), images)
    other = math.log(3 + math.e)
    assert found_B.tolist() == pytest.approx([other, 0, other - 1], rel=1e-6)
    assert counts_B.tolist() == [1, 0, 1]


def test_heldout_loss_is_measured_without_dropout_and_restores_the_mode(tiny_llama: Callable[..., Any]) -> None:
    model, data = tiny_llama(attention_dropout=0.5), examples()
    batches = make_heldout_batches(data, 0, 2)
    quiet = measure_heldout_losses(model.eval(), batches, sum_row_losses, CPU)
    assert not model.training
    assert measure_heldout_losses(model.train(), batches, sum_row_losses, CPU) == quiet
    assert model.training
    noisy = sum(sum_target_losses(model, batch).item() for batch in batches)
    assert noisy / sum(batch.num_window_targets for batch in batches) != pytest.approx(quiet.mean, rel=1e-6)


def test_no_gradient_is_kept(tiny_llama: Callable[..., Any]) -> None:
    model = tiny_llama()
    tracked: list[bool] = []

    def loss_sums(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        tracked.append(torch.is_grad_enabled())
        return sum_row_losses(model, batch)

    measure_heldout_losses(model, make_heldout_batches(examples(), 0, 4), loss_sums, CPU)
    assert tracked == [False, False]


class Mean(nn.Module):
    """The class of an image is its mean gray; in training mode it is always wrong."""

    def forward(self, pixel_values: Tensor) -> Any:
        guess = pixel_values.mean((1, 2, 3)).long()
        return SimpleNamespace(logits=nn.functional.one_hot((guess + self.training) % 4, 4).float())


def batch(means: list[int], labels: list[int]) -> ImageBatch:
    pixels = torch.tensor(means, dtype=torch.float32)[:, None, None, None].expand(-1, 1, 2, 2)
    return ImageBatch(pixels, torch.tensor(labels), 0, len(labels))


@pytest.mark.parametrize("hits", [[True, False, True], [True] * 5, [False] * 4, [True, True, False, True] * 25])
def test_the_standard_error_is_that_of_a_sample_mean(hits: list[bool]) -> None:
    values = np.array(hits, dtype=float)
    found = _score_hits(hits)
    assert found.value == values.mean()
    assert found.stderr == pytest.approx(values.std(ddof=1) / math.sqrt(len(hits)))
    assert found.num_items == len(hits)


def test_one_item_has_no_standard_error() -> None:
    assert _score_hits([True]) == Score(1.0, None, 1)


def test_scores_and_items_of_two_tasks() -> None:
    model = Mean().train()
    tasks = {"first": [batch([0, 1], [0, 2]), batch([3], [3])], "second": [batch([2, 2], [2, 2])]}
    found = score_images(model, tasks, {"first": [0, 1, 2], "second": [4, 9]}, CPU)
    assert model.training
    assert found.scores == {
        "first": {"accuracy": _score_hits([True, False, True])},
        "second": {"accuracy": Score(1, 0, 2)},
    }
    assert found.items[1] == {
        "task": "first",
        "item": 1,
        "filter": "none",
        "target": "2",
        "responses": ["1"],
        "metrics": {"accuracy": 0.0},
    }
    assert [(item["task"], item["item"], item["metrics"]["accuracy"]) for item in found.items] == [
        ("first", 0, 1.0),
        ("first", 1, 0.0),
        ("first", 2, 1.0),
        ("second", 4, 1.0),
        ("second", 9, 1.0),
    ]


def test_losses_do_not_depend_on_how_batches_are_cut(
    tiny_llama: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, data = tiny_llama().eval(), examples()
    one_by_one = [by_transformers(model, [tokens]) for tokens in data]
    monkeypatch.setattr(module, "MOST_HELDOUT_TOKENS", 14)
    batches = make_heldout_batches(data, 0, 64)
    assert [len(batch.ids_BT) for batch in batches if isinstance(batch, Batch)] == [2, 1, 1, 1]
    found = measure_heldout_losses(model, batches, sum_row_losses, CPU).restored(order_by_length(data))
    for expected, total, count in zip(one_by_one, *found, strict=True):
        assert total / count == pytest.approx(expected, rel=1e-6)
