"""Reads what users wrote: text in any of Unicode's encodings, and JSON whose objects name each field once."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def read_text(path: Path) -> str:
    """UTF-8, UTF-16 or UTF-32, known by a mark at the beginning or by the zeros between letters, without the mark.

    Raises `OSError` and `UnicodeDecodeError`.
    """
    data = path.read_bytes()
    return data.decode(json.detect_encoding(data))


def parse_json(text: str) -> Any:
    """Raises `ValueError` for what is no JSON, and where an object names a field twice, of which one would be lost;
    `RecursionError` for what is nested too deeply."""
    return json.loads(text, object_pairs_hook=_make_object)


def _make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError(f"the field '{find_twice([name for name, _ in pairs])}' stands there twice")
    return made


def find_twice(names: Sequence[str]) -> str | None:
    """The first name that another repeats; None: each stands there once."""
    return next((name for name in names if names.count(name) > 1), None)
