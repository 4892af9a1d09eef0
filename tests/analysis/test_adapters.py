"""Adapters from files that may hold anything."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.numpy import save_file

from sweeplab.analysis.adapters import Factors, Shape, read_adapter, read_factors
from sweeplab.records.store import StoreError
from tests.analysis.conftest import AdapterWriter
from tests.architectures import build_tiny_model
from tests.trials import LlamaFactory


def test_an_adapter_that_peft_wrote(tiny_llama: LlamaFactory, tmp_path: Path) -> None:
    """scaling x B A equals PEFT's own delta, whole matrices."""
    config = LoraConfig(r=3, lora_alpha=7, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    adapted = get_peft_model(tiny_llama(), config)
    adapted.save_pretrained(str(tmp_path))
    layers = {f"model.layers.{layer}.{name}" for layer in (0, 1) for name in ("self_attn.q_proj", "mlp.down_proj")}
    adapter = read_adapter(tmp_path, dict.fromkeys(layers, 7 / 3))
    assert set(adapter.shapes) == layers
    assert adapter.shapes["model.layers.1.mlp.down_proj"] == Shape(3, 48, 32)
    for name in layers:
        module: Any = adapted.get_submodule(f"base_model.model.{name}")
        factors = read_factors(adapter, name)
        expected = module.get_delta_weight("default").detach().numpy()
        np.testing.assert_allclose(factors.scaling * factors.b_OR @ factors.a_RI, expected, rtol=1e-6, atol=1e-9)


def test_experts_in_one_tensor_are_left_out(tmp_path: Path) -> None:
    experts = [
        f"model.layers.{layer}.mlp.experts.{name}" for layer in range(4) for name in ("gate_up_proj", "down_proj")
    ]
    known = [f"model.layers.{layer}.self_attn.q_proj" for layer in range(4)]
    for targets, kept in ((["q_proj"], known), ([], [])):
        config = LoraConfig(r=2, target_modules=targets, target_parameters=["gate_up_proj", "down_proj"])
        get_peft_model(build_tiny_model("mixtral"), config).save_pretrained(str(tmp_path))
        scalings = dict.fromkeys([*experts, *kept], 4.0)
        if kept:
            assert set(read_adapter(tmp_path, scalings).shapes) == set(known)
            continue
        with pytest.raises(StoreError, match="it adapts parameters only, such as experts in one tensor"):
            read_adapter(tmp_path, scalings)


def test_sixteen_bits_are_read_exactly(tmp_path: Path, write_adapter: AdapterWriter) -> None:
    folder = write_adapter({"m": (np.ones((1, 2), np.float32), np.ones((2, 1), np.float32))})
    from safetensors.torch import save_file as save_torch

    a_RI, b_OR = torch.tensor([[1.5, -2.0]], dtype=torch.bfloat16), torch.tensor([[0.25], [3.0]], dtype=torch.float16)
    names = {part: f"base_model.model.m.lora_{part}.weight" for part in "AB"}
    save_torch({names["A"]: a_RI, names["B"]: b_OR}, folder / "adapter_model.safetensors")
    factors = read_factors(read_adapter(folder, {"m": 2.0}), "m")
    assert factors.a_RI.tolist() == [[1.5, -2.0]]
    assert factors.b_OR.tolist() == [[0.25], [3.0]]
    assert factors == Factors(factors.a_RI, factors.b_OR, 2.0)


GOOD = {"m": (np.ones((2, 3)), np.ones((4, 2)))}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"peft_type": "LOHA"}, "peft_type is not LORA"),
        ({"use_dora": True}, "DoRA"),
        ({"init_lora_weights": "pissa_niter_4"}, "rewrites the base"),
    ],
)
def test_what_is_no_plain_lora_is_refused(write_adapter: AdapterWriter, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(StoreError, match=words):
        read_adapter(write_adapter(GOOD, **changes), {"m": 1.0})


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, "\udcff", '{"peft_type": 3}'])
def test_a_configuration_that_is_none(write_adapter: AdapterWriter, text: str) -> None:
    folder = write_adapter(GOOD)
    (folder / "adapter_config.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(StoreError, match=r"adapter_config\.json is no LoRA adapter") as caught:
        read_adapter(folder, {"m": 1.0})
    assert "\n" not in str(caught.value)


def header(size: int, values: dict[str, Any]) -> bytes:
    """A safetensors file that claims `values`, with a few bytes behind."""
    text = json.dumps(values).encode()
    return (len(text) if size < 0 else size).to_bytes(8, "little") + text + bytes(16)


KEY = "base_model.model.m.lora_A.weight"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\x04\x95.",  # a pickle
        header(2**62, {}),
        header(-1, {KEY: {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 16]}}),
        header(-1, {KEY: {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 2**40]}}),
        header(-1, {KEY: {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}),  # no B
        header(-1, {KEY: {"dtype": "I32", "shape": [2, 2], "data_offsets": [0, 16]}}),
    ],
)
def test_weights_that_are_none(write_adapter: AdapterWriter, data: bytes) -> None:
    folder = write_adapter(GOOD)
    (folder / "adapter_model.safetensors").write_bytes(data)
    with pytest.raises(StoreError, match="is no LoRA adapter that can be read") as caught:
        read_adapter(folder, {"m": 1.0})
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(write_adapter: AdapterWriter) -> None:
    folder = write_adapter(GOOD)
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(StoreError, match=r"adapter_model\.safetensors is no LoRA adapter"):
        read_adapter(folder, {"m": 1.0})


@pytest.mark.parametrize(
    ("a", "b"),
    [((2, 3), (4, 3)), ((2, 3), (4,)), ((0, 3), (4, 0)), ((2, 3, 1), (4, 2))],
)
def test_factors_that_do_not_fit(write_adapter: AdapterWriter, a: tuple[int, ...], b: tuple[int, ...]) -> None:
    with pytest.raises(StoreError, match="do not fit together"):
        read_adapter(write_adapter({"m": (np.ones(a), np.ones(b))}), {"m": 1.0})


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e200])
def test_numbers_that_would_spoil_every_sum(write_adapter: AdapterWriter, value: float) -> None:
    b_OR = np.ones((4, 2))
    b_OR[1, 1] = value
    adapter = read_adapter(write_adapter({"m": (np.ones((2, 3)), b_OR)}), {"m": 1.0})
    with pytest.raises(StoreError, match="B of m holds numbers that are not finite, or beyond 1e"):
        read_factors(adapter, "m")


def test_a_scaling_must_be_known(write_adapter: AdapterWriter) -> None:
    folder = write_adapter(GOOD)
    for scalings in ({}, {"m": float("inf")}):
        with pytest.raises(StoreError, match="the record knows no scaling of m"):
            read_adapter(folder, scalings)


def test_what_trained_beside_the_adapter_is_left_alone(write_adapter: AdapterWriter) -> None:
    folder = write_adapter(GOOD)
    tensors = {f"base_model.model.m.lora_{part}.weight": GOOD["m"][place] for place, part in enumerate("AB")}
    save_file(tensors | {"base_model.model.norm.weight": np.ones(3)}, folder / "adapter_model.safetensors")
    assert set(read_adapter(folder, {"m": 1.0}).shapes) == {"m"}
