"""Folders of small models, whole and damaged."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from sweeplab.config.model import LocalModel
from sweeplab.models.base import _EMBEDDED

Tensors = dict[str, torch.Tensor]


def copy_base(folder: Path) -> Path:
    """The embedded base as a folder of one's own."""
    shutil.copytree(_EMBEDDED, folder)
    return folder


def name_model(folder: Path) -> LocalModel:
    return LocalModel(name="own", path=str(folder))


def change_weights(folder: Path, change: Callable[[Tensors], Tensors]) -> None:
    file = folder / "model.safetensors"
    weights = load_file(file)
    file.unlink()
    save_file(change(weights), file, metadata={"format": "pt"})


def change_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def read_tensors(folder: Path) -> Tensors:
    """By safetensors alone, without transformers."""
    tensors: Tensors = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            tensors |= {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    return tensors
