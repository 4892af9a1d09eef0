"""What people type who do not know the command line yet: each is refused with the line to type instead."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Final, get_args

from sweeplab.config.conf import is_group, options
from sweeplab.config.own_options import find_own_folder, list_own_options
from sweeplab.config.schema import OF_A_TRIAL, holds, schema_keys
from sweeplab.config.study import StudyConfig
from sweeplab.config.suggestions import find_meant_key, find_similar
from sweeplab.runtime.errors import ConfigError

_EXPERIMENT: Final = ("experiment", "experiments", "exp")
_ROUND: Final = re.compile(r"\((.*)\)")
_DECIMAL_COMMA: Final = re.compile(r"-?\d+,\d+")
_HELP: Final = ("help", "-help", "-?", "man")


def refuse_slips(arguments: Sequence[str], flag_values: Sequence[int]) -> None:
    """Raises `ConfigError` for a mistake whose remedy is known from the arguments alone.

    `flag_values`: the indices of arguments that are values of flags.
    """
    for place, argument in enumerate(arguments):
        if place in flag_values or argument.startswith("~"):
            continue
        key, equals, value = argument.lstrip("+").partition("=")
        if not equals:
            _refuse_word(arguments, place)
        elif key == "json":
            raise ConfigError(f"{argument} is no argument; type --json")
        elif not value and place + 1 < len(arguments):
            _refuse_blank(arguments, place)
        elif key in _EXPERIMENT and (key != "experiment" or not argument.startswith("+")):
            _refuse_experiment(argument, value)
        elif value.count("[") > value.count("]"):
            _refuse_pieces(arguments, place)
        elif key.startswith("space."):
            _refuse_axis(argument, key, value)
        elif _ROUND.fullmatch(value) and holds(key, list):
            raise ConfigError(f"{argument}: a list has square brackets; type {_quote(key, f'[{value[1:-1]}]')}")
        elif _DECIMAL_COMMA.fullmatch(value) and _is_fraction(key, value):
            raise ConfigError(f"{argument}: a number has a point; type {_quote(key, value.replace(',', '.'))}")


def _quote(key: str, value: str) -> str:
    """`key=value` as it is typed in a shell."""
    return shlex.quote(f"{key}={value}")


def _is_fraction(key: str, value: str) -> bool:
    """True for 0,001 where a single number below one is wanted, which no list of two values would be."""
    field = schema_keys().get(key)
    return field is not None and value.startswith("0,") and float in (field.annotation, *get_args(field.annotation))


def _refuse_word(arguments: Sequence[str], place: int) -> None:
    """A word without `=`: an action, an experiment, or half of something with blanks around its `=`."""
    word, following = arguments[place], arguments[place + 1 :][:1]
    if word in _HELP:
        raise ConfigError(f"{word} is no argument; type python -m sweeplab --help")
    if word.startswith("-"):
        return
    if following and following[0].startswith("="):
        rest = following[0].removeprefix("=") or "".join(arguments[place + 2 :][:1]) or "VALUE"
        raise ConfigError(f"{word} {following[0]}: no blanks stand around =; type {_quote(word, rest)}")
    actions = get_args(StudyConfig.model_fields["action"].annotation)
    if word in actions:
        raise ConfigError(f"{word} is no argument; type action={word}")
    experiments = [*options("experiment"), *list_own_options(find_own_folder(arguments), "experiment")]
    if word in experiments:
        raise ConfigError(f"{word} is no argument; type +experiment={word}")
    if is_group(word) or word in schema_keys():
        raise ConfigError(f"{word} is no argument; type {word}=VALUE, and --help {word.partition('.')[0]} for them all")
    for near, line in ((actions, "action="), (experiments, "+experiment=")):
        if found := find_similar(word, list(near)):
            raise ConfigError(f"{word} is no argument; did you mean {line}{found[0]}?")


def _refuse_blank(arguments: Sequence[str], place: int) -> None:
    """`key= value`, unless the next argument is one of its own."""
    following = arguments[place + 1]
    if "=" not in following and not following.startswith(("-", "~", "+")):
        typed = f"{arguments[place]}{following}"
        raise ConfigError(f"{arguments[place]} {following}: no blanks stand around =; type {shlex.quote(typed)}")


def _refuse_experiment(argument: str, value: str) -> None:
    own = list_own_options(find_own_folder([argument]), "experiment")
    there = sorted({*options("experiment"), *own})
    if value in there:
        raise ConfigError(f"{argument}: an experiment is added with a plus; type +experiment={value}")
    near = find_similar(value, there)
    remedy = f"type +experiment={near[0]}" if near else f"type +experiment=NAME; there are: {', '.join(there)}"
    raise ConfigError(
        f"{argument}: an experiment is added with a plus: +experiment=NAME, and this one is not there; {remedy}"
    )


def _refuse_axis(argument: str, key: str, value: str) -> None:
    """An axis without its section, or whose values are not called choices, or stand in round brackets."""
    parts = key.split(".")[1:]
    ending = parts[-1] if parts[-1] in ("choices", "low", "high", "log", "step") and len(parts) > 1 else None
    name = ".".join(parts[:-1] if ending else parts)
    if name.partition(".")[0] not in OF_A_TRIAL:
        meant = find_meant_key(name)
        if meant is not None and meant.partition(".")[0] in OF_A_TRIAL:
            line = _quote(f"space.{meant}.{ending or 'choices'}", value)
            raise ConfigError(f"{argument}: {name} is no key that can be varied; type {line}")
    inner = _ROUND.fullmatch(value)
    if inner and ending in ("choices", None):
        line = _quote(f"space.{name}.choices", f"[{inner[1]}]")
        raise ConfigError(f"{argument}: a list has square brackets; type {line}")
    if ending is None and value.startswith("[") and value.endswith("]"):
        line = _quote(f"space.{name}.choices", value)
        raise ConfigError(f"{argument}: the values of an axis are its choices; type {line}")


def _refuse_pieces(arguments: Sequence[str], place: int) -> None:
    """A list with blanks that the shell has cut into pieces."""
    for end in range(place + 1, len(arguments)):
        whole = " ".join(arguments[place : end + 1])
        if whole.count("[") == whole.count("]"):
            raise ConfigError(f"{arguments[place]}: quote what holds brackets and blanks; type {shlex.quote(whole)}")


def refuse_missing_path(group: str, value: str) -> None:
    """A path of a model or of data that is not there. Raises `ConfigError`; what is no path is let through."""
    path = Path(value).expanduser()
    looks_like_path = value.startswith(("/", "./", "../", "~")) or value.endswith("/")
    if not looks_like_path or path.exists():
        return
    near = find_similar(path.name, [one.name for one in path.parent.iterdir()]) if path.parent.is_dir() else []
    wanted = {
        "model": "give a folder that holds config.json, tokenizer.json and *.safetensors, or model=ORG/NAME of the hub",
        "data": "give a JSON, JSON lines, CSV or Parquet file, or data=ORG/NAME of the hub",
    }[group]
    remedy = f"did you mean {group}={path.parent / near[0]}?" if near else wanted
    raise ConfigError(f"{group}={value} is not there; {remedy}")
