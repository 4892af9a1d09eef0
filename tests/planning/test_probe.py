"""A model's folder that never ends, aborts or takes all memory is refused in one line, by a process of its own."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from sweeplab.config.trial import TrialConfig
from sweeplab.planning import probe
from sweeplab.planning.probe import probe_model, probe_models
from sweeplab.runtime.errors import ConfigError
from tests.architectures import build_tiny_model
from tests.hostile_folders import read_in_fork
from tests.models.folders import change_json, change_weights, copy_base
from tests.trials import Compose

ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return copy_base(tmp_path / "model")


@pytest.fixture
def configure(compose_trial: Compose, folder: Path, tmp_path: Path) -> Any:
    """A trial on the folder's model."""
    rows = [{"instruction": f"Say {number}", "output": str(number)} for number in range(4)]
    (tmp_path / "data.json").write_text(json.dumps(rows))

    def make(style: str) -> TrialConfig:
        data = ("data=json", f"data.path={tmp_path / 'data.json'}", f"data.style={style}")
        return compose_trial("model=local", f"model.path={folder}", "quantization=none", *data)

    return make


def test_a_sound_folder_is_read_and_one_that_never_ends_is_refused_by_one_process(
    configure: Any, compose_trial: Compose, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Any] = []
    start = subprocess.Popen

    def count(*arguments: Any, **settings: Any) -> Any:
        started.append(arguments)
        return start(*arguments, **settings)

    monkeypatch.setattr(subprocess, "Popen", count)
    monkeypatch.setattr(probe, "MOST_SECONDS", 3)
    probe_models([compose_trial()])
    assert started == []  # the embedded base needs none
    (folder / "chat_template.jinja").write_text(ENDLESS)
    with pytest.raises(ConfigError) as refused:
        probe_models([configure("plain"), configure("plain"), configure("template")])
    assert len(started) == 1
    assert str(refused.value) == (
        f"model.path={folder}: reading the tokenizer and its chat template takes more than 3 seconds of processor "
        "time; copy the model's files again, or choose another model"
    )


def test_a_tokenizer_that_takes_all_memory_ends_at_the_limit(configure: Any, folder: Path) -> None:
    growing = [{"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 1000}] * 6
    change_json(folder / "tokenizer.json", normalizer={"type": "Sequence", "normalizers": growing})
    assert read_in_fork(configure("plain"), 5, 120).kind in ("refused", "limit", "killed")


def test_a_template_that_takes_all_memory_is_refused_and_not_left_to_the_driver(configure: Any, folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{{ 'a' * 10**11 }}")
    found = read_in_fork(configure("template"), 15, 120)
    assert found.kind == "refused"
    assert found.said.startswith(
        f"model.path={folder}: the tokenizer and its chat template cannot be read: MemoryError"
    )


def test_weights_that_are_not_there_are_refused_before_anything_is_trained(configure: Any, folder: Path) -> None:
    change_weights(folder, lambda weights: {name: one for name, one in weights.items() if "layers.2" not in name})
    found = read_in_fork(configure("plain"), 15, 120)
    assert found.kind == "refused"
    assert "weights: model.layers.2." in found.said


def test_a_sound_folder_is_read_and_computes(configure: Any) -> None:
    assert read_in_fork(configure("plain"), 15, 120).kind == "read"


def test_a_weight_that_is_no_number_is_refused_where_the_weights_are_small(
    configure: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        weights["model.norm.weight"][1] = float("nan")
        return weights

    change_weights(folder, spoil)
    with pytest.raises(ConfigError, match=r"holds model\.norm\.weight with NaN or infinite numbers"):
        probe_model(configure("plain"), lambda step: None)
    monkeypatch.setattr(probe, "_MOST_WEIGHT_BYTES", 1)
    probe_model(configure("plain"), lambda step: None)


def test_a_model_that_reads_both_ways_is_refused_by_the_plan_in_the_words_of_the_run(
    configure: Any, folder: Path
) -> None:
    (folder / "model.safetensors").unlink()
    build_tiny_model("xlnet").save_pretrained(folder)
    with pytest.raises(ConfigError, match=f"^model {folder} is no causal language model: a token changes"):
        probe_model(configure("plain"), lambda step: None)
