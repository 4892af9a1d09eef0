"""What people type who do not know the command line yet: each is refused with the line to type instead."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Final, get_args

from sweeplab.config.conf import is_group, options
from sweeplab.config.own_options import find_own_folder, list_own_options
from sweeplab.config.schema import OF_A_TRIAL, is_known, schema_keys
from sweeplab.config.study import StudyConfig
from sweeplab.config.suggestions import find_meant_key, find_similar, fit_value, mend_value
from sweeplab.runtime.errors import ConfigError

_EXPERIMENT: Final = ("experiment", "experiments", "exp")
_NO_KEY: Final = ("space", "experiment", "+experiment", "json")
_AXIS: Final = ("choices", "low", "high", "log", "step")
_NOT_CHOICES: Final = ("choice", "values", "value", "options")  # what choices are called elsewhere
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
            raise _SlipError(f"{argument} is no argument", "--json")
        elif not value and place + 1 < len(arguments):
            _refuse_blank(arguments, place)
        elif key in _EXPERIMENT and (key != "experiment" or not argument.startswith("+")):
            _refuse_experiment(argument, value)
        elif value.count("[") > value.count("]"):
            _refuse_pieces(arguments, place)
        elif key.startswith("space."):
            _refuse_axis(argument, key, value)
        elif (mended := mend_value(find_meant_key(key) or key, value)) != value:
            rule = "a list has square brackets" if mended.startswith("[") else "a number has a point"
            raise _propose(f"{argument}: {rule}", f"{key}={mended}")


class _SlipError(ConfigError):
    """A mistake with the one argument to type instead."""

    def __init__(self, wrong: str, typed: str) -> None:
        super().__init__(f"{wrong}; type {shlex.quote(typed)}")
        self.typed = typed


def _propose(wrong: str, typed: str) -> ConfigError:
    """The refusal with what to type, which has no further slip: one mistake often comes with another."""
    try:
        refuse_slips([typed], [])
    except _SlipError as further:
        return _SlipError(wrong, further.typed)
    except ConfigError:  # one that no single argument mends
        pass
    key, equals, value = typed.partition("=")
    meant = find_meant_key(key) if equals and not is_known(key) and key.partition(".")[0] not in _NO_KEY else None
    if meant is not None and not is_group(key):
        return _propose(wrong, f"{meant}={fit_value(meant, value)}")
    return _SlipError(wrong, typed)


def _refuse_word(arguments: Sequence[str], place: int) -> None:
    """A word without `=`: an action, an experiment, or half of something with blanks around its `=`."""
    word, following = arguments[place], arguments[place + 1 :][:1]
    if word in _HELP:
        raise ConfigError(f"{word} is no argument; type python -m sweeplab --help")
    if word.startswith("-"):
        return
    if following and following[0].startswith("="):
        rest = following[0].removeprefix("=") or "".join(arguments[place + 2 :][:1]) or "VALUE"
        raise _propose(f"{word} {following[0]}: no blanks stand around =", f"{word}={rest}")
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
        raise _propose(f"{arguments[place]} {following}: no blanks stand around =", typed)


def _refuse_experiment(argument: str, value: str) -> None:
    own = list_own_options(find_own_folder([argument]), "experiment")
    there = sorted({*options("experiment"), *own})
    if value in there:
        raise _propose(f"{argument}: an experiment is added with a plus", f"+experiment={value}")
    near = find_similar(value, there)
    remedy = f"type +experiment={near[0]}" if near else f"type +experiment=NAME; there are: {', '.join(there)}"
    raise ConfigError(
        f"{argument}: an experiment is added with a plus: +experiment=NAME, and this one is not there; {remedy}"
    )


def _refuse_axis(argument: str, key: str, value: str) -> None:
    """An axis without its section, or whose values are not called choices, or stand in round brackets."""
    parts = key.split(".")[1:]
    ending = parts[-1] if parts[-1] in (*_AXIS, *_NOT_CHOICES) and len(parts) > 1 else None
    name = ".".join(parts[:-1] if ending else parts)
    called = "choices" if ending is None or ending in _NOT_CHOICES else ending
    mended = mend_value(f"space.{name}.{called}", value)
    if name.partition(".")[0] not in OF_A_TRIAL:
        meant = find_meant_key(name)
        if meant is not None and meant.partition(".")[0] in OF_A_TRIAL:
            is_one = called == "choices" and not mended.startswith(("[", "{"))  # or several, without brackets
            typed = f"space.{meant}.{called}={f'[{mended}]' if is_one else mended}"
            raise _propose(f"{argument}: {name} is no key that can be varied", typed)
    if mended != value:
        raise _propose(f"{argument}: a list has square brackets", f"space.{name}.choices={mended}")
    if ending in (None, *_NOT_CHOICES) and value.startswith("[") and value.endswith("]"):
        raise _propose(f"{argument}: the values of an axis are its choices", f"space.{name}.choices={value}")


def _refuse_pieces(arguments: Sequence[str], place: int) -> None:
    """A list with blanks that the shell has cut into pieces."""
    for end in range(place + 1, len(arguments)):
        whole = " ".join(arguments[place : end + 1])
        if whole.count("[") == whole.count("]"):
            raise _propose(f"{arguments[place]}: quote what holds brackets and blanks", whole)


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
