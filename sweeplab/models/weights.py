"""Whether the weights of a loaded model are those of its files: none missing, none foreign, all of them numbers."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import safe_open
from torch import nn

from sweeplab.models.folder import list_weight_files
from sweeplab.runtime.errors import ConfigError

_NUM_NAMED: Final = 3
_SAME_MODEL: Final = "copy config.json and all *.safetensors from the same model"


def refuse_other_weights(source: str, report: Mapping[str, Any], num_expected: int) -> None:
    """Raises `ConfigError` where the model has weights that no file gave it; they would be random numbers.

    `report` is transformers' own: it leaves out tied weights, and buffers that are computed. Weights that the model
    has no room for, such as another head's or old buffers', do no harm while all of its own are there.
    """
    missing, foreign = report["missing_keys"], report["unexpected_keys"]
    if missing:
        also = f", while {_name_some(foreign)} have no place in it" if foreign else ""
        raise ConfigError(
            f"model {source} lacks {len(missing):,} of its {num_expected:,} weights: {_name_some(missing)}{also}; "
            f"{_SAME_MODEL}"
        )
    if report["mismatched_keys"]:
        name, stored, expected = min(report["mismatched_keys"])
        raise ConfigError(
            f"model {source} holds {len(report['mismatched_keys']):,} weights of other shapes than its config.json "
            f"says, such as {name} with {tuple(stored)} for {tuple(expected)}; {_SAME_MODEL}"
        )


def _name_some(names: Collection[str]) -> str:
    """The first names, and how many there are where that is more."""
    first = ", ".join(sorted(names)[:_NUM_NAMED])
    return f"{first} and {len(names) - _NUM_NAMED:,} more" if len(names) > _NUM_NAMED else first


def refuse_non_numbers(folder: Path) -> None:
    """Raises `ConfigError` for a weight that holds NaN or an infinite number. Each file is read once, by tensors."""
    for file in list_weight_files(folder):
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118  (it is no mapping)
                tensor = opened.get_tensor(name)
                if tensor.is_floating_point() and tensor.numel() and not _is_finite(tensor):
                    raise ConfigError(
                        f"{file} holds {name} with NaN or infinite numbers, so every loss would be none; take weights "
                        "that were saved whole"
                    )


def _is_finite(tensor: torch.Tensor) -> bool:
    """Both ends are numbers: NaN would be either. No copy of the tensor is made."""
    if tensor.element_size() == 1:  # 8-bit numbers, which torch has no ends of
        tensor = tensor.float()
    return all(bool(end.isfinite()) for end in tensor.aminmax())


def refuse_encoder(config: Any, model: nn.Module, source: str) -> None:
    """Raises `ConfigError` for an architecture that reads both sides of every token, such as BERT."""
    attentions = [getattr(module, "is_causal", None) for module in model.modules()]
    if getattr(config, "is_decoder", None) is False and False in attentions and True not in attentions:
        raise ConfigError(
            f"model {source} is no causal language model: a {config.model_type} reads both sides of every token; "
            "choose a model that continues text"
        )
