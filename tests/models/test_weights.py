"""Weights that are loaded are those of the file; missing, foreign, mismatched and broken ones are refused by name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, BertConfig, BertForMaskedLM, PreTrainedModel

from sweeplab.models.base import _EMBEDDED, load_base, load_pretrained
from sweeplab.runtime.errors import ConfigError
from tests.configs import quantize
from tests.models.folders import Tensors, change_json, change_weights, copy_base, name_model, read_tensors

CPU = torch.device("cpu")
PLAIN = quantize("none", False)


def refusal(folder: Path) -> str:
    with pytest.raises(ConfigError) as refused:
        load_base(name_model(folder), PLAIN, torch.float32, CPU)
    said = str(refused.value)
    assert "\n" not in said
    return said


def without(part: str) -> Callable[[Tensors], Tensors]:
    return lambda weights: {name: weight for name, weight in weights.items() if part not in name}


@pytest.mark.parametrize("family", ["llama", "gpt2", "phi3", "opt"])
def test_loaded_weights_are_those_of_the_file(
    family: str, random_model: Callable[[str], PreTrainedModel], tmp_path: Path
) -> None:
    random_model(family).save_pretrained(str(tmp_path), max_shard_size="100KB")
    stored = read_tensors(tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    loaded = load_pretrained(name_model(tmp_path), {"dtype": torch.float32}).state_dict()
    for name, weight in loaded.items():
        if name in stored:
            assert torch.equal(weight, stored.pop(name)), name
        else:  # tied
            assert any(weight.data_ptr() == other.data_ptr() for key, other in loaded.items() if key != name), name
    assert stored == {}


def test_a_layer_without_weights_is_refused_by_name(tmp_path: Path) -> None:
    folder = copy_base(tmp_path / "model")
    names = sorted(name for name in read_tensors(folder) if ".layers.1." in name)
    change_weights(folder, without(".layers.1."))
    said = refusal(folder)
    assert f"lacks {len(names)} of its " in said
    assert f"{', '.join(names[:3])} and {len(names) - 3} more; copy config.json and all *.safetensors" in said


def test_foreign_names_are_refused_with_what_is_there(tmp_path: Path) -> None:
    folder = copy_base(tmp_path / "model")
    change_weights(folder, lambda weights: {f"foreign.{name}": weight for name, weight in weights.items()})
    assert ", while foreign." in refusal(folder)


def test_another_shape_is_refused(tmp_path: Path) -> None:
    folder = copy_base(tmp_path / "model")
    change_weights(folder, lambda weights: weights | {"model.norm.weight": torch.ones(3)})
    said = refusal(folder)
    assert (
        "holds 1 weights of other shapes than its config.json says, such as model.norm.weight with (3,) for (" in said
    )


def test_what_the_model_has_no_room_for_does_no_harm(tmp_path: Path) -> None:
    folder = copy_base(tmp_path / "model")
    extra = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4), "score.weight": torch.ones(2, 4)}
    change_weights(folder, lambda weights: weights | extra)
    loaded = load_pretrained(name_model(folder), {"dtype": torch.float32}).state_dict()
    before = AutoModelForCausalLM.from_pretrained(_EMBEDDED, dtype=torch.float32).state_dict()
    assert all(torch.equal(loaded[name], weight) for name, weight in before.items())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_weight_that_is_no_number_is_refused_by_name(value: float, dtype: torch.dtype, tmp_path: Path) -> None:
    folder = copy_base(tmp_path / "model")

    def spoil(weights: Tensors) -> Tensors:
        weights = {name: weight.to(dtype) for name, weight in weights.items()}
        weights["model.norm.weight"][1] = value
        return weights

    change_weights(folder, spoil)
    assert "holds model.norm.weight with NaN or infinite numbers" in refusal(folder)


@pytest.mark.parametrize(
    "method", ["gptq", "awq", "bitsandbytes", "torchao", "compressed-tensors", "fp8", "mxfp4", "nobody_knows_it"]
)
def test_a_quantized_checkpoint_is_refused(method: str, tmp_path: Path) -> None:
    folder = copy_base(tmp_path / "model")
    change_json(folder / "config.json", quantization_config={"quant_method": method, "bits": 4})
    assert f"quantized with {method} (quantization_config in its config.json)" in refusal(folder)


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int32, torch.float8_e4m3fn])
def test_matrices_of_whole_numbers_are_refused_without_a_word_in_config_json(
    dtype: torch.dtype, tmp_path: Path
) -> None:
    folder = copy_base(tmp_path / "model")
    change_weights(folder, lambda weights: {name: weight.to(dtype) for name, weight in weights.items()})
    assert "so it is quantized; give the unquantized model" in refusal(folder)


def test_an_encoder_is_refused(tmp_path: Path) -> None:
    folder = copy_base(tmp_path / "model")
    sizes: dict[str, Any] = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    BertForMaskedLM(BertConfig(vocab_size=128, **sizes)).save_pretrained(str(folder))
    assert "is no causal language model: a bert reads both sides of every token" in refusal(folder)
