"""Adapters written by hand, in PEFT's format."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

AdapterWriter = Callable[..., Path]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def write_adapter(tmp_path: Path) -> AdapterWriter:
    """A folder with A and B by the base's names, and `adapter_config.json` of a plain LoRA with `changes`."""

    def write(
        pairs: Mapping[str, tuple[NDArray[Any], NDArray[Any]]], folder: Path | None = None, **changes: Any
    ) -> Path:
        folder = tmp_path / "adapter" if folder is None else folder
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {}
        for name, (a_RI, b_OR) in pairs.items():
            tensors[f"base_model.model.{name}.lora_A.weight"] = np.ascontiguousarray(a_RI)
            tensors[f"base_model.model.{name}.lora_B.weight"] = np.ascontiguousarray(b_OR)
        save_file(tensors, folder / "adapter_model.safetensors")
        config = {"peft_type": "LORA", "use_dora": False, "init_lora_weights": True} | changes
        (folder / "adapter_config.json").write_text(json.dumps(config))
        return folder

    return write
