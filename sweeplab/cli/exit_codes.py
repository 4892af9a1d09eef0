"""The exit codes of the command line: the one place where they stand. `--help` and docs/scripts.md say the same."""

from typing import Final

DONE: Final = 0
WITHOUT_RESULT: Final = 1  # also Python's own for an error with its traceback
MISTAKE: Final = 2
INTERRUPTED: Final = 130
_TERMINATED: Final = 143
_HUNG_UP: Final = 129

EXIT_CODES: Final = {
    DONE: "done",
    WITHOUT_RESULT: "no trial finished, a rerun was not the same, or a fault (traceback)",
    MISTAKE: "a mistake in the command or its input",
    INTERRUPTED: "interrupted (Ctrl-C)",
    _TERMINATED: "ended by SIGTERM",
    _HUNG_UP: "ended by SIGHUP",
}
