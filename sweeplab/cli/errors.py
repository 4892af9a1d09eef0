"""Where every mistake of the user's becomes one line that names key, value, rule and remedy, and exit code 2."""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sweeplab.cli.suggestions import (
    OTHER_NAMES,
    find_meant_key,
    find_similar,
    is_list,
    is_section,
    is_trial_key,
    list_neighbors,
    list_optimizer_keys,
    suggest_key,
    take_last_part,
)
from sweeplab.config.compose import is_group, options
from sweeplab.config.data import DataPart
from sweeplab.config.study import StudyConfig
from sweeplab.records.claim import ClaimConfig
from sweeplab.records.store import StoreError
from sweeplab.runtime.errors import ConfigError, describe_error, mask_passwords

_EVERY_KEY: Final = "`python -m sweeplab --cfg job` lists them all"
_KINDS: Final = {  # OmegaConf's word -> ours
    "Integer": "a whole number",
    "Float": "a number",
    "valid bool": "true or false",
    "ListConfig": "a list, such as [1,2]",
    "not Optional": "a value, since it cannot be null",
}
_UNFIT: Final = "Error merging override "
_AMBIGUOUS: Final = "Ambiguous value for argument "
_MISTAKE: Final = 2  # exit code
_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_ENTRIES: Final = {"claims": ClaimConfig, "data.parts": DataPart}  # lists of sections


@contextmanager
def exits_with_one_line() -> Iterator[None]:
    """Within it a mistake of the user's ends the program with one line; other errors pass, with their traceback."""
    try:
        yield
    except Exception as error:
        line = _describe_mistake(error)
        if line is None:
            raise
        exit_with_line(line)


def exit_with_line(message: str) -> NoReturn:
    """Prints one line, also where a name holds line breaks or what moves a terminal's cursor; exit code 2."""
    letters = (
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in mask_passwords(message)
    )
    print(f"sweeplab: {''.join(letters)}", file=sys.stderr)
    sys.exit(_MISTAKE)


def _describe_mistake(error: Exception) -> str | None:
    """The line for an error that the user can mend; None for any other."""
    if isinstance(error, ConfigError | StoreError):
        return str(error)
    if isinstance(error, HydraException | OmegaConfBaseException):
        return explain_hydra_error(error)
    if isinstance(error, OSError):
        return _describe_system_error(error)
    if isinstance(error, ValueError) and str(error).startswith("Config group override"):
        return f"{error}; choose an option by its name, such as adapter=lora"
    return None


def _describe_system_error(error: OSError) -> str | None:
    """The line for what the system refuses because of what it was given; None for any other error."""
    if error.errno in _NO_ROOM:
        file = error.filename or "a file"
        return f"{file} cannot be written: {error.strerror}; free space or choose another folder"
    if error.errno == errno.ENAMETOOLONG:
        return f"{Path(str(error.filename)).name[:60]}... is longer than a file's name can be; choose a shorter one"
    return None


def _describe_unknown_option(asked: str) -> str:
    group, _, name = asked.rpartition("/")
    there = options(group)
    near = [other for other in (OTHER_NAMES.get(name),) if other in there] or find_similar(name, there)
    question = f"; did you mean {near[0]}?" if near else ""
    return f"{group}={name} does not exist; there are: {', '.join(there)}{question}"


def _describe_unknown_argument(key: str) -> str:
    """A key of the optimizer's that the chosen one has not."""
    name, near = take_last_part(key), find_meant_key(key)
    hint = f"did you mean {near}? To" if near not in (None, key) else "to"
    if name in list_optimizer_keys():
        hint = f"optimizer={'|'.join(list_optimizer_keys()[name])} set it; to"
    return f"{key} is not set by the chosen optimizer; {hint} give it one more argument, write +{key}=..."


