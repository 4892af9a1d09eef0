"""Reads saved LoRA adapters in PEFT's format, one matrix at a time, from safetensors files only."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sweeplab.records.store import StoreError
from sweeplab.runtime.errors import describe_error

Array = NDArray[np.float64]

_WEIGHTS: Final = "adapter_model.safetensors"
CONFIG: Final = "adapter_config.json"
_PREFIX: Final = "base_model.model."
_ENDS: Final = {"A": ".lora_A.weight", "B": ".lora_B.weight"}
_FLOATS: Final = ("F16", "BF16", "F32", "F64")
_LARGEST: Final = 1e30  # squares and their sums stay finite in 64 bits
_REWRITING: Final = (
    "pissa",
    "olora",
    "orthogonal",
    "corda",
    "eva",
    "loftq",
)  # these change the base, too


class Shape(NamedTuple):
    """One adapted matrix: A is rank x in_features, B is out_features x rank."""

    rank: int
    in_features: int
    out_features: int


class Factors(NamedTuple):
    """dW = scaling * B @ A, in 64 bits."""

    a_RI: Array
    b_OR: Array
    scaling: float


class Adapter(NamedTuple):
    """The shapes of a saved adapter, by the matrix's name in the base; values are read by `read_factors`."""

    folder: Path
    shapes: dict[str, Shape]
    scalings: dict[str, float]


def _damaged_adapter(path: Path, why: str) -> StoreError:
    return StoreError(f"{path} is no LoRA adapter that can be read: {why}; run the trial again, or remove its folder")


def _open_weights(path: Path) -> Any:
    """safetensors' reader, which checks every offset against the file's size. Raises `StoreError`."""
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(path, framework="pt")
    except (OSError, SafetensorError) as error:
        raise _damaged_adapter(path, describe_error(error)) from error


def _read_config(folder: Path) -> dict[str, Any]:
    """adapter_config.json of a plain LoRA. Raises `StoreError` for another method, or where dW is not B A."""
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged_adapter(path, str(error)) from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise _damaged_adapter(path, "its peft_type is not LORA")
    start = str(config.get("init_lora_weights")).lower()
    if config.get("use_dora") or start.startswith(_REWRITING):
        raise _damaged_adapter(path, "with DoRA, or a start that rewrites the base, B A is not what the base gained")
    return config


def read_adapter(folder: Path, scalings: Mapping[str, float]) -> Adapter:
    """Names and shapes of all A and B in `folder`, which must come in pairs that fit. No weight is read.

    Those of parameters are left out: each of the experts that stand in one tensor has a B A of its own.
    `scalings`: alpha / rank or alpha / sqrt(rank) by the base's names, as the trial's record has them. Raises
    `StoreError`, in one line that names the file.
    """
    has_parameters = bool(_read_config(folder).get("target_parameters"))
    path = folder / _WEIGHTS
    sizes: dict[str, dict[str, tuple[int, ...]]] = {part: {} for part in _ENDS}
    with _open_weights(path) as weights:
        for key in weights.keys():  # noqa: SIM118 (no mapping)
            part = next((part for part, end in _ENDS.items() if key.startswith(_PREFIX) and key.endswith(end)), None)
            if part is None:
                continue  # a norm or a bias that trained beside the adapter
            view = weights.get_slice(key)
            if view.get_dtype() not in _FLOATS:
                raise _damaged_adapter(path, f"{key} holds {view.get_dtype()} instead of floating-point numbers")
            sizes[part][key.removeprefix(_PREFIX).removesuffix(_ENDS[part])] = tuple(view.get_shape())
    alone = set(sizes["A"]) ^ set(sizes["B"])
    if alone or not sizes["A"]:
        raise _damaged_adapter(
            path, f"{min(alone)} has only one of A and B" if alone else "it holds no pair of A and B"
        )
    shapes = {name: _check_shape(path, name, size, sizes["B"][name]) for name, size in sizes["A"].items()}
    if has_parameters:
        shapes = {name: shape for name, shape in shapes.items() if name in scalings}
        if not shapes:
            raise _damaged_adapter(path, "it adapts parameters only, such as experts in one tensor")
    unknown = [name for name in shapes if not math.isfinite(scalings.get(name, math.nan))]
    if unknown:
        raise _damaged_adapter(path, f"the record knows no scaling of {unknown[0]}")
    return Adapter(folder, shapes, {name: scalings[name] for name in shapes})


def _check_shape(path: Path, name: str, a: tuple[int, ...], b: tuple[int, ...]) -> Shape:
    if len(a) != 2 or len(b) != 2 or a[0] != b[1] or 0 in (*a, *b):
        raise _damaged_adapter(path, f"A {a} and B {b} of {name} do not fit together")
    return Shape(a[0], a[1], b[0])


def read_factors(adapter: Adapter, name: str) -> Factors:
    """A and B of one matrix. Raises `StoreError` for numbers that are not finite, or beyond 1e30."""
    path = adapter.folder / _WEIGHTS
    found = {}
    with _open_weights(path) as weights:
        for part, end in _ENDS.items():
            values: Array = weights.get_tensor(f"{_PREFIX}{name}{end}").double().numpy()
            if not (np.abs(values) < _LARGEST).all():
                raise _damaged_adapter(
                    path, f"{part} of {name} holds numbers that are not finite, or beyond {_LARGEST:g}"
                )
            found[part] = values
    return Factors(found["A"], found["B"], adapter.scalings[name])
