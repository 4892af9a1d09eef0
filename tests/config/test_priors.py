"""Published rates by family and size."""

import json
from pathlib import Path

import pytest

from sweeplab.config.model import EmbeddedModel, HubModel, LocalModel
from sweeplab.config.priors import list_further_rates, list_prior_rates


def hub(**architecture: object) -> HubModel:
    return HubModel(name="ORG/NAME", architecture=dict(architecture))


@pytest.mark.parametrize(
    ("model", "published"),
    [
        (hub(model_type="llama", hidden_size=4096), 2.86e-4),  # tinker_cookbook's get_lr for Llama-3.1-8B
        (hub(model_type="llama", hidden_size=2048), 4.91e-4),
        (hub(model_type="qwen3", hidden_size=4096), 4.73e-4),
        (hub(model_type="gemma2", hidden_size=2304), 3e-4),
        (hub(), 3e-4),
    ],
)
def test_the_first_rate_is_the_half_decade_nearest_to_the_published_one(model: HubModel, published: float) -> None:
    rates = list_prior_rates(model)
    assert 0.5 <= rates[0] / published <= 2.05
    assert rates[1:] == pytest.approx([rates[0] * one for one in ((10 / 3, 1 / 3, 10, 0.1))], rel=0.12)


def test_the_embedded_base_and_a_folder_are_read_from_their_config(tmp_path: Path) -> None:
    assert list_prior_rates(EmbeddedModel(name="tiny_base"))[0] == 3e-3
    (tmp_path / "config.json").write_text(json.dumps({"text_config": {"model_type": "llama", "hidden_size": 64}}))
    assert list_prior_rates(LocalModel(name="local", path=str(tmp_path)))[0] == 1e-2
    (tmp_path / "config.json").write_text("[")
    assert list_prior_rates(LocalModel(name="local", path=str(tmp_path)))[0] == 3e-4


def test_rates_go_on_beyond_both_ends() -> None:
    assert list_further_rates([1e-3, 3e-3, 3e-4]) == [1e-2, 1e-4, 3e-2, 3e-5, 1e-1, 1e-5]
