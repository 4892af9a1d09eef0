"""Hydra's errors in one line that names key, value, rule and remedy."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from typing import Any, Final

from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sweeplab.config import ConfigError, StudyConfig
from sweeplab.study.compose import first_line, options

EVERY_KEY: Final = "`python -m sweeplab --cfg job` lists them all"
KINDS: Final = {  # OmegaConf's word -> ours
    "Integer": "a whole number",
    "Float": "a number",
    "valid bool": "true or false",
    "ListConfig": "a list, such as [1,2]",
    "not Optional": "a value, since it cannot be null",
}
UNFIT: Final = "Error merging override "
AMBIGUOUS: Final = "Ambiguous value for argument "


def nearest(name: str, there: list[str]) -> str:
    near = get_close_matches(name, there, 1, 0.4)
    return f"; did you mean {near[0]}?" if near else ""


def sibling_keys(key: str) -> list[str]:
    """What stands beside `key` in the schema; nothing for a section without one."""
    section: object = StudyConfig
    *parents, _ = key.split(".")
    for parent in parents:
        kinds = {one.name: one.default_factory for one in fields(section)} if is_dataclass(section) else {}
        section = kinds.get(parent)
    prefix = "".join(f"{parent}." for parent in parents)
    return [f"{prefix}{one.name}" for one in fields(section)] if is_dataclass(section) else []


def unknown_option(asked: str) -> str:
    group, _, name = asked.rpartition("/")
    there = options(group)
    return f"{group}={name} does not exist; there are: {', '.join(there)}{nearest(name, there)}"


def unknown_key(key: str) -> str:
    if key == "experiment":
        return f"an experiment is added with a plus: +experiment=NAME; there are: {', '.join(options(key))}"
    if key.startswith("optimizer."):
        return f"{key} is not set by the chosen optimizer; to give it one more argument, write +{key}=..."
    there = sibling_keys(key)
    if key in there:
        return f"{key} takes a new entry with two pluses: ++{key}={{NAME: VALUE}}"
    return f"{key} is no key of the configuration; {EVERY_KEY}{nearest(key, there)}"


def added_keys(values: dict[str, Any], schema: Any, prefix: str = "") -> Iterator[str]:
    """Keys of a composed configuration that the schema lacks: Hydra takes any that is written with a plus."""
    kinds = {one.name: one.default_factory for one in fields(schema)}
    for name, value in values.items():
        kind = kinds.get(name)
        if name not in kinds:
            yield prefix + name
        elif is_dataclass(kind) and isinstance(value, dict):
            yield from added_keys(value, kind, f"{prefix}{name}.")


def refuse_added(composed: DictConfig) -> None:
    """Raises `ConfigError` for a key that nothing reads."""
    values = OmegaConf.to_container(composed)
    assert isinstance(values, dict)
    for key in added_keys({str(name): value for name, value in values.items()}, StudyConfig):
        raise ConfigError(unknown_key(key))


def unfit_value(override: str, cause: BaseException | None) -> str:
    """An override whose value has the wrong kind."""
    why = first_line(cause).rstrip(".") if cause is not None else "no cause given"
    wanted = [f"give {words}" for kind, words in KINDS.items() if kind in why]
    return f"{override} does not fit: {why}; {wanted[0] if wanted else EVERY_KEY}"


def several_values(argument: str) -> str:
    """`key=a,b` without `--multirun`: most likely meant as an axis."""
    key, _, values = argument.partition("=")
    return f"{argument} holds several values; to vary it, write space.{key}.choices=[{values}]"


def explained(error: HydraException | OmegaConfBaseException) -> str:
    """The mistake behind an error of Hydra's, with what exists and what is nearest to what was asked for."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    first = lines[0]
    if isinstance(error, OverrideParseException):
        typed = error.override.removeprefix("++")
        return f"{typed} cannot be read: {first}; write key=value, and quote what holds brackets, braces or blanks"
    if "Could not find" in first and "/" in first:
        return unknown_option(first.split("'")[-2])
    if first.startswith("Could not override"):
        return unknown_key(first.split("'")[1])
    if first.startswith(UNFIT):
        return unfit_value(first.removeprefix(UNFIT).removeprefix("++"), error.__cause__)
    if first.startswith(AMBIGUOUS):
        return several_values(first.removeprefix(AMBIGUOUS).strip("'"))
    cause = f": {first_line(error.__cause__)}" if error.__cause__ is not None else ""
    return f"{first}{cause}"
