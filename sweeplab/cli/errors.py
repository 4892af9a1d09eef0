"""Where every mistake of the user's becomes one line that names key, value, rule and remedy, and exit code 2."""

import errno
import re
import shlex
import sys
import traceback
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn, TypeGuard

from sweeplab.cli.exit_codes import MISTAKE
from sweeplab.config.conf import is_group, options
from sweeplab.config.own_options import explain_missing_option, find_own_folder, list_own_options
from sweeplab.config.schema import OF_A_TRIAL, holds, is_known
from sweeplab.config.suggestions import (
    EVERY_KEY,
    OTHER_NAMES,
    describe_another_unknown_key,
    describe_unknown_key,
    find_similar,
)
from sweeplab.config.tasks import stands_nowhere
from sweeplab.records.store import StoreError
from sweeplab.runtime.errors import (
    ConfigError,
    describe_error,
    describe_error_with_kind,
    escape_unprintable,
    mask_passwords,
)

if TYPE_CHECKING:
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

_UNFIT: Final = "Error merging override "
_AMBIGUOUS: Final = "Ambiguous value for argument "
_APPENDED: Final = "Could not append to config"
_SWEEP: Final = "' requires --multirun"
_UNPLAIN: Final = re.compile(r"[^\w/\-+.%*@?|: $]", re.ASCII)  # letters that Hydra reads within quotes only
_LOOKALIKES: Final = str.maketrans(  # dashes and quotes that texts are set with, and a paste brings
    dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-") | dict.fromkeys("\u2018\u2019\u201a\u201c\u201d\u201e")
)
_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


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
    print(f"sweeplab: {escape_unprintable(mask_passwords(message))}", file=sys.stderr)
    sys.exit(MISTAKE)


def _describe_mistake(error: Exception) -> str | None:
    """The line for an error that the user can mend; None for any other."""
    if isinstance(error, ConfigError | StoreError):
        return str(error)
    if _is_of_hydra(error):
        return explain_hydra_error(error)
    if isinstance(error, OSError):
        return _describe_system_error(error)
    if isinstance(error, ValueError) and str(error).startswith("Config group override"):
        return f"{error}; choose an option by its name, such as adapter=lora"
    if _is_of_composing(error):
        return f"the configuration cannot be composed: {describe_error_with_kind(error)}; mend the experiment's file"
    return None


def _is_of_composing(error: Exception) -> bool:
    """True for what Hydra raises, of whatever type, before there is a configuration: it reads what the user wrote."""
    frames = list(traceback.walk_tb(error.__traceback__))
    libraries = ("hydra.", "omegaconf.", "yaml.")
    is_library = bool(frames) and str(frames[-1][0].f_globals.get("__name__", "")).startswith(libraries)
    return is_library and not any(frame.f_code.co_name == "_run_one" for frame, _ in frames)


