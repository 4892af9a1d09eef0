"""Hydra's errors in one line that names key, value, rule and remedy."""

from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, Final

from hydra._internal.utils import get_args_parser
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sweeplab.cli.suggestions import (
    OTHER_NAMES,
    alike,
    holds_list,
    holds_section,
    last_part,
    meant,
    of_a_trial,
    optimizer_keys,
    siblings,
    suggestion,
)
from sweeplab.config.compose import is_group, options
from sweeplab.config.data import DataPart
from sweeplab.config.study import StudyConfig
from sweeplab.records.claim import ClaimConfig
from sweeplab.runtime.errors import ConfigError, describe_error

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
ENTRIES: Final = {"claims": ClaimConfig, "data.parts": DataPart}  # lists of sections


def unknown_option(asked: str) -> str:
    group, _, name = asked.rpartition("/")
    there = options(group)
    near = [other for other in (OTHER_NAMES.get(name),) if other in there] or alike(name, there)
    question = f"; did you mean {near[0]}?" if near else ""
    return f"{group}={name} does not exist; there are: {', '.join(there)}{question}"


def unknown_argument(key: str) -> str:
    """A key of the optimizer's that the chosen one has not."""
    name, near = last_part(key), meant(key)
    hint = f"did you mean {near}? To" if near not in (None, key) else "to"
    if name in optimizer_keys():
        hint = f"optimizer={'|'.join(optimizer_keys()[name])} set it; to"
    return f"{key} is not set by the chosen optimizer; {hint} give it one more argument, write +{key}=..."


def unknown_key(key: str, inner: str = "") -> str:
    """`inner`: what stands in the value of `key`, and is no key there."""
    if key == "experiment":
        return f"an experiment is added with a plus: +experiment=NAME; there are: {', '.join(options(key))}"
    if key.startswith("optimizer."):
        return unknown_argument(key)
    if key in ENTRIES:
        there = [one.name for one in fields(ENTRIES[key])]
        return f"{key} holds an entry with {inner}, which is no key of one; choose from {', '.join(there)}"
    if holds_section(key) and inner:
        return unknown_key(f"{key}.{inner}")
    if key in siblings(key):
        return f"{key} takes a new entry with two pluses: ++{key}={{NAME: VALUE}}"
    return f"{key} is no key of the configuration; {EVERY_KEY}{suggestion(key)}"


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
    """An override whose value has the wrong kind; a list is most likely meant as an axis."""
    key, _, value = override.partition("=")
    why = describe_error(cause).rstrip(".") if cause is not None else "no cause given"
    wanted = [f"give {words}" for kind, words in KINDS.items() if kind in why]
    if value.startswith("[") and of_a_trial(key) and not holds_section(key):
        wanted = [f"{'; '.join([*wanted, 'to vary it'])}, write space.{key}.choices={value}"]
    return f"{override} does not fit: {why}; {wanted[0] if wanted else EVERY_KEY}"


def several_values(argument: str) -> str:
    """`key=a,b` without `--multirun`: most likely meant as a list, or as an axis."""
    key, _, values = argument.partition("=")
    if key.startswith("space.") or holds_list(key):
        remedy = f"write {key}=[{values}]"
    elif of_a_trial(key) or is_group(key):
        remedy = f"to vary it, write space.{key}.choices=[{values}]"
    else:
        remedy = "give one of them, or add -m for a study of each"
    return f"{argument} holds several values; {remedy}"


def dashed(arguments: Sequence[str]) -> str | None:
    """What is wrong with a key that is written as a flag; None where every flag is one of Hydra's."""
    flags = get_args_parser()._option_string_actions
    for place, argument in enumerate(arguments):
        flag, _, value = argument.partition("=")
        if not argument.startswith("-") or any(one.startswith(flag) for one in flags):
            continue
        name = flag.lstrip("-").replace("-", "_")
        if len(flag) - len(flag.lstrip("-")) == 1 and "." not in name:
            continue  # short flags may stand together
        following = arguments[place + 1 :][:1]
        value = value or (following[0] if following and not following[0].startswith("-") else "...")
        written = f"{meant(name) or 'KEY'}={value}"
        return f"{argument} is no flag; write {written}, without dashes"
    return None


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
        inner = (
            "" if error.__cause__ is None else describe_error(error.__cause__).removeprefix("Key '").partition("'")[0]
        )
        return unknown_key(first.split("'")[1], inner)
    if first.startswith(UNFIT):
        return unfit_value(first.removeprefix(UNFIT).removeprefix("++"), error.__cause__)
    if first.startswith(AMBIGUOUS):
        return several_values(first.removeprefix(AMBIGUOUS).strip("'").removeprefix("++"))
    cause = f": {describe_error(error.__cause__)}" if error.__cause__ is not None else ""
    return f"{first}{cause}"
