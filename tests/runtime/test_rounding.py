"""Tolerances by what rounding does on a model, against a change of a weight and against large logits."""

import pytest
import torch
from torch import Tensor

from sweeplab.runtime.rounding import bound_rounding, compute_distance
from tests.architectures import build_tiny_model


@pytest.mark.parametrize("offset", [0.0, 3.0])
@torch.no_grad()
def test_rounding_is_allowed_and_a_changed_weight_is_not(offset: float) -> None:
    model = build_tiny_model("llama")
    ids = torch.arange(3, 43)[None]

    def compute() -> Tensor:
        logits: Tensor = model(ids).logits + offset
        return logits

    exact = compute()
    allowed = bound_rounding(model, compute, exact)
    beside_another = model(torch.cat([ids, ids + 7])).logits[:1] + offset
    assert compute_distance(beside_another, exact) <= allowed
    model.model.layers[0].mlp.up_proj.weight[0, 0] += 0.1
    assert compute_distance(compute(), exact) > allowed
    assert allowed < 1e-4


@torch.no_grad()
def test_the_model_is_as_before() -> None:
    model = build_tiny_model("llama")
    ids = torch.arange(3, 43)[None]
    before = model(ids).logits
    bound_rounding(model, lambda: model(ids).logits, before)
    assert torch.equal(model(ids).logits, before)
