"""Hidden states, and logits that the model's own forward makes of them, against its logits of all positions."""

from typing import Any, Final

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from sweeplab.logits import states
from sweeplab.logits.states import Readout, count_positions_per_chunk, find_head, read_states, widen_logits
from tests.architectures import build_tiny_model
from tests.random_models import SIZES

IDS: Final = torch.tensor([[5, 9, 20, 31, 7], [8, 11, 3, 2, 6]])
CHANGING: Final = ("gemma2", "cohere", "granite", "minicpm3", "falcon_h1", "llama4_text", "bloom", "mamba", "phimoe")


def read(model: Any) -> Readout | None:
    return read_states(model, {"input_ids": IDS, "attention_mask": torch.ones_like(IDS)})


@pytest.mark.parametrize("name", CHANGING)
def test_logits_of_any_positions_are_the_models_own(name: str) -> None:
    """Of families that cap, scale or divide them, or that are built in another way."""
    model: PreTrainedModel = build_tiny_model(name)
    with torch.no_grad():
        whole = model(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits
    for _ in range(2):  # the first one tries
        readout = read(model)
        assert readout is not None
        rows, columns = torch.tensor([1, 0, 1]), torch.tensor([4, 2, 0])
        found = readout.compute_logits(readout.states_BTH[rows, columns])
        torch.testing.assert_close(found, whole[rows, columns], rtol=1e-5, atol=1e-5 * whole.abs().max().item())
        assert readout.vocab_size == whole.shape[-1]


class WithoutHead(LlamaForCausalLM):
    """Its logits are those of a part that it does not name as its head."""

    def forward(self, input_ids: Any = None, **inputs: Any) -> Any:
        output = super().forward(input_ids, **inputs)
        output.logits = output.logits + input_ids[..., None]
        return output


def test_a_model_that_makes_logits_of_more_than_states_is_left_alone() -> None:
    model: Any = WithoutHead(LlamaConfig(**SIZES["llama"]))
    model.eval()
    with torch.no_grad():
        whole = model(input_ids=IDS).logits
    assert read(model) is None
    assert model in states._reads_states
    assert "forward" not in vars(model.model)
    assert "forward" not in vars(model.lm_head)
    assert not model.lm_head._forward_pre_hooks
    assert not model.model._forward_hooks
    with torch.no_grad():
        assert torch.equal(model(input_ids=IDS).logits, whole)


def test_the_model_is_as_before(tiny_llama: Any) -> None:
    model = tiny_llama().train()
    before = model(input_ids=IDS).logits
    for _ in range(2):
        readout = read(model)
        assert readout is not None
        readout.compute_logits(readout.states_BTH[0])
    assert model.lm_head.training
    assert torch.equal(model(input_ids=IDS).logits, before)
    assert not model.model._forward_hooks
    assert not model.lm_head._forward_pre_hooks


def test_trained_weights_are_those_that_states_do_not_carry(tiny_llama: Any) -> None:
    model = tiny_llama().requires_grad_(False)
    readout = read(model)
    assert readout is not None
    assert readout.list_trained_weights() == []
    model.requires_grad_(True)
    (weight,) = readout.list_trained_weights()
    assert weight is model.lm_head.weight
    tied = tiny_llama(tie_word_embeddings=True)
    readout = read(tied)
    assert readout is not None
    (weight,) = readout.list_trained_weights()
    assert weight is tied.model.embed_tokens.weight


def test_a_model_without_a_head() -> None:
    assert find_head(torch.nn.Linear(2, 2)) is None
    assert read(torch.nn.Linear(2, 2)) is None


def test_positions_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    assert count_positions_per_chunk(1 << 20, "cpu") == 8  # 32 MiB of 4 bytes each
    on_gpu = {1 << 20: 64, 128256: 256, 32000: 262, 1 << 10: 8192}  # by words: 256 MiB, 256 positions, 32 MiB
    assert {words: count_positions_per_chunk(words, "cuda") for words in on_gpu} == on_gpu
    monkeypatch.setattr(states, "_CHUNK_BYTES", 4 * 128 * 3 + 511)
    assert count_positions_per_chunk(128, "cpu") == 3
    assert count_positions_per_chunk(1 << 20, "cpu") == 1


@pytest.mark.parametrize(("dtype", "wide"), [("bfloat16", "float32"), ("float32", "float32"), ("float64", "float64")])
def test_logits_are_widened(dtype: str, wide: str) -> None:
    assert widen_logits(torch.zeros(1, dtype=getattr(torch, dtype))).dtype is getattr(torch, wide)
