"""Rotary positions that grow with the text, of a base that reads one text after another."""

from typing import Any

from torch import nn


def forget_longer_texts(model: nn.Module) -> None:
    """From now on rotary positions that grow with the longest text (NTK scaling, `dynamic` in transformers) follow from
    what is read, as in a model that has just been loaded.

    transformers 5.23 (`dynamic_rope_update`) keeps those of the longest text so far until a short one is read, so a
    loss would depend on what was read before: on the trials before, and on whether a trial was stopped and went on.
    """
    for module in model.modules():
        if any("dynamic" in str(kind) for kind in _list_kinds(module).values()):
            module.register_forward_pre_hook(_forget)


def _list_kinds(module: Any) -> dict[str, Any]:
    """The kind of rotary positions, or that of each kind of layer, by what the names of its tensors begin with."""
    if not hasattr(module, "max_seq_len_cached"):
        return {}
    kinds = getattr(module, "rope_type", None)
    return {f"{layer}_": kind for layer, kind in kinds.items()} if isinstance(kinds, dict) else {"": kinds}


def _forget(module: Any, arguments: tuple[Any, ...]) -> None:
    for prefix, kind in _list_kinds(module).items():
        if "dynamic" in str(kind):
            present = getattr(module, f"{prefix}inv_freq")
            setattr(module, f"{prefix}inv_freq", getattr(module, f"{prefix}original_inv_freq").to(present.device))
            setattr(module, f"{prefix}max_seq_len_cached", module.original_max_seq_len)
