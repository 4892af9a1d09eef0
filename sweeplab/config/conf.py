"""The folder conf: its groups, their options, and what each option's file says."""

from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

PACKAGE: Final = Path(__file__).parents[1]
_WHEEL_CONF: Final = PACKAGE / "conf"
CONF: Final = _WHEEL_CONF if _WHEEL_CONF.is_dir() else PACKAGE.parent / "conf"  # a checkout has it beside the package


@cache
def is_group(key: str) -> bool:
    return (CONF / key.replace(".", "/")).is_dir()


def options(group: str) -> list[str]:
    """The names that a group can be set to."""
    return sorted(path.stem for path in (CONF / group.replace(".", "/")).glob("*.yaml"))


@cache
def option_values(group: str, name: str) -> dict[str, Any]:
    """What an option's file says, with what it takes from others of its group; text in `${...}` as it stands."""
    values: dict[str, Any] = yaml.safe_load((CONF / group / f"{name}.yaml").read_text(encoding="utf-8")) or {}
    own = {key: value for key, value in values.items() if key != "defaults"}
    from_others = [one for one in values.get("defaults", []) if isinstance(one, str) and one != "_self_"]
    for other in reversed(from_others):
        own = {**option_values(group, other), **own}
    return own


@cache
def root_values() -> dict[str, Any]:
    """What conf/config.yaml itself says."""
    values: dict[str, Any] = yaml.safe_load((CONF / "config.yaml").read_text(encoding="utf-8"))
    return {key: value for key, value in values.items() if key not in ("defaults", "hydra")}


@cache
def default_options() -> dict[str, str]:
    """The option of each group that conf/config.yaml chooses."""
    values = yaml.safe_load((CONF / "config.yaml").read_text(encoding="utf-8"))
    chosen = (one for one in values["defaults"] if isinstance(one, dict))
    return {group: name for one in chosen for group, name in one.items() if not group.startswith("override")}
