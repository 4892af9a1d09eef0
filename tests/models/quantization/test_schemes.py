"""Every quantization scheme on the embedded base: the same checks, and the arithmetic against NumPy and torch."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bitsandbytes import functional
from bitsandbytes.nn.modules import Linear4bit, Linear8bitLt
from peft import PeftModel
from safetensors.torch import load_file
from torch.nn import functional as F
from transformers import AutoModelForCausalLM

from sweeplab.adapters.attach import attach_adapter, detach_adapter, save_adapter
from sweeplab.config.model import EmbeddedModel, HubModel
from sweeplab.data.batches import collate_tokens
from sweeplab.data.tokens import Tokens
from sweeplab.models.base import _EMBEDDED, Base, load_base
from sweeplab.runtime.device import resolve_device, resolve_precision
from sweeplab.runtime.errors import ConfigError
from sweeplab.training.module import sum_target_losses
from tests.configs import quantize

SCHEMES: dict[str, tuple[Any, ...]] = {
    "none": ("none", False),
    "nf4": ("nf4", False),
    "nf4_dq": ("nf4", True),
    "fp4": ("fp4", False),
    "fp4_dq": ("fp4", True),
    "int8": ("int8", False),
    "hqq2": ("hqq2", False),
    "hqq3": ("hqq3", False),
    "hqq4": ("hqq4", False, 64),
    "mixed": ("nf4", True, 128, {"mlp": "hqq3"}),
    "mixed_int8": ("fp4", False, None, {r"layers\.0\.": "none", "up_proj|o_proj": "int8"}),
}
CPU = torch.device("cpu")
LAYER = "model.layers.0.self_attn.q_proj"
# Dettmers et al. 2023, arXiv 2305.14314, appendix E.
NF4_LEVELS = [
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
]  # fmt: skip
BASES: dict[str, Base] = {}


# slow: FP4 with double quantization, which FP4 and nf4_dq show
@pytest.fixture(params=[pytest.param(one, marks=pytest.mark.slow if one == "fp4_dq" else ()) for one in SCHEMES])
def base(request: pytest.FixtureRequest) -> Base:
    """The embedded base in one scheme; a test that changes it must change it back."""
    if request.param not in BASES:
        BASES[request.param] = fresh(request.param)
    return BASES[request.param]


def fresh(scheme: str) -> Base:
    quantization = quantize(*SCHEMES[scheme])
    return load_base(EmbeddedModel(name="tiny_base"), quantization, torch.float32, CPU)


def original_weight(name: str = LAYER) -> torch.Tensor:
    weight: torch.Tensor = AutoModelForCausalLM.from_pretrained(_EMBEDDED, dtype=torch.float32).get_parameter(
        f"{name}.weight"
    )
    return weight.detach()


def some_ids() -> torch.Tensor:
    return torch.randint(3, 99, (3, 17), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def logits(model: torch.nn.Module) -> torch.Tensor:
    made: torch.Tensor = model(input_ids=some_ids()).logits
    return made


def state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items() if isinstance(tensor, torch.Tensor)}


def batch() -> Any:
    rows = [Tokens([5, 6, 7, 8, 1], [-100, -100, 7, 8, 1]), Tokens([9, 4, 1], [-100, 4, 1])]
    return collate_tokens(rows, 0, 5)


def fill(model: torch.nn.Module) -> None:
    """Gives every B a value, as training would."""
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)


class TestEveryScheme:
    def test_a_fresh_adapter_leaves_logits_bit_for_bit(self, base: Base, make_adapter: Any) -> None:
        before = logits(base.model)
        adapted = attach_adapter(
            base.model, make_adapter("query", "value", "mlp", "head"), HubModel(name="any"), seed=1
        )
        assert torch.equal(logits(adapted), before)
        detach_adapter(adapted)

    def test_detaching_restores_the_base_bit_for_bit(self, base: Base, make_adapter: Any) -> None:
        before, weights, names = logits(base.model), state(base.model), [name for name, _ in base.model.named_modules()]
        adapted = attach_adapter(
            base.model, make_adapter("query", "projection", "mlp", "head"), HubModel(name="any"), seed=1
        )
        fill(adapted)
        assert not torch.allclose(logits(adapted), before, atol=1e-3)
        restored = detach_adapter(adapted)
        assert restored is base.model
        assert [name for name, _ in restored.named_modules()] == names
        assert torch.equal(logits(restored), before)
        after = state(restored)
        assert after.keys() == weights.keys()
        assert all(torch.equal(after[name], weights[name]) for name in weights)
        assert not any(weight.requires_grad for weight in restored.parameters())

    def test_gradients_reach_all_of_the_adapter_and_nothing_else(self, base: Base, make_adapter: Any) -> None:
        adapted = attach_adapter(
            base.model, make_adapter("query", "key", "value", "projection", "mlp", "head"), HubModel(name="any"), seed=1
        )
        fill(adapted)
        sum_target_losses(adapted, batch()).backward()
        for name, weight in adapted.named_parameters():
            reached = weight.grad is not None and bool(weight.grad.isfinite().all()) and bool(weight.grad.any())
            assert reached == ("lora_" in name), name
        detach_adapter(adapted)

    def test_evaluation_changes_nothing_in_the_base(self, base: Base) -> None:
        weights, first = state(base.model), logits(base.model)
        assert torch.equal(logits(base.model), first)
        after = state(base.model)
        assert all(torch.equal(after[name], weights[name]) for name in weights)

    def test_training_and_evaluation_compute_the_same(self, base: Base) -> None:
        with torch.enable_grad():
            tracked = base.model(input_ids=some_ids()).logits.detach()
        torch.testing.assert_close(logits(base.model), tracked, rtol=0, atol=1e-5)

    def test_parameters_are_counted_as_before_quantization(self, base: Base) -> None:
        loaded = AutoModelForCausalLM.from_pretrained(_EMBEDDED)
        assert base.num_params == sum(weight.numel() for weight in loaded.parameters())

    def test_a_saved_adapter_is_one_that_peft_loads(
        self, base: Base, make_adapter: Any, tmp_path: Path, request: Any
    ) -> None:
        adapted = attach_adapter(base.model, make_adapter("value", "mlp", "head"), HubModel(name="any"), seed=1)
        fill(adapted)
        trained = logits(adapted)
        num_bytes = save_adapter(adapted, tmp_path)
        detach_adapter(adapted)
        saved = load_file(tmp_path / "adapter_model.safetensors")
        assert all(".lora_A." in name or ".lora_B." in name for name in saved)
        assert sum(tensor.numel() for tensor in saved.values()) == 4 * (4 * 256 + 4 * 3 * (128 + 384) + 256)
        assert num_bytes == sum(path.stat().st_size for path in tmp_path.iterdir() if path.name != "README.md")
        other = PeftModel.from_pretrained(fresh(request.node.callspec.params["base"]).model, str(tmp_path))
        assert torch.equal(logits(other), trained)


@pytest.mark.parametrize("scheme", ["nf4", "nf4_dq", "fp4", "fp4_dq"])
def test_four_bit_layers_multiply_by_the_dequantized_matrix(scheme: str) -> None:
    layer = fresh(scheme).model.get_submodule(LAYER)
    assert isinstance(layer, Linear4bit)
    weight: Any = layer.weight
    state = weight.quant_state
    assert (state.quant_type, state.nested, state.blocksize) == (*SCHEMES[scheme], 64)
    matrix = functional.dequantize_4bit(weight.data, state)
    x = torch.randn(5, matrix.shape[1])
    torch.testing.assert_close(layer(x), F.linear(x, matrix), rtol=1e-5, atol=1e-5)


def test_nf4_is_the_nearest_level_of_each_block_by_numpy() -> None:
    weight = original_weight().numpy()
    blocks = weight.reshape(-1, 64)
    scales = np.abs(blocks).max(axis=1, keepdims=True)
    levels = np.array(NF4_LEVELS, dtype=np.float32)
    nearest = np.abs((blocks / scales)[..., None] - levels).argmin(axis=-1)
    expected = (levels[nearest] * scales).reshape(weight.shape)
    found = dequantized("nf4").numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-7)


def test_double_quantization_rounds_scales_to_the_nearest_code_by_numpy() -> None:
    single, double = (quantized_weight(scheme) for scheme in ("nf4", "nf4_dq"))
    scales, state = single.quant_state.absmax.numpy(), double.quant_state
    assert (state.nested, state.state2.blocksize) == (True, 256)
    code = functional.create_dynamic_map().numpy()  # type: ignore[no-untyped-call]
    centred = scales - scales.mean()
    largest = np.abs(centred).max()  # 256 scales of 128 x 128 / 64: one block
    nearest = np.abs((centred / largest)[:, None] - code).argmin(axis=1)
    rounded = code[nearest] * largest + scales.mean()
    assert np.abs(rounded - scales).max() > 1e-4
    matrix = dequantized("nf4").numpy().reshape(-1, 64) / scales[:, None] * rounded[:, None]
    found = dequantized("nf4_dq").numpy().reshape(-1, 64)
    np.testing.assert_allclose(found, matrix, rtol=0, atol=1e-6)


def dequantized(scheme: str) -> torch.Tensor:
    weight = quantized_weight(scheme)
    matrix: torch.Tensor = functional.dequantize_4bit(weight.data, weight.quant_state)
    return matrix


def quantized_weight(scheme: str) -> Any:
    """bitsandbytes' `Params4bit`: data and quant_state."""
    return fresh(scheme).model.get_parameter(f"{LAYER}.weight")


