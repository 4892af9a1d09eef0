"""What the driver can tell of a model's folder, of data and of tasks' files by looking: refused before a worker starts.

It imports no torch: a mistake is answered within a second. What takes the model's own code to tell is in `probe`.
"""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from sweeplab.config.data import DataConfig, JsonData, MixtureData, TextData
from sweeplab.config.model import EmbeddedModel, LocalModel, ModelConfig
from sweeplab.config.trial import TrialConfig
from sweeplab.data.prompts import render_prompt
from sweeplab.data.sources import load_splits
from sweeplab.evaluation.files import refuse_missing_files
from sweeplab.runtime.errors import ConfigError, refuse
from sweeplab.runtime.paths import expand_home

_TOKENIZERS: Final = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
_INDEX: Final = "model.safetensors.index.json"
_POINTER: Final = b"version https://git-lfs"  # how a file begins that Git LFS has not fetched
_MOST_JSON_BYTES: Final = 2**26  # of a file of the model, which somebody else made
_MOST_DATA_BYTES: Final = 2**24  # of files that are read here; larger ones are by the plan and the worker only


def refuse_early(configs: Iterable[TrialConfig]) -> None:
    """Raises `ConfigError` for trials that no worker could begin, as far as files tell without torch."""
    seen: set[str] = set()
    for config in configs:
        parts: tuple[Any, ...] = (config.model, config.data, config.evaluation)
        key = json.dumps([part.to_dict() for part in parts], sort_keys=True, default=str)
        if key not in seen:
            seen.add(key)
            _refuse_one(config)


def _refuse_one(config: TrialConfig) -> None:
    model, data = config.model, config.data
    if isinstance(model, LocalModel) and expand_home(model.path).is_dir():  # a cluster's may be on others only
        _check_weight_files(model)
    if isinstance(data, TextData):
        _check_tokenizer(model, data)
        _check_examples(data)
    refuse_missing_files(config.evaluation)


def _check_weight_files(model: LocalModel) -> None:
    """Weights that are not there whole: a part that is missing, and a file that Git LFS has not fetched."""
    folder = expand_home(model.path)
    if model.random_init:
        return
    for path in [path for path in folder.glob("*.safetensors") if path.is_file()]:
        with path.open("rb") as file:
            if file.read(len(_POINTER)) == _POINTER:
                rule = f"must hold the weights, and {path.name} is Git LFS's note of them"
                raise refuse("model.path", rule, model.path, "fetch it: git lfs pull")
    index = _read_json(folder / _INDEX)
    named = index.get("weight_map") if isinstance(index, dict) else None
    parts = sorted({part for part in named.values() if isinstance(part, str)}) if isinstance(named, dict) else []
    missing = [part for part in parts if not (folder / part).is_file()]
    if missing:
        more = f" and {len(missing) - 1} more are" if len(missing) > 1 else " is"
        rule = f"must hold the {len(parts)} parts of its weights, and {missing[0]}{more} missing"
        raise refuse("model.path", rule, model.path, "download the model again")


def _read_json(path: Path) -> Any:
    """None where it is not there, damaged, or too large to be one: that is refused by those who need it."""
    try:
        is_read = path.is_file() and path.stat().st_size <= _MOST_JSON_BYTES
        return json.loads(path.read_text(encoding="utf-8")) if is_read else None
    except (OSError, ValueError, RecursionError):
        return None


def _check_tokenizer(model: ModelConfig, data: TextData) -> None:
    """A folder without a tokenizer, and messages for a model without a chat template. Raises `ConfigError`."""
    if isinstance(model, EmbeddedModel):
        has_template = False
    elif isinstance(model, LocalModel) and expand_home(model.path).is_dir() and not _borrows_tokenizer(model):
        folder = expand_home(model.path)
        if not any((folder / name).is_file() for name in _TOKENIZERS) and not list(folder.glob("*tokeniz*")):
            rule = "must hold a tokenizer"
            raise refuse("model.path", rule, model.path, "copy tokenizer.json and tokenizer_config.json of the model")
        has_template = _has_chat_template(folder)
    else:
        return
    if data.style == "template" and not has_template:
        raise ConfigError(
            f"data.style=template needs a tokenizer with a chat template, and model={_name_model(model)} has none; "
            "write data.style=chatml"
        )


def _borrows_tokenizer(model: ModelConfig) -> bool:
    """Random weights of an architecture in conf take the embedded base's."""
    return model.random_init and bool(model.config_values)


def _name_model(model: ModelConfig) -> str:
    return model.path if isinstance(model, LocalModel) else "tiny"


def _has_chat_template(folder: Path) -> bool:
    """As transformers looks for it: files of its own, or a key of tokenizer_config.json."""
    if (folder / "chat_template.jinja").is_file() or (folder / "chat_template.json").is_file():
        return True
    config = _read_json(folder / "tokenizer_config.json")
    return (isinstance(config, dict) and bool(config.get("chat_template"))) or any(
        (folder / "additional_chat_templates").glob("*.jinja")
    )


def _check_examples(data: TextData) -> None:
    """Reads the files of the data as training will, and writes the first example as the style does. Raises
    `ConfigError`."""
    if not isinstance(data, JsonData | MixtureData) or _count_bytes(data) > _MOST_DATA_BYTES:
        return
    splits = load_splits(data)
    if data.style != "template":
        render_prompt(min(splits.train, key=lambda example: len(example.messages) == 2), data.style)


def _count_bytes(data: DataConfig) -> float:
    """What reading the files takes, about; infinitely much of Parquet, whose size says little."""
    named = [getattr(data, name, None) for name in ("path", "heldout_path")]
    paths = [expand_home(path) for path in [*named, *(part.path for part in getattr(data, "parts", []))] if path]
    if any(path.suffix.lower() == ".parquet" for path in paths):
        return math.inf
    return sum(path.stat().st_size for path in paths if path.is_file())
