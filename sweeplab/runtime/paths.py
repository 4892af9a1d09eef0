"""Paths as a study records them: the home folder becomes ~, so that no record names a user."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def _find_home() -> str | None:
    """The home folder with a slash; None where there is none, as for a container's user without a name."""
    try:
        home = Path.home()
    except RuntimeError:
        return None
    return f"{home}/" if home.is_absolute() and home != Path(home.anchor) else None


def has_home() -> bool:
    """False where the user has no home folder, as a container's user without a name."""
    try:
        Path.home()
    except RuntimeError:
        return False
    return True


def abbreviate_home(value: Any) -> Any:
    """A plain value, or all values in it, with ~ for the home folder at the beginning of a text."""
    if isinstance(value, str):
        home = _find_home()
        return f"~/{value.removeprefix(home)}" if home is not None and value.startswith(home) else value
    if isinstance(value, list):
        return [abbreviate_home(one) for one in value]
    if isinstance(value, dict):
        return {key: abbreviate_home(one) for key, one in value.items()}
    return value


def abbreviate_home_in_text(text: str) -> str:
    """A sentence in which paths may stand, with ~ for the home folder."""
    home = _find_home()
    return text if home is None else text.replace(home, "~/")


def quote_command(arguments: Sequence[str]) -> str:
    """A command line to type again, with $HOME for the home folder."""
    typed, home = [], _find_home()
    for one in arguments:
        first, *others = [one] if home is None else one.split(home)
        quoted = [shlex.quote(part) if part else "" for part in (first, *(f"/{part}" for part in others))]
        typed.append('"$HOME"'.join(quoted) if others else shlex.quote(one))
    return " ".join(typed)


def expand_home(path: str) -> Path:
    """The path on this machine, for this user, of one that may begin with ~; as it stands where there is no home."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)
