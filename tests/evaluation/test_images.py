"""Accuracy of an image classifier against NumPy, on a classifier whose answers are known."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sweeplab.data.images import ImageBatch
from sweeplab.evaluation.images import accuracy, score_images
from sweeplab.records.record import Score

CPU = torch.device("cpu")


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
    found = accuracy(hits)
    assert found.value == values.mean()
    assert found.stderr == pytest.approx(values.std(ddof=1) / math.sqrt(len(hits)))
    assert found.num_items == len(hits)


def test_one_item_has_no_standard_error() -> None:
    assert accuracy([True]) == Score(1.0, None, 1)


def test_scores_and_items_of_two_tasks() -> None:
    model = Mean().train()
    tasks = {"first": [batch([0, 1], [0, 2]), batch([3], [3])], "second": [batch([2, 2], [2, 2])]}
    found = score_images(model, tasks, CPU)
    assert model.training
    assert found.scores == {
        "first": {"accuracy": accuracy([True, False, True])},
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
        ("second", 0, 1.0),
        ("second", 1, 1.0),
    ]
