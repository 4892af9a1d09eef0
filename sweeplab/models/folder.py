"""What a model's folder holds, read and checked before anything is built from it: files, sizes, headers of weights."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from safetensors import safe_open
from transformers import PretrainedConfig

from sweeplab.models.vision import is_image_classifier
from sweeplab.runtime.errors import ConfigError, refuses_any_error

_MOST_BYTES: Final = {  # of what is read whole; the largest ones in use have about a tenth of it
    "config.json": 2**24,
    "generation_config.json": 2**24,
    "tokenizer_config.json": 2**26,
    "chat_template.jinja": 2**24,
    "tokenizer.json": 2**29,
}
_BESIDE_WEIGHTS: Final = (  # what a model computes and reads otherwise with, by the names that transformers looks for
    *_MOST_BYTES,
    *("added_tokens.json", "special_tokens_map.json", "vocab.json", "merges.txt", "vocab.txt", "tokenizer.model"),
    *("chat_template.json", "spiece.model", "sentencepiece.bpe.model", "preprocessor_config.json"),
)
_OF_THE_WRITER: Final = ("transformers_version", "_name_or_path")
_MOST_INDEX_BYTES: Final = 2**28
_MOST_DEPTH: Final = 64  # of values within values; configurations in use have about 5
_MOST_COUNT: Final = 100_000  # of layers, heads and experts
_MOST_SIZE: Final = 2**40  # of any other number
_COUNTED: Final = ("layer", "head", "expert", "block", "group", "depth", "stage")
_SIZES: Final = ("num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size")
_QUANTIZED: Final = ("quantization_config", "compression_config")
_FLOATS: Final = ("F64", "F32", "F16", "BF16")
_WHOLE: Final = "model.safetensors"
_INDEX: Final = "model.safetensors.index.json"
_UNQUANTIZED: Final = "give the unquantized model, and say how to quantize it with quantization="


class StoredTensor(NamedTuple):
    """What a safetensors file says of a tensor."""

    file: Path
    name: str
    dtype: str
    shape: tuple[int, ...]


def fingerprint_settings(folder: Path) -> str:
    """SHA-256 of configuration, tokenizer and chat template: JSON by its values, other files by their bytes."""
    digest = hashlib.sha256()
    for name in sorted(_BESIDE_WEIGHTS):
        path = folder / name
        if not path.exists():
            continue
        content = path.read_bytes()
        if name.endswith(".json"):
            values = json.loads(content)
            if isinstance(values, dict):
                values = {key: value for key, value in values.items() if key not in _OF_THE_WRITER}
            content = json.dumps(values, sort_keys=True).encode()
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return f"sha256:{digest.hexdigest()}"


def read_json(path: Path, most_bytes: int) -> dict[str, Any]:
    """The JSON object in `path`. Raises `ConfigError` for what is none, too large or too deep."""
    _check_file(path, most_bytes)
    with refuses_any_error(f"{path} is no JSON", "copy the file from the model again"):
        values = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold a JSON object, got {type(values).__name__}; copy it from the model again")
    level: list[Any] = [values]
    for _ in range(_MOST_DEPTH + 1):
        level = [inner for value in level if isinstance(value, dict | list) for inner in _list_inner(value)]
    if level:
        raise ConfigError(f"{path} has more than {_MOST_DEPTH} values within each other; copy it from the model again")
    return values


def read_config(folder: Path) -> dict[str, Any]:
    """The folder's config.json. Raises `ConfigError`."""
    return read_json(folder / "config.json", _MOST_BYTES["config.json"])


def _list_inner(value: dict[str, Any] | list[Any]) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value


def _check_file(path: Path, most_bytes: int) -> None:
    """Raises `ConfigError` for a pipe or a device, which may never end, and for a file that is too large."""
    if not path.is_file():
        raise ConfigError(f"{path} must be a file; copy it from the model again")
    if path.stat().st_size > most_bytes:
        raise ConfigError(
            f"{path} must have at most {most_bytes:,} bytes, got {path.stat().st_size:,}; copy it from the model again"
        )


