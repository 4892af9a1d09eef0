"""Paths as a study records them: the home folder becomes ~, so that no record names a user."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def _find_home() -> str:
    """The home folder with a slash."""
    return f"{Path.home()}/"


def abbreviate_home(value: Any) -> Any:
    """A plain value, or all values in it, with ~ for the home folder at the beginning of a text."""
    if isinstance(value, str):
        return f"~/{value.removeprefix(_find_home())}" if value.startswith(_find_home()) else value
    if isinstance(value, list):
        return [abbreviate_home(one) for one in value]
    if isinstance(value, dict):
        return {key: abbreviate_home(one) for key, one in value.items()}
    return value


def abbreviate_home_in_text(text: str) -> str:
    """A sentence in which paths may stand, with ~ for the home folder."""
    return text.replace(_find_home(), "~/")


def quote_command(arguments: Sequence[str]) -> str:
    """A command line to type again, with $HOME for the home folder."""
    typed = []
    for one in arguments:
        first, *others = one.split(_find_home())
        quoted = [shlex.quote(part) if part else "" for part in (first, *(f"/{part}" for part in others))]
        typed.append('"$HOME"'.join(quoted) if others else shlex.quote(one))
    return " ".join(typed)


def expand_home(path: str) -> Path:
    """The path on this machine, for this user, of one that may begin with ~."""
    return Path(path).expanduser()
