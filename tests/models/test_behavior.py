"""What a base draws by itself in training, against two forward passes of the same rows."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, PreTrainedModel

from sweeplab.adapters.merging import make_probe_inputs
from sweeplab.config.model import HubModel
from sweeplab.models.base import load_base, read_architecture
from sweeplab.models.behavior import has_randomness, try_short_texts
from sweeplab.models.vision import choose_auto_class
from sweeplab.runtime.errors import ConfigError
from tests.architectures import build_tiny_model
from tests.configs import quantize
from tests.models.folders import copy_base, name_model
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
    before = torch.get_rng_state()
    assert not varies(silent)
    moves = not torch.equal(torch.get_rng_state(), before)  # as of transformers 5.17's OPT, which does not use it
    assert has_randomness(silent) == moves


def test_padding_outside_the_vocabulary_becomes_the_end_token(tmp_path: Path) -> None:
    folder = copy_base(tmp_path / "base")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": "[outside]"})
    tokenizer.save_pretrained(folder)
    base = load_base(name_model(folder), quantize("none", False), torch.float32, torch.device("cpu"))
    assert tokenizer.pad_token_id >= base.model.get_input_embeddings().num_embeddings
    assert base.pad_id == tokenizer.eos_token_id


@pytest.mark.parametrize(
    ("name", "why"),
    [("xlnet", "is no causal language model: a token changes"), ("reformer", "cannot compute a row of a few tokens: ")],
)
def test_what_could_not_train_rightly_is_refused(name: str, why: str) -> None:
    with pytest.raises(ConfigError, match=rf"^model own {why}.*; choose "):
        try_short_texts(build_tiny_model(name), "own")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("starcoder2", {"residual_dropout": 0.1}),
        ("seed_oss", {"residual_dropout": 0.1}),
        ("mixtral", {"router_jitter_noise": 0.1}),
        ("falcon", {"hidden_dropout": 0.1}),
        ("gpt_bigcode", {"attn_pdrop": 0.1, "resid_pdrop": 0.0, "embd_pdrop": 0.0}),
        ("phimoe", {}),
    ],
)
def test_a_draw_is_found_wherever_a_family_has_it(name: str, values: dict[str, float]) -> None:
    assert has_randomness(build_tiny_model(name, **values))
