"""The base's matrices as arrays: dequantized, in the orientation of B A, as many as time allows."""

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from safetensors.numpy import load_file
from transformers import GPT2Config, GPT2LMHeadModel

from sweeplab.analysis import weights
from sweeplab.analysis.adapters import Array
from sweeplab.analysis.weights import choose_affordable, read_base_weights
from sweeplab.config.model import EmbeddedModel, LocalModel, ModelConfig
from sweeplab.config.quantization import QuantizationConfig
from sweeplab.models.base import _EMBEDDED, Base
from tests.configs import quantize

NAME = "model.layers.1.mlp.down_proj"
EMBEDDED_MODEL = EmbeddedModel(name="tiny_base")


def weight_of(model: ModelConfig, quantization: QuantizationConfig, name: str) -> Array:
    found = read_base_weights(model, quantization)(name)
    assert found is not None
    return found


def test_a_plain_base_gives_its_file() -> None:
    found = weight_of(EMBEDDED_MODEL, quantize("none", False), NAME)
    stored = load_file(_EMBEDDED / "model.safetensors")[f"{NAME}.weight"]
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, stored)


def test_a_quantized_base_gives_what_it_computes_from(nf4_base: Base) -> None:
    found = weight_of(EMBEDDED_MODEL, quantize("nf4", True), NAME)
    weight: Any = nf4_base.model.get_submodule(NAME).weight
    expected = dequantize_4bit(weight.data, weight.quant_state).float().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    stored = load_file(_EMBEDDED / "model.safetensors")[f"{NAME}.weight"]
    assert 0 < np.linalg.norm(found - stored) / np.linalg.norm(stored) < 0.15


def test_transposed_layers_come_as_rows_of_outputs(tmp_path: Path) -> None:
    """GPT-2's fused query, key and value reads 8 numbers and gives 24."""
    model: Any = GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=8, n_layer=1, n_head=2, n_positions=16))
    model.save_pretrained(str(tmp_path))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(_EMBEDDED / name, tmp_path)
    gpt2 = LocalModel(name="gpt2", path=str(tmp_path))
    found = weight_of(gpt2, quantize("none", False), "transformer.h.0.attn.c_attn")
    layer = model.transformer.h[0].attn.c_attn
    assert found.shape == (24, 8)
    x = torch.randn(3, 8)
    expected = (layer(x) - layer.bias).detach().numpy()
    np.testing.assert_allclose(x.numpy() @ found.T, expected, rtol=1e-5, atol=1e-6)


def test_only_what_time_allows_is_decomposed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work is O x I x min(O, I); a head too large alone is left out, the rest drawn evenly."""
    shapes = {f"layer{n}": (10, 10) for n in range(9)} | {"head": (1000, 10)}
    names = list(shapes)
    monkeypatch.setattr(weights, "_MOST_WORK", 1e9)
    assert choose_affordable(names, shapes) == names
    monkeypatch.setattr(weights, "_MOST_WORK", 3000)
    assert choose_affordable(names, shapes) == ["layer0", "layer4", "layer8"]
    monkeypatch.setattr(weights, "_MOST_WORK", 1)
    assert math.prod(shapes[choose_affordable(names, shapes)[0]]) == 100
