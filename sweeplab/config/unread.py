"""Keys that an option does not read."""

from collections.abc import Mapping
from typing import Any, Final

from sweeplab.runtime.errors import ConfigError

OF_MODELS: Final = {"path": ("local",), "revision": ("hub",)}  # sources that read a key which others ignore
OF_DATA: Final = {
    "path": ("json",),
    "heldout_path": ("json", "hub"),
    "subset": ("hub",),
    "target": ("world", "digits"),
}


OPTIONS: Final = {"world": "tiny_facts"}  # of the group data, where the source's own name is none


def refuse_unread(group: str, section: Any, table: Mapping[str, tuple[str, ...]]) -> None:
    """Raises `ConfigError` for a key that has a value and that the section's source does not read."""
    for key, readers in table.items():
        value = getattr(section, key)
        if value is not None and section.source not in readers:
            options = [OPTIONS.get(reader, reader) for reader in readers]
            raise ConfigError(
                f"{group}.{key}={value} is read with {' and '.join(f'{group}={one}' for one in options)} only, got "
                f"{group}.source={section.source}; choose {group}={options[0]}, or leave {group}.{key} out"
            )