def test_nf4_errs_less_than_fp4() -> None:
    weight = original_weight()
    errors = {scheme: float((dequantized(scheme) - weight).square().mean()) for scheme in ("nf4", "fp4")}
    assert errors["nf4"] < errors["fp4"]


def test_int8_is_rowwise_rounding_of_weights_and_inputs_by_numpy() -> None:
    layer: Any = fresh("int8").model.get_submodule(LAYER)
    assert isinstance(layer, Linear8bitLt)
    weight = original_weight().half().numpy().astype(np.float64)  # bitsandbytes starts from 16 bits
    scales = np.abs(weight).max(axis=1)
    exact = weight / scales[:, None] * 127
    found = layer.weight.data.numpy().astype(np.float64)
    assert np.abs(found - exact).max() < 0.5 + 1e-4
    x = torch.randn(5, weight.shape[1])
    rows = x.half().numpy().astype(np.float64)
    row_scales = np.abs(rows).max(axis=1)
    product = np.round(rows / row_scales[:, None] * 127) @ found.T  # exact: whole numbers
    expected = product * row_scales[:, None] * scales[None, :] / 127**2
    with torch.no_grad():
        np.testing.assert_allclose(layer(x).numpy(), expected, rtol=0, atol=1e-3 * np.abs(expected).max())


