"""Varied keys that are on or off and begin alike, such as `adapter.lora_query` and `adapter.lora_mlp`, as one name."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from sweeplab.report.evidence.formatting import shorten_key

_UPPER: Final = ("mlp",)  # are abbreviations
_FEW: Final = 2  # that are named also where all are on


class Mask(NamedTuple):
    """Toggles with one beginning: 'lora' of `adapter.lora_query` and `adapter.lora_mlp`."""

    title: str
    keys: list[str]

    def name(self, params: dict[str, Any]) -> str:
        """What is on: 'query + value + MLP', 'all 6 of lora' or 'no lora'."""
        on = [_shorten(key) for key in self.keys if params.get(key)]
        if len(on) == len(self.keys) > _FEW:
            return f"all {len(on)} of {self.title}"
        return " + ".join(on) or f"no {self.title}"


def find_masks(space: Mapping[str, Mapping[str, Any]], keys: Sequence[str]) -> list[Mask]:
    """The masks among the varied `keys` of a space: two toggles or more whose names are alike up to an underscore."""
    starts: dict[str, list[str]] = {}
    for key in keys:
        choices = space.get(key, {}).get("choices") or [None]
        start, mark, _ = key.rpartition("_")
        if mark and all(isinstance(choice, bool) for choice in choices):
            starts.setdefault(start, []).append(key)
    return [Mask(start.rpartition(".")[2], members) for start, members in starts.items() if len(members) > 1]


def list_name_columns(masks: Sequence[Mask], keys: Sequence[str]) -> dict[str, Mask | str]:
    """Columns that say which setting a row is of, by title: one for all keys of a mask, and for each other key."""
    columns: dict[str, Mask | str] = {}
    for key in keys:
        mask = find_mask(masks, key)
        columns.setdefault(shorten_key(key, keys) if mask is None else mask.title, key if mask is None else mask)
    return columns


def find_mask(masks: Sequence[Mask], key: str) -> Mask | None:
    """The mask that a key belongs to."""
    return next((mask for mask in masks if key in mask.keys), None)


def _shorten(key: str) -> str:
    name = key.rpartition("_")[2]
    return name.upper() if name in _UPPER else name