def check_files(folder: Path) -> None:
    """Raises `ConfigError` for what transformers would wait for, read too much of, or take for something else."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if not path.is_dir():
            _check_file(path, _MOST_BYTES.get(path.name, 2**60))
    if (folder / "adapter_config.json").exists():
        raise ConfigError(
            f"{folder} holds an adapter (adapter_config.json), so that the base it names would be loaded; give the "
            "base, or merge the adapter into it first"
        )


def check_values(values: dict[str, Any], source: str) -> None:
    """Raises `ConfigError` for numbers in a config.json that nothing could be built of, and for quantized weights."""
    for key, value in _walk(values):
        if key in _QUANTIZED and value:
            method = value.get("quant_method", "an unknown method") if isinstance(value, dict) else "an unknown method"
            raise ConfigError(
                f"{source} holds weights quantized with {str(method)[:40]} ({key} in its config.json), which are not "
                f"trained on; {_UNQUANTIZED}"
            )
        most = _MOST_COUNT if any(word in key for word in _COUNTED) else _MOST_SIZE
        if isinstance(value, int) and abs(value) > most and not key.endswith("_id"):
            raise ConfigError(
                f"{source}: {key} in its config.json must be at most {most:,}, got {_spell(value)}; mend it"
            )


def _spell(value: int) -> str:
    return f"{value:,}" if abs(value) < 10**30 else "a number of more than 30 digits"


def _walk(values: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every key with its value, at any depth; what a list holds has the list's key."""
    waiting: list[tuple[str, Any]] = [("", values)]
    while waiting:
        key, value = waiting.pop()
        yield key, value
        if isinstance(value, dict):
            waiting += [(str(inner_key), inner) for inner_key, inner in value.items()]
        elif isinstance(value, list):
            waiting += [(key, inner) for inner in value]


def check_sizes(config: PretrainedConfig, source: str, stored: list[StoredTensor] | None) -> None:
    """Raises `ConfigError` for sizes that are no positive numbers, or larger than the weights that there are.

    `stored` is None where weights are not looked at.
    """
    text = config.get_text_config(decoder=True)
    names = [name for name in _SIZES if name != "vocab_size" or not is_image_classifier(config)]
    sizes = {name: getattr(text, name, None) for name in names}
    for name, size in sizes.items():
        if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
            if isinstance(size, list):
                continue  # sizes that differ by layer
            raise ConfigError(
                f"{source}: {name} in its config.json must be a whole number from 1, got {str(size)[:40]}; mend it"
            )
    if stored is None:
        return
    num_layers, num_weights = sizes["num_hidden_layers"], sum(map(_count_elements, stored))
    if isinstance(num_layers, int) and num_layers > len(stored):
        raise ConfigError(
            f"{source}: num_hidden_layers in its config.json is {num_layers:,}, and its weights are {len(stored):,} "
            "tensors; copy config.json and weights from the same model"
        )
    for name in ("vocab_size", "hidden_size"):
        size = sizes.get(name)
        if isinstance(size, int) and size > num_weights:
            raise ConfigError(
                f"{source}: {name} in its config.json is {size:,}, and all its weights together have {num_weights:,} "
                "numbers; copy config.json and weights from the same model"
            )


def _count_elements(tensor: StoredTensor) -> int:
    count = 1
    for size in tensor.shape:
        count *= size
    return count


def list_weight_files(folder: Path) -> list[Path]:
    """The safetensors files that transformers would load. Raises `ConfigError` for an index that names other ones."""
    if (folder / _WHOLE).exists():
        return [folder / _WHOLE]
    if not (folder / _INDEX).exists():
        return []
    named = read_json(folder / _INDEX, _MOST_INDEX_BYTES).get("weight_map")
    if not isinstance(named, dict) or not named:
        raise ConfigError(f"{folder / _INDEX} must map names to files in weight_map; copy it from the model again")
    files = []
    for name in dict.fromkeys(map(str, named.values())):
        path = folder / name
        if not name.endswith(".safetensors") or path.parent != folder or not path.is_file():
            raise ConfigError(
                f"{folder / _INDEX} must name *.safetensors files in the same folder, got {name[:80]}; "
                "convert pickled weights with save_pretrained, and copy all files of the model"
            )
        files.append(path)
    return files


def read_headers(folder: Path) -> list[StoredTensor]:
    """Every tensor that the folder's weights hold; the library checks names, shapes and offsets.

    Raises `ConfigError` for damaged files, and for matrices stored as whole numbers: they are quantized.
    """
    tensors = []
    for file in list_weight_files(folder):
        with (
            refuses_any_error(
                f"model {file} cannot be loaded",
                "check model.path or model.name, and copy the file from the model again",
            ),
            safe_open(file, framework="pt") as opened,
        ):
            for name in opened.keys():  # noqa: SIM118  (it is no mapping)
                part = opened.get_slice(name)
                tensors.append(StoredTensor(file, name, part.get_dtype(), tuple(part.get_shape())))
    for tensor in tensors:
        if tensor.dtype not in _FLOATS and tensor.name.endswith("weight"):
            raise ConfigError(
                f"{tensor.file} holds {tensor.name} as {tensor.dtype}, so it is quantized; {_UNQUANTIZED}"
            )
    return tensors
