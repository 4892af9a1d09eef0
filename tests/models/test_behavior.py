"""What a base draws by itself in training, against two forward passes of the same rows."""

from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from sweeplab.adapters.merging import make_probe_inputs
from sweeplab.config.model import HubModel
from sweeplab.models.base import read_architecture
from sweeplab.models.behavior import has_randomness
from sweeplab.models.vision import choose_auto_class
from tests.random_models import SIZES


def with_rate(family: str, name: str | None, rate: float) -> PreTrainedModel:
    """A random model of two layers that drops nothing, but for the rate that its config calls `name`."""
    values: dict[str, Any] = {"model_type": family, **SIZES[family]}
    values |= dict.fromkeys(rates(family), 0.0) | ({} if name is None else {name: rate})
    config = read_architecture(HubModel(name=family, architecture=values))
    model: PreTrainedModel = choose_auto_class(config).from_config(config)
    model.train()
    return model


def rates(family: str) -> list[str]:
    """Every rate of dropout that the family's config has: attn_pdrop, hidden_dropout_prob, layerdrop and the like."""
    config = read_architecture(HubModel(name=family, architecture={"model_type": family, **SIZES[family]}))
    return sorted(name for name, value in config.to_dict().items() if "drop" in name and isinstance(value, float | int))


@torch.no_grad()
def varies(model: PreTrainedModel) -> bool:
    inputs = make_probe_inputs(model.config)
    first, *others = (model(**inputs).logits for _ in range(8))
    return any(not torch.equal(first, other) for other in others)


@pytest.mark.parametrize("family", SIZES)
def test_a_model_draws_where_its_training_mode_varies(family: str) -> None:
    torch.manual_seed(0)
    found = {name: has_randomness(with_rate(family, name, 0.5)) for name in rates(family)}
    assert found == {name: varies(with_rate(family, name, 0.5)) for name in rates(family)}
    assert any(found.values())
    silent = with_rate(family, None, 0.0)
    assert (has_randomness(silent), varies(silent)) == (False, False)
