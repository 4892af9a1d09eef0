"""Fast ways of computing on every causal architecture of transformers: exact, or not used."""

from typing import Any, Final

import pytest
import torch
from transformers import PreTrainedModel

from sweeplab.data.packing import PackedRow
from sweeplab.logits import states
from sweeplab.models.base import Base
from sweeplab.models.behavior import has_randomness, is_causal
from sweeplab.models.layers import choose_text_names, find_decoder_layers, find_linear_layers, find_norm_layers
from sweeplab.runtime.errors import ConfigError
from sweeplab.trial.exactness import refuse_inexact_packing
from tests.architectures import (
    ARCHITECTURES,
    VOCABULARY,
    build_tiny_model,
    compute_answers,
    compute_losses,
    draw_examples,
    make_base,
    varies_in_training,
)

QUICK: Final = {
    "llama", "mistral", "gemma3", "gpt_oss", "llama4_text", "lfm2", "qwen3_next", "mamba", "bloom", "gpt2", "phimoe",
    "opt", "nemotron",
}  # fmt: skip
NOT_CAUSAL: Final = {"cpmant", "xlm", "xlnet", "prophetnet"}  # a token, or padding, changes what stands before it
WITHOUT_NORM_WEIGHTS: Final = {"olmo", "nanochat", "hrm_text"}
TRAINS_ON_ONE_LENGTH: Final = {"reformer"}  # refused when it is loaded


def _mark(name: str) -> Any:
    return name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)


@pytest.fixture(scope="module", params=[_mark(name) for name in ARCHITECTURES])
def model(request: Any) -> PreTrainedModel:
    name = request.param
    try:
        return build_tiny_model(name)
    except Exception as error:
        assert name not in QUICK
        pytest.skip(f"{name} cannot be built tiny: {type(error).__name__} {error}")


def test_a_base_that_is_not_causal_is_known(model: PreTrainedModel) -> None:
    assert is_causal(model) == (model.config.model_type not in NOT_CAUSAL)


def test_losses_of_padded_and_packed_rows_are_those_of_each_example(
    model: PreTrainedModel, embedded_base: Base
) -> None:
    if model.config.model_type in NOT_CAUSAL:
        pytest.skip("refused when it is loaded")
    examples = draw_examples()
    found = compute_losses(model, examples)
    assert found.padded == pytest.approx(found.separate, rel=2e-5, abs=1e-4)
    try:
        refuse_inexact_packing(make_base(model, embedded_base.tokenizer), [PackedRow(tuple(examples))], 256)
    except ConfigError:
        return
    assert found.packed == pytest.approx(found.separate, rel=2e-5, abs=1e-4)


@pytest.mark.parametrize("length", [6, 50])
def test_answers_that_share_a_question_score_as_each_by_itself(
    model: PreTrainedModel, embedded_base: Base, length: int
) -> None:
    if model.config.model_type in NOT_CAUSAL:
        pytest.skip("refused when it is loaded")
    found = compute_answers(model, embedded_base.tokenizer, length)
    assert found.scored == pytest.approx(found.separate, rel=2e-5, abs=1e-4)


def test_chunks_of_the_loss_sum_up_to_the_whole(model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    if model.config.model_type in NOT_CAUSAL:
        pytest.skip("refused when it is loaded")
    whole = compute_losses(model, draw_examples()).padded
    monkeypatch.setattr(states, "_CHUNK_BYTES", 4 * VOCABULARY * 8)
    assert compute_losses(model, draw_examples()).padded == pytest.approx(whole, rel=1e-5)


def test_random_numbers_of_the_base_are_found(model: PreTrainedModel) -> None:
    if model.config.model_type in TRAINS_ON_ONE_LENGTH:
        pytest.skip("refused when it is loaded")
    before = torch.get_rng_state()
    found = has_randomness(model)
    assert torch.equal(torch.get_rng_state(), before)
    assert not model.training
    assert found == varies_in_training(model)


def test_what_trains_is_what_text_reaches(model: PreTrainedModel) -> None:
    """By gradients: all that is named has one, and nothing else has, experts that no token met apart."""
    if model.config.model_type in TRAINS_ON_ONE_LENGTH:
        pytest.skip("refused when it is loaded")
    is_reached = choose_text_names(model)
    ids = torch.arange(3, 99)[None]
    model.requires_grad_(True)
    model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.square().sum().backward()
    gradients = {name: weight.grad is not None for name, weight in model.named_parameters()}
    model.requires_grad_(False)
    model.zero_grad()
    assert [name for name, has in gradients.items() if has and not is_reached(name)] == []
    linears = [f"{name}.weight" for name, _ in find_linear_layers(model) if is_reached(name)]
    rare = ("expert", "compressor")  # experts that no token met, and what sums up longer texts
    missed = [name for name in linears if not gradients.get(name, True) and not any(one in name for one in rare)]
    assert missed == []
    norms = find_norm_layers(model)
    assert bool(norms) != (model.config.model_type in WITHOUT_NORM_WEIGHTS)
    own = [f"{name}.{part}" for name, norm in norms.items() for part, _ in norm.named_parameters()]
    assert all(gradients.get(name, True) for name in own if "compressor" not in name)
    assert any(weight.requires_grad is False for weight in find_decoder_layers(model)[-1].parameters())