def test_the_head_and_the_embedding_are_never_quantized(nf4_base: Base) -> None:
    loaded = AutoModelForCausalLM.from_pretrained(_EMBEDDED, dtype=torch.float32)
    for name in ("lm_head.weight", "model.embed_tokens.weight"):
        assert torch.equal(nf4_base.model.get_parameter(name), loaded.get_parameter(name))


def test_devices_and_precisions_are_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_precision("auto", CPU) is torch.float32
    assert [resolve_precision(name, CPU) for name in ("float32", "bfloat16", "float16")] == [
        torch.float32,
        torch.bfloat16,
        torch.float16,
    ]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == resolve_device("cpu") == CPU
    with pytest.raises(ConfigError, match=r"executor.device=cuda needs a CUDA device.*use executor.device=cpu"):
        resolve_device("cuda")


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "opt", "phi3", "qwen3"])
@pytest.mark.parametrize("scheme", ["none", "nf4_dq", "int8", "hqq3"])
def test_families_load_quantized_train_and_come_back(
    family: str, scheme: str, architectures: Any, make_adapter: Callable[..., Any]
) -> None:
    base = load_base(architectures[family], quantize(*SCHEMES[scheme]), torch.float32, CPU)
    before = logits(base.model)
    adapted = attach_adapter(
        base.model, make_adapter("query", "key", "value", "projection", "mlp"), architectures[family], seed=0
    )
    assert torch.equal(logits(adapted), before)
    fill(adapted)
    assert not torch.equal(logits(adapted), before)
    assert torch.equal(logits(detach_adapter(adapted)), before)


def test_random_initialisation_is_the_same_each_time(architectures: Any) -> None:
    first, second = (load_base(architectures["llama"], quantize("none", False), torch.float32, CPU) for _ in "ab")
    assert first.fingerprint == second.fingerprint == "random:0"
    weights = state(second.model)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in state(first.model).items())


@pytest.mark.filterwarnings(
    "ignore:fan_in_fan_out is set to:UserWarning", "ignore:Model has `tie_word_embeddings=True`:UserWarning"
)
@pytest.mark.parametrize("family", ["gpt2", "opt"])
def test_a_head_tied_to_the_embedding_is_saved_without_it(
    family: str, architectures: Any, random_model: Any, make_adapter: Any, tmp_path: Path
) -> None:
    adapted = attach_adapter(random_model(family), make_adapter("head"), architectures[family], seed=0)
    save_adapter(adapted, tmp_path)
    shapes = {
        name.partition("lm_head.")[2]: tuple(tensor.shape)
        for name, tensor in load_file(tmp_path / "adapter_model.safetensors").items()
    }
    assert shapes == {"lora_A.weight": (4, 64), "lora_B.weight": (128, 4)}


def test_bitsandbytes_says_nothing_of_kernels_from_the_hub() -> None:
    imports = "import sweeplab.models.quantization, bitsandbytes"
    process = subprocess.run([sys.executable, "-c", imports], capture_output=True, text=True, check=True, timeout=120)
    assert process.stderr == ""
