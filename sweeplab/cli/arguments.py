"""The arguments as they were typed: what Hydra would answer with a traceback, flags that are none, pluses left out."""

import re
import sys
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from sweeplab.cli.foreign_claims import leave_out_foreign_claims
from sweeplab.cli.shorthand import JSON_FLAG, write_out
from sweeplab.cli.slips import refuse_slips
from sweeplab.config.compose import DEFAULT_NAME, mark_known
from sweeplab.config.conf import is_group, options
from sweeplab.config.recommendation import imply_experiment
from sweeplab.config.suggestions import find_meant_key, fit_value
from sweeplab.runtime.errors import ConfigError, mask_passwords
from sweeplab.runtime.paths import quote_command

_LONG_NUMBER: Final = re.compile(r"(?:\d_?){300}")
_typed: Final[list[str]] = []  # the arguments before they were made Hydra's
_MOST_NESTED: Final = 30  # brackets of a value within each other


def check_arguments(arguments: Sequence[str]) -> list[str]:
    """The arguments as Hydra takes them. Raises `ConfigError` for what it would answer with a traceback.

    Hydra wants keys that the chosen options lack to be added with two pluses; here they may be written without them.
    A recommendation needs no experiment; it has its own. Shorter words are written out (`shorthand`). Claims of an
    experiment that are not about the chosen model and data are left out, and this is said.
    """
    check_flags(arguments)
    refuse_slips(arguments, _find_flag_values(arguments))
    written = write_out(arguments)
    for argument in written:
        _check_readable(argument)
    _typed[:] = arguments
    chosen, left_out = leave_out_foreign_claims([*imply_experiment(arguments), *written])
    if left_out is not None:
        print(left_out, file=sys.stderr)
    return [mark_known(argument) for argument in _put_flags_first(chosen)]


def _find_flag_values(arguments: Sequence[str]) -> list[int]:
    """The indices of arguments that are values of the flags before them."""
    actions = get_args_parser()._option_string_actions
    taking = [name for name, action in actions.items() if action.nargs is None]
    return [place + 1 for place, argument in enumerate(arguments) if argument in taking]


def _put_flags_first(arguments: Sequence[str]) -> list[str]:
    """Flags with their values before overrides, since Hydra knows no override behind a flag that follows another."""
    actions = get_args_parser()._option_string_actions
    flags: list[str] = []
    overrides: list[str] = []
    waiting = iter(arguments)
    for argument in waiting:
        if not argument.startswith("-"):
            overrides.append(argument)
            continue
        flags.append(argument)
        action = actions.get(argument)
        if action is not None and action.nargs is None:  # its value is the next argument
            flags += [value for value in (next(waiting, None),) if value is not None]
    return [*flags, *overrides]


def _check_readable(argument: str) -> None:
    """Raises `ConfigError` for what cannot be written to a file, and for what Hydra 1.3 answers with a traceback."""
    shown = argument[:100]
    try:
        argument.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"{shown} is no text in UTF-8; write it in UTF-8") from error
    if sum(map(argument.count, "([{")) > _MOST_NESTED and _measure_nesting(argument) > _MOST_NESTED:
        raise ConfigError(f"{shown}... is nested deeper than {_MOST_NESTED} levels; nothing in the configuration is")
    if _LONG_NUMBER.search(argument):
        raise ConfigError(
            f"{shown}... holds a number of 300 digits or more, beyond what a float can be; write a smaller one"
        )
    key, _, value = argument.lstrip("+~").partition("=")
    group = key.partition("@")[0]
    if any(mark in value for mark in ("${", "[", "{")) and key and is_group(group):
        raise ConfigError(
            f"{shown} is no option's name, which is what a group takes; choose {', '.join(options(group))}"
        )


def _measure_nesting(text: str) -> int:
    """The most brackets that are open at once; quotes and kinds of brackets make no difference."""
    steps = ((letter in "([{") - (letter in ")]}") for letter in text)
    return max(accumulate(steps), default=0)


def check_flags(arguments: Sequence[str]) -> None:
    """Raises `ConfigError` for a key that is written as a flag, such as `--rank 8`; Hydra's own flags pass."""
    flags = get_args_parser()._option_string_actions
    for place, argument in enumerate(arguments):
        flag, _, value = argument.partition("=")
        if not argument.startswith("-") or argument == JSON_FLAG or any(known.startswith(flag) for known in flags):
            continue
        name = flag.lstrip("-").replace("-", "_")
        if len(flag) - len(flag.lstrip("-")) == 1 and "." not in name:
            continue  # short flags may stand together
        following = arguments[place + 1 :][:1]
        value = value or (following[0] if following and not following[0].startswith("-") else "...")
        key = find_meant_key(name) or "KEY"
        raise ConfigError(f"{argument} is no flag; write {key}={fit_value(key, value)}, without dashes")


def quote_typed_command() -> str:
    """What a user types to run this command again; a password is left out."""
    return quote_command(["python", "-m", "sweeplab", *map(mask_passwords, _typed)])


def choose_study_name(requested: str | None) -> str:
    """The requested name, else the experiment's. Jobs of one `--multirun` with the same name add their number to it.

    A name has no comma, so that `study.name=a,b` gives each job its own.
    """
    context = HydraConfig.get()
    name = requested or str(context.runtime.choices.get("experiment") or DEFAULT_NAME)
    has_own = any(argument.lstrip("+").startswith("study.name=") and "," in argument for argument in sys.argv[1:])
    return f"{name}-{context.job.num}" if context.mode is RunMode.MULTIRUN and not has_own else name
