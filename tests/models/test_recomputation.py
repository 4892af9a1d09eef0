"""Norms and MLPs that keep less, against transformers' own: the same bits forward and backward, fewer bytes between."""

import gc
import weakref
from collections.abc import Callable
from copy import deepcopy
from typing import Any, Final
from unittest import mock

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.configuration_llama import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm

from sweeplab.models import recomputation
from sweeplab.models.recomputation import is_lean_mlp, is_lean_norm, keep_input, keep_less
from sweeplab.multilora.dropout import Extent
from tests.planning import models
from tests.planning.models import LAYERS, planned
from tests.trials import Compose

WIDTH: Final = 48
INNER: Final = 80
TOKENS: Final = 37
DTYPES: Final = (torch.float32, torch.bfloat16)


def make_norm(dtype: torch.dtype) -> nn.Module:
    norm = LlamaRMSNorm(WIDTH).to(dtype).requires_grad_(False)
    norm.weight.uniform_(0.5, 1.5)
    return norm


def configure(**more: Any) -> LlamaConfig:
    return LlamaConfig(hidden_size=WIDTH, intermediate_size=INNER, num_attention_heads=4, **more)


def make_mlp(dtype: torch.dtype) -> nn.Module:
    return LlamaMLP(configure()).to(dtype).requires_grad_(False)


def make_lean(module: nn.Module) -> nn.Module:
    lean = deepcopy(module)
    keep_less(lean)
    assert type(lean).__name__ == type(module).__name__
    assert type(lean) is not type(module)
    return lean


def draw_numbers(dtype: torch.dtype) -> Tensor:
    return (3 * torch.randn(2, TOKENS, WIDTH)).to(dtype)