def _is_of_hydra(error: Exception) -> "TypeGuard[HydraException | OmegaConfBaseException]":
    """Hydra is imported for an error that needs it: `--help` does without."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    return isinstance(error, HydraException | OmegaConfBaseException)


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
    arguments = sys.argv[1:]
    mended = explain_missing_option(group, name, arguments)
    if mended is not None:
        return mended
    there = sorted({*options(group), *list_own_options(find_own_folder(arguments), group)})
    if group == "evaluation" and asked != "evaluation/" and not stands_nowhere(name):
        return f"evaluation={name} does not exist, but a task of that name; type 'evaluation.tasks=[{name}]'"
    near = [other for other in (OTHER_NAMES.get(name),) if other in there] or find_similar(name, there)
    question = f"; did you mean {near[0]}?" if near else ""
    return f"{group}={name} does not exist; there are: {', '.join(there)}{question}"


def _describe_unknown_key(key: str) -> str:
    """A key that Hydra does not know, most likely a mistyped one, and the others of the command line that are none."""
    given = {name: value for name, equals, value in (one.lstrip("+").partition("=") for one in sys.argv[1:]) if equals}
    if key not in given:  # it is no argument of this program's own
        return describe_unknown_key(key)
    named = (name for name in given if name.replace(".", "").replace("_", "").isalnum())
    wrong = [one for one in named if not is_known(one) and not is_group(one) and not one.startswith("hydra.")]
    others = [describe_another_unknown_key(one, given[one]) for one in wrong if one != key]
    return "; ".join([describe_unknown_key(key, given[key]), *others])


def _describe_unfit_value(override: str, cause: BaseException | None) -> str:
    """An override whose value does not go where it is set."""
    why = describe_error(cause).rstrip(".") if cause is not None else "no cause given"
    return f"{override} does not fit: {why}; {EVERY_KEY}"


def _describe_several_values(argument: str) -> str:
    """`key=a,b` without `--multirun`: most likely meant as a list, or as an axis."""
    key, _, values = argument.partition("=")
    values = values.removeprefix("choice(").removesuffix(")") if values.startswith("choice(") else values
    if "(" in values:
        values = "A,B"  # of a call such as range(1,5), each value written out
    if key.startswith("space.") or holds(key, list):
        remedy = f"write {key}=[{values}]"
    elif key.partition(".")[0] in OF_A_TRIAL or is_group(key):
        remedy = f"to vary it, write space.{key}.choices=[{values}]"
    else:
        remedy = "give one of them, or add -m for a study of each"
    return f"{argument} holds several values; {remedy}"


def _describe_unread(typed: str, why: str) -> str:
    """An override that Hydra's grammar refuses, with the argument to type instead where it is a text."""
    key, equals, value = typed.partition("=")
    from sweeplab.config.texts import is_text, quote_text

    plain = unicodedata.normalize("NFKC", value.translate(_LOOKALIKES)).strip()
    if equals and plain.isascii() and not value.isascii() and not is_text(key):
        odd = "".join(dict.fromkeys(letter for letter in value if not letter.isascii()))
        return (
            f"{typed} cannot be read, since {odd} is not what a keyboard types; type: {shlex.quote(f'{key}={plain}')}"
        )
    if not equals or any(letter in value for letter in "[]{}(),") or not key.replace(".", "").isidentifier():
        return f"{typed} cannot be read: {why}; write key=value, and quote what holds brackets, braces or blanks"
    odd = "".join(dict.fromkeys(_UNPLAIN.findall(value)))
    return f"{typed} cannot be read, since {odd} needs quotes; type: {shlex.quote(f'{key}={quote_text(value)}')}"


def explain_hydra_error(error: "HydraException | OmegaConfBaseException") -> str:
    """The mistake behind an error of Hydra's, with what exists and what is nearest to what was asked for."""
    from hydra.errors import OverrideParseException

    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    first = lines[0]
    if isinstance(error, OverrideParseException):
        return _describe_unread(error.override.removeprefix("++"), first)
    if "Could not find" in first and "/" in first:
        return _describe_unknown_option(first.split("'")[-2])
    if first.startswith("Could not override"):
        return _describe_unknown_key(first.split("'")[1])
    if first.startswith(_UNFIT):
        return _describe_unfit_value(first.removeprefix(_UNFIT).removeprefix("++"), error.__cause__)
    if first.startswith(_AMBIGUOUS):
        return _describe_several_values(first.removeprefix(_AMBIGUOUS).strip("'").removeprefix("++"))
    if first.startswith(_APPENDED):
        key = first.rpartition("'")[0].rpartition("'")[2]
        return f"+{key} adds what is there already; type {key}=VALUE, without a plus"
    if _SWEEP in first:
        return _describe_several_values(first.partition("'")[2].rpartition(_SWEEP)[0].removeprefix("++"))
    cause = f": {describe_error(error.__cause__)}" if error.__cause__ is not None else ""
    return f"{first}{cause}"
