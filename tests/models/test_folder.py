"""A model's folder is checked before anything is built from it."""

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweeplab.models.base import load_tokenizer, read_architecture
from sweeplab.models.folder import fingerprint_settings, read_headers, read_json
from sweeplab.runtime.errors import ConfigError
from tests.models.folders import change_json, copy_base, name_model, read_tensors


def refusal(folder: Path) -> str:
    with pytest.raises(ConfigError) as refused:
        read_architecture(name_model(folder))
    said = str(refused.value)
    assert "\n" not in said
    return said


def test_headers_are_what_the_file_holds(tmp_path: Path) -> None:
    folder = copy_base(tmp_path / "model")
    expected = {name: tuple(tensor.shape) for name, tensor in read_tensors(folder).items()}
    assert {tensor.name: tensor.shape for tensor in read_headers(folder)} == expected


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("num_hidden_layers", 0, "num_hidden_layers in its config.json must be a whole number from 1, got 0"),
        ("num_hidden_layers", -1, "num_hidden_layers in its config.json must be a whole number from 1, got -1"),
        ("num_hidden_layers", 99_999, "num_hidden_layers in its config.json is 99,999, and its weights are"),
        ("num_hidden_layers", 10**6, "num_hidden_layers in its config.json must be at most 100,000, got 1,000,000"),
        ("num_hidden_layers", 10**4000, "must be at most 100,000, got a number of more than 30 digits"),
        ("num_hidden_layers", "two", "has no readable config.json: "),
        ("hidden_size", 10**9, "hidden_size in its config.json is 1,000,000,000, and all its weights together have"),
        ("vocab_size", 10**9, "vocab_size in its config.json is 1,000,000,000, and all its weights together have"),
        ("vocab_size", -5, "vocab_size in its config.json must be a whole number from 1, got -5"),
        ("num_attention_heads", 0, "config.json"),
        ("model_type", "nothing_like_it", "config.json"),
        ("model_type", 7, "config.json"),
        ("rope_parameters", "text", "config.json"),
    ],
)
def test_sizes_that_cannot_be_are_refused(key: str, value: Any, message: str, tmp_path: Path) -> None:
    folder = copy_base(tmp_path / "model")
    change_json(folder / "config.json", **{key: value})
    assert message in refusal(folder)


def deep(folder: Path) -> None:
    (folder / "config.json").write_text('{"a": ' + '{"a": ' * 100 + "1" + "}" * 101)


def very_deep(folder: Path) -> None:
    (folder / "config.json").write_text('{"a":' * 100_000)


def large(folder: Path) -> None:
    (folder / "config.json").write_text('{"a": "' + "x" * 2**24 + '"}')


def listed(folder: Path) -> None:
    (folder / "config.json").write_text("[1, 2]")


def piped(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    os.mkfifo(folder / "tokenizer.json")


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"a": 1}))
    index = {"metadata": {}, "weight_map": {"model.norm.weight": "pytorch_model.bin"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def outside(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder.parent / "model.safetensors")
    index = {"metadata": {}, "weight_map": {"model.norm.weight": "../model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def reversing(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": {"model.norm.weight": "\u202e\n\x1b[2J"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def truncated(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def adapted(folder: Path) -> None:
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "/nowhere"}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (deep, "config.json has more than 64 values within each other"),
        (very_deep, "config.json is no JSON: "),
        (large, "config.json must have at most 16,777,216 bytes, got 16,777,225"),
        (listed, "config.json must hold a JSON object, got list"),
        (piped, "tokenizer.json must be a file"),
        (pickled, "must name *.safetensors files in the same folder, got pytorch_model.bin; convert pickled weights"),
        (outside, "must name *.safetensors files in the same folder, got ../model.safetensors"),
        (reversing, r"files in the same folder, got \u202e\n\x1b[2J; convert pickled weights"),  # as letters
        (truncated, "model.safetensors cannot be loaded: "),
        (adapted, "holds an adapter (adapter_config.json), so that the base it names would be loaded"),
    ],
)
def test_damaged_files_are_refused(damage: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    folder = copy_base(tmp_path / "model")
    damage(folder)
    assert message in refusal(folder)


def test_json_of_the_most_values_within_each_other_is_read(tmp_path: Path) -> None:
    path = tmp_path / "deep.json"
    path.write_text('{"a": ' * 64 + "1" + "}" * 64)
    assert "a" in read_json(path, 10_000)


@pytest.mark.parametrize(
    "content",
    ["", "{}", "[]", "null", "\x00", '{"model": 1}', '{"version": "1.0", "model": {"type": "NoSuch"}}', "[" * 100_000],
)
def test_a_damaged_tokenizer_is_refused(content: str, tmp_path: Path) -> None:
    folder = copy_base(tmp_path / "model")
    (folder / "tokenizer.json").write_text(content)
    with pytest.raises(ConfigError, match=r"has no readable tokenizer: .*; copy tokenizer\.json from the model$"):
        load_tokenizer(name_model(folder))


def test_settings_beside_the_weights_are_known_by_their_values(tmp_path: Path) -> None:
    """What a model computes or reads otherwise with; a writer's notes of itself and other files change nothing."""
    folder = copy_base(tmp_path / "model")
    before = fingerprint_settings(folder)
    config = folder / "config.json"
    change_json(config, transformers_version="9.9", _name_or_path="elsewhere")
    config.write_text(json.dumps(json.loads(config.read_text()), indent=7))
    (folder / "README.md").write_text("a note")
    assert fingerprint_settings(folder) == before
    seen = {before}
    change_json(config, rms_norm_eps=0.5)
    seen.add(fingerprint_settings(folder))
    change_json(folder / "tokenizer_config.json", chat_template="{{ messages }}")
    seen.add(fingerprint_settings(folder))
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    seen.add(fingerprint_settings(folder))
    assert len(seen) == 4
