"""The terminal may vanish, know few letters, or send a signal: the command goes on, or ends in order."""

import codecs
import errno
import io
import os
import signal
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, TextIO

_PLAIN: Final = "sweeplab.plain"  # the name of `_spell_plainly` among Python's error handlers
_GONE: Final = (errno.EPIPE, errno.EIO)
_ENDING: Final = {signal.SIGTERM: "terminated", signal.SIGHUP: "hung up"}
_LETTERS: Final = {
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212─━═╌┄", "-"),
    **dict.fromkeys("│┃║", "|"),
    **dict.fromkeys("\u2018\u2019\u2032", "'"),
    **dict.fromkeys("“”″", '"'),
    "…": "...",
    "±": "+-",
    "×": "x",
    "·": ".",
    "•": "*",
    "●": "o",
    "→": "->",
    "←": "<-",
    "≤": "<=",
    "≥": ">=",
    "≈": "~",
    "Δ": "delta",
    "µ": "u",
    "°": " degrees",
}


class Ended(KeyboardInterrupt):
    """A signal asked the process to end. Whatever ends in order after Ctrl+C does so after it, too."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.word = _ENDING[signal.Signals(number)]
        self.exit_code = 128 + number


class _LastingFile(io.FileIO):
    """A file whose reader may go away: what is written afterwards is dropped, and nobody gets an error."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in _GONE:
                _say_once(f"the output cannot be written ({error.strerror}); the command goes on without it")
            return memoryview(data).nbytes


_said: Final[set[str]] = set()


def _say_once(sentence: str) -> None:
    """Past the streams, which may be what has failed."""
    if sentence not in _said:
        _said.add(sentence)
        with suppress(OSError):  # nobody is there to read it
            os.write(2, f"sweeplab: {sentence}\n".encode())


def _spell_plainly(error: UnicodeError) -> tuple[str, int]:
    """For a terminal whose encoding lacks a letter: its plain form, such as - for a dash; else its code."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    return "".join(_plain_form(letter, error.encoding) for letter in missing), error.end


def _plain_form(letter: str, encoding: str) -> str:
    plain = _LETTERS.get(letter, letter)
    name = unicodedata.name(letter, "")
    if name.startswith("BOX DRAWINGS"):
        plain = _LETTERS.get(letter, "+")
    elif name.startswith(("BLOCK", "BRAILLE")):  # of bars and of what turns while something is done
        plain = "*"
    elif plain == letter:
        parts = unicodedata.normalize("NFKD", letter)
        plain = "".join(_LETTERS.get(part, part) for part in parts if not unicodedata.combining(part))
    try:
        plain.encode(encoding)
    except UnicodeEncodeError:
        return letter.encode("ascii", "backslashreplace").decode()
    return plain


def lasting_stream(stream: TextIO | None, number: int) -> TextIO:
    """A stream to file descriptor `number` that outlives its reader and writes every letter; `stream`: the one before.

    A stream that is no file's own, such as a test's, stays as it is but for letters.
    """
    codecs.register_error(_PLAIN, _spell_plainly)
    if stream is None:  # closed by the shell, as with >&-
        return Path(os.devnull).open("w", encoding="utf-8")
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    if not _is_own_file(stream, number):
        if stream.errors == "strict":
            stream.reconfigure(errors=_PLAIN)
        return stream
    buffer = io.BufferedWriter(_LastingFile(number, "w", closefd=False))
    lasting = io.TextIOWrapper(
        buffer, stream.encoding, _PLAIN, line_buffering=stream.line_buffering or stream.write_through
    )
    with suppress(OSError):  # it is gone already
        stream.flush()
    return lasting


def _is_own_file(stream: io.TextIOWrapper, number: int) -> bool:
    try:
        buffer: object = stream.buffer  # the file itself under python -u
        return stream.fileno() == number and isinstance(buffer, io.BufferedWriter | io.FileIO)
    except (OSError, ValueError):  # no file's
        return False


@contextmanager
def outlives_terminal() -> Iterator[None]:
    """Within it, output that nobody reads any more is dropped, and SIGTERM and SIGHUP raise `Ended`, once.

    A signal that is ignored, as SIGHUP under nohup, stays so.
    """
    before = sys.stdout, sys.stderr
    handlers = {number: signal.getsignal(number) for number in _ENDING}
    sys.stdout, sys.stderr = lasting_stream(sys.stdout, 1), lasting_stream(sys.stderr, 2)
    for number, handler in handlers.items():
        if handler is signal.SIG_DFL:
            signal.signal(number, _end)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            if handler is signal.SIG_DFL:
                signal.signal(number, handler)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = before


def _end(number: int, _: object) -> None:
    """The second signal is the system's to answer, since the first one may wait for something that hangs."""
    signal.signal(number, signal.SIG_DFL)
    raise Ended(number)
