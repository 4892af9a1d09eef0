"""The options that a user's own folder adds to conf: which there are, and why one is not found."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sweeplab.config.conf import CONF

_BESIDE: Final = (Path("conf"), Path())


def find_own_folder(arguments: Sequence[str]) -> Path | None:
    """The folder that --config-dir names among the arguments."""
    for index, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        if flag in ("--config-dir", "-cd"):
            return Path(value if equals else "".join(arguments[index + 1 : index + 2]))
    return None


def list_own_options(folder: Path | None, group: str) -> list[str]:
    """The options of a group that a folder of the user's has."""
    return [] if folder is None else sorted(path.stem for path in (folder / group).glob("*.yaml"))


def explain_missing_option(group: str, name: str, arguments: Sequence[str]) -> str | None:
    """Why an option of the user's own is not found, though there is a file of its name; None where there is none."""
    folder = find_own_folder(arguments)
    for one in (folder, *_BESIDE):
        if one is None:
            continue
        if (one / group / f"{name}.yml").is_file():
            file = one / group / f"{name}.yml"
            return f"{file} ends in .yml, and .yaml is read; type: mv {file} {file.with_suffix('.yaml')}"
        if folder is None and (one / group / f"{name}.yaml").is_file():
            return f"{group}={name} is in {one / group}, which is not searched; add --config-dir={one}"
    return None


def list_beside(group: str) -> list[tuple[Path, list[str]]]:
    """Folders in which a user may have experiments, with those that they hold; --config-dir makes them known."""
    found = [(folder, list_own_options(folder, group)) for folder in _BESIDE if folder.resolve() != CONF]
    return [(folder, names) for folder, names in found if names]