def _describe_unknown_key(key: str, inner: str = "") -> str:
    """`inner`: what stands in the value of `key`, and is no key there."""
    if key == "experiment":
        return f"an experiment is added with a plus: +experiment=NAME; there are: {', '.join(options(key))}"
    if key.startswith("optimizer."):
        return _describe_unknown_argument(key)
    if key in _ENTRIES:
        there = [one.name for one in fields(_ENTRIES[key])]
        return f"{key} holds an entry with {inner}, which is no key of one; choose from {', '.join(there)}"
    if is_section(key) and inner:
        return _describe_unknown_key(f"{key}.{inner}")
    if key in list_neighbors(key):
        return f"{key} takes a new entry with two pluses: ++{key}={{NAME: VALUE}}"
    return f"{key} is no key of the configuration; {_EVERY_KEY}{suggest_key(key)}"


def _find_added_keys(values: dict[str, Any], schema: Any, prefix: str = "") -> Iterator[str]:
    """Keys of a composed configuration that the schema lacks: Hydra takes any that is written with a plus."""
    kinds = {one.name: one.default_factory for one in fields(schema)}
    for name, value in values.items():
        kind = kinds.get(name)
        if name not in kinds:
            yield prefix + name
        elif is_dataclass(kind) and isinstance(value, dict):
            yield from _find_added_keys(value, kind, f"{prefix}{name}.")


def check_added_keys(composed: DictConfig) -> None:
    """Raises `ConfigError` for a key that nothing reads."""
    values = OmegaConf.to_container(composed)
    assert isinstance(values, dict)
    for key in _find_added_keys({str(name): value for name, value in values.items()}, StudyConfig):
        raise ConfigError(_describe_unknown_key(key))


def _describe_unfit_value(override: str, cause: BaseException | None) -> str:
    """An override whose value has the wrong kind; a list is most likely meant as an axis."""
    key, _, value = override.partition("=")
    why = describe_error(cause).rstrip(".") if cause is not None else "no cause given"
    wanted = [f"give {words}" for kind, words in _KINDS.items() if kind in why]
    if value.startswith("[") and is_trial_key(key) and not is_section(key):
        wanted = [f"{'; '.join([*wanted, 'to vary it'])}, write space.{key}.choices={value}"]
    return f"{override} does not fit: {why}; {wanted[0] if wanted else _EVERY_KEY}"


def _describe_several_values(argument: str) -> str:
    """`key=a,b` without `--multirun`: most likely meant as a list, or as an axis."""
    key, _, values = argument.partition("=")
    if key.startswith("space.") or is_list(key):
        remedy = f"write {key}=[{values}]"
    elif is_trial_key(key) or is_group(key):
        remedy = f"to vary it, write space.{key}.choices=[{values}]"
    else:
        remedy = "give one of them, or add -m for a study of each"
    return f"{argument} holds several values; {remedy}"


def explain_hydra_error(error: HydraException | OmegaConfBaseException) -> str:
    """The mistake behind an error of Hydra's, with what exists and what is nearest to what was asked for."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    first = lines[0]
    if isinstance(error, OverrideParseException):
        typed = error.override.removeprefix("++")
        return f"{typed} cannot be read: {first}; write key=value, and quote what holds brackets, braces or blanks"
    if "Could not find" in first and "/" in first:
        return _describe_unknown_option(first.split("'")[-2])
    if first.startswith("Could not override"):
        inner = (
            "" if error.__cause__ is None else describe_error(error.__cause__).removeprefix("Key '").partition("'")[0]
        )
        return _describe_unknown_key(first.split("'")[1], inner)
    if first.startswith(_UNFIT):
        return _describe_unfit_value(first.removeprefix(_UNFIT).removeprefix("++"), error.__cause__)
    if first.startswith(_AMBIGUOUS):
        return _describe_several_values(first.removeprefix(_AMBIGUOUS).strip("'").removeprefix("++"))
    cause = f": {describe_error(error.__cause__)}" if error.__cause__ is not None else ""
    return f"{first}{cause}"