def compute_with_gradient(module: Callable[..., Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """The result with its input added, as in a model, and the gradient of a sum of cubes."""
    x = x.clone().requires_grad_()
    inner = x + 0  # its gradient is a sum of what several functions send
    result = inner + module(inner)
    result.float().pow(3).sum().backward()
    assert x.grad is not None
    return result, x.grad


def count_saved_bytes(module: nn.Module, dtype: torch.dtype) -> int:
    """Of what the module keeps for the backward, weights apart."""
    saved: dict[int, int] = {}
    weights = {one.untyped_storage().data_ptr() for one in module.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    x = draw_numbers(dtype).requires_grad_()
    with saved_tensors_hooks(keep, lambda tensor: tensor):
        module(x)
    return sum(size for place, size in saved.items() if place not in weights)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("make", [make_norm, make_mlp])
def test_the_same_bits_as_transformers_own_module(make: Callable[[torch.dtype], nn.Module], dtype: torch.dtype) -> None:
    plain = make(dtype)
    x = draw_numbers(dtype)
    own, lean = (compute_with_gradient(one, x) for one in (plain, make_lean(plain)))
    assert torch.equal(own[0], lean[0])
    assert torch.equal(own[1], lean[1])


def test_a_norm_keeps_its_input_and_one_number_a_token() -> None:
    norm = make_norm(torch.bfloat16)
    tokens = 2 * TOKENS
    assert count_saved_bytes(norm, torch.bfloat16) == tokens * (4 * WIDTH + 4)
    assert count_saved_bytes(make_lean(norm), torch.bfloat16) == tokens * (2 * WIDTH + 4)


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_mlp_keeps_two_of_three(dtype: torch.dtype) -> None:
    mlp, one = make_mlp(dtype), 2 * TOKENS * INNER * dtype.itemsize
    assert count_saved_bytes(mlp, dtype) == 3 * one
    assert count_saved_bytes(make_lean(mlp), dtype) == 2 * one


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("checkpoints", [False, True])
@pytest.mark.parametrize("model_type", ["llama", "qwen3", "mixtral"])
def test_a_whole_model_computes_the_same_bits(model_type: str, checkpoints: bool, dtype: torch.dtype) -> None:
    """A padded batch, and every gradient of the embeddings, through all layers."""
    sizes = {"hidden_size": WIDTH, "intermediate_size": INNER, "num_hidden_layers": 2, "num_attention_heads": 4}
    more = {"num_key_value_heads": 2, "head_dim": 12, "vocab_size": 64, "bos_token_id": None, "eos_token_id": 1}
    config = AutoConfig.for_model(model_type, **sizes, **more)
    model: Any = AutoModelForCausalLM.from_config(config, dtype=dtype).requires_grad_(False)
    lean = deepcopy(model)
    keep_less(lean)
    if checkpoints:
        lean.gradient_checkpointing_enable({"use_reentrant": False})
        lean.train()
    mask = torch.ones(2, TOKENS, dtype=torch.long)
    mask[0, 20:] = 0
    x = draw_numbers(dtype)
    found = [
        compute_with_gradient(
            lambda states, one=one: one.model(inputs_embeds=states, attention_mask=mask, use_cache=False)[0], x
        )
        for one in (model, lean)
    ]
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("overrides", [(), ("adapter.dropout=0.1",)])
def test_an_adapters_gradients_are_those_of_the_input_itself(
    compose_trial: Compose, monkeypatch: pytest.MonkeyPatch, overrides: tuple[str, ...], dtype: torch.dtype
) -> None:
    config = planned(compose_trial, "llama", LAYERS, *overrides, batch=2, vocab_size=500)
    found = []
    for keep in (lambda model: None, keep_less):
        monkeypatch.setattr(models, "keep_less", keep)
        torch.manual_seed(1)
        one = models.built(config, dtype, Extent(2, 24))
        with torch.no_grad():
            for weight in one.trained:
                weight.normal_(0, 0.1)
        ids = torch.arange(48).reshape(2, 24)
        one.model(input_ids=ids).logits.float().pow(2).mean().backward()
        found.append(one.gradients)
    assert all(bool((mine != 0).any()) for mine in found[0])
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))


def test_readers_make_an_output_again_once_together() -> None:
    """Two keep it, the first to ask makes it, and after the last one it is gone."""
    norm, x = make_lean(make_norm(torch.float32)), draw_numbers(torch.float32).requires_grad_()
    before = set(recomputation._recipes)  # of graphs that other tests leave in cycles
    with mock.patch.object(recomputation, "_scale", wraps=recomputation._scale) as scale:
        result = norm(x)
        kept = [keep_input(result.reshape(1, -1, WIDTH)) for _ in range(2)]
        expected = result.detach().reshape(1, -1, WIDTH).clone()
        del result
        assert scale.call_count == 0
        made = [one.restore(one.tensors) for one in kept]
    assert scale.call_count == 1
    assert all(torch.equal(one, expected) for one in made)
    assert made[0].data_ptr() == made[1].data_ptr()
    assert set(recomputation._recipes) <= before


@pytest.mark.parametrize(
    "change", [lambda y: y.mul_(2), lambda y: y[:, 1:], lambda y: y.transpose(0, 1), lambda y: 2 * y]
)
def test_what_is_not_the_output_itself_is_kept(change: Callable[[Tensor], Tensor]) -> None:
    result = make_lean(make_norm(torch.float32))(draw_numbers(torch.float32)).detach_()
    x = change(result)
    assert keep_input(x).tensors[0] is x


def test_only_what_is_known_to_be_the_same_computes_so() -> None:
    class Other(LlamaRMSNorm):
        def forward(self, hidden_states: Tensor) -> Tensor:
            return 2 * super().forward(hidden_states)

    gelu = LlamaMLP(configure(hidden_act="gelu"))
    replaced = make_norm(torch.float32)
    replaced.forward = own = lambda x: x
    keep_less(nn.ModuleList([Other(WIDTH), GemmaRMSNorm(WIDTH), nn.LayerNorm(WIDTH), gelu, replaced]))
    assert replaced.forward is own
    assert not any(is_lean_norm(one) for one in (Other(WIDTH), GemmaRMSNorm(WIDTH), nn.LayerNorm(WIDTH)))
    assert not is_lean_mlp(gelu)


def test_a_model_goes_without_a_search_for_cycles() -> None:
    gc.disable()
    try:
        gone = [weakref.ref(make_lean(make(torch.float32))) for make in (make_norm, make_mlp)]
        assert [one() for one in gone] == [None, None]
    finally:
        gc.enable()


def test_a_norm_that_trains_gets_its_gradient() -> None:
    norm = make_norm(torch.float32).requires_grad_()
    lean, x = make_lean(norm), draw_numbers(torch.float32)
    for one in (norm, lean):
        one(x).pow(3).sum().backward()
    (own,), (found,) = ([weight.grad for weight in one.parameters()] for one in (norm, lean))
    assert own is not None
    assert found is not None
    assert torch.equal(own, found)
