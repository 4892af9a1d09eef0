"""Errors as one line: a mistake of the user's names key, value, rule and remedy, and no line names a user."""

import errno
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from sweeplab.runtime.paths import abbreviate_home_in_text

_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT)
_MOST_LETTERS: Final = 300  # of another program's words within a line
_PASSWORDS: Final = (r"(://[^:/@\s]*:)\S*(?=@)", r"([?&]password=)[^&\s'\"]*")


class ConfigError(Exception):
    """A mistake of the user's: one line that names key, value, rule and remedy. Exit code 2, no traceback.

    What it quotes may come from a file that somebody else made; records and terminals show it, so it can be seen.
    """

    def __init__(self, message: str) -> None:
        super().__init__(escape_unprintable(message))


class StudyRefused(ConfigError):
    """A mistake that is no single trial's: the study cannot go on, whichever trial runs next."""


def escape_unprintable(text: str) -> str:
    """The text with line breaks, and what would move a terminal's cursor or turn its letters around, written out."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def find_full_disk(error: BaseException) -> OSError | None:
    """The error, or the one that brought it about, that says that no room is left to write; None for any other."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        if isinstance(link, OSError) and link.errno in _NO_ROOM:
            return link
        link = link.__cause__ or link.__context__
    return None


def mask_passwords(text: str) -> str:
    """The text without the passwords of the addresses in it."""
    for pattern in _PASSWORDS:
        text = re.sub(pattern, r"\1***", text)
    return text


def refuse(key: str, rule: str, value: object, remedy: str) -> ConfigError:
    is_seen = not isinstance(value, str) or value == value.strip() != ""
    return ConfigError(f"{key} {rule}, got {write_value(value) if is_seen else quote_value(value)}; {remedy}")


def write_value(value: object) -> str:
    """A value of a configuration as a user types it and with all its digits: null, true, [1, 2], {a: 1}."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(write_value, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{name}: {write_value(one)}' for name, one in value.items())}}}"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return str(value)


def quote_value(value: object) -> str:
    """As `write_value`; a text, which may be empty, in quotes."""
    return repr(value) if isinstance(value, str) else write_value(value)


def check_choice(key: str, value: object, choices: tuple[str, ...]) -> None:
    """Raises `ConfigError` for a value that is none of the choices."""
    if value not in choices:
        raise refuse(key, "is unknown", quote_value(value), f"choose one of {', '.join(choices)}")


def check_at_least(key: str, value: float | None, least: float, remedy: str) -> None:
    """Raises `ConfigError` for a number below `least`; None passes."""
    if value is not None and not value >= least:
        raise refuse(key, f"must be at least {least}", value, remedy)


def to_line(text: str) -> str:
    """The first line of what an error says, as records and terminals have it: ~ for the home folder."""
    return abbreviate_home_in_text(text).splitlines()[0]


def describe_error(error: BaseException) -> str:
    """The first line of its message; the kind of error where it says nothing."""
    return to_line(str(error).strip() or type(error).__name__)


def describe_error_with_kind(error: BaseException) -> str:
    """Kind and first line, such as `ValueError: no number`."""
    return to_line(f"{type(error).__name__}: {error}")


@contextmanager
def refuses_any_error(subject: str, remedy: str, *passing: type[BaseException]) -> Iterator[None]:
    """Within it whatever a library raises over what a user gave it becomes `ConfigError`: `subject`: why; `remedy`.

    Which types a damaged file brings about no library says, so every `Exception` counts, and Rust's panics, which are
    none. `ConfigError` and the `passing` types go on as they are.
    """
    try:
        yield
    except BaseException as error:
        is_library = isinstance(error, Exception) or type(error).__module__ == "pyo3_runtime"
        if isinstance(error, (ConfigError, *passing)) or not is_library:
            raise
        raise ConfigError(f"{subject}: {_describe_cause(error)}; {remedy}") from error


def _describe_cause(error: BaseException) -> str:
    """The first line of its message, with the next one where it ends in a colon; not too long to read."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    text = to_line(" ".join(lines[:2]) if lines[0].endswith(":") else lines[0])
    return text if len(text) <= _MOST_LETTERS else f"{text[:_MOST_LETTERS]}..."
