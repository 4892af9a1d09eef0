"""Hydra's errors in one line that names key, value, rule and remedy."""

from collections.abc import Sequence
from typing import Final

from hydra._internal.utils import get_args_parser
from hydra.errors import HydraException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from sweeplab.config.conf import is_group, options
from sweeplab.config.schema import OF_A_TRIAL, holds
from sweeplab.config.suggestions import EVERY_KEY, OTHER_NAMES, alike, meant, unknown_key
from sweeplab.runtime.errors import describe_error

UNFIT: Final = "Error merging override "
AMBIGUOUS: Final = "Ambiguous value for argument "


def unknown_option(asked: str) -> str:
    group, _, name = asked.rpartition("/")
    there = options(group)
    near = [other for other in (OTHER_NAMES.get(name),) if other in there] or alike(name, there)
    question = f"; did you mean {near[0]}?" if near else ""
    return f"{group}={name} does not exist; there are: {', '.join(there)}{question}"


def _unknown(key: str) -> str:
    """A key that Hydra does not know: an experiment without its plus, or a mistyped one."""
    if key == "experiment":
        return f"an experiment is added with a plus: +experiment=NAME; there are: {', '.join(options(key))}"
    return unknown_key(key)


def _unfit_value(override: str, cause: BaseException | None) -> str:
    """An override whose value does not go where it is set."""
    why = describe_error(cause).rstrip(".") if cause is not None else "no cause given"
    return f"{override} does not fit: {why}; {EVERY_KEY}"


def several_values(argument: str) -> str:
    """`key=a,b` without `--multirun`: most likely meant as a list, or as an axis."""
    key, _, values = argument.partition("=")
    if key.startswith("space.") or holds(key, list):
        remedy = f"write {key}=[{values}]"
    elif key.partition(".")[0] in OF_A_TRIAL or is_group(key):
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
        return _unknown(first.split("'")[1])
    if first.startswith(UNFIT):
        return _unfit_value(first.removeprefix(UNFIT).removeprefix("++"), error.__cause__)
    if first.startswith(AMBIGUOUS):
        return several_values(first.removeprefix(AMBIGUOUS).strip("'").removeprefix("++"))
    cause = f": {describe_error(error.__cause__)}" if error.__cause__ is not None else ""
    return f"{first}{cause}"
