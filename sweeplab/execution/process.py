"""A worker's process on the machine that it runs on, and what its driver holds of one that runs anywhere."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple, Protocol

from sweeplab.execution.messages import line_of
from sweeplab.records.store import StoreError


class Link(Protocol):
    """One worker's process, wherever it runs. Whole lines go in and come out; they are those of `messages`."""

    def is_ready(self) -> bool:
        """True once it has a machine; until then it takes no cohort, and what it is told waits."""

    def tell(self, line: str) -> None:
        """Says nothing to one that has ended; `lines` tells how it did."""

    def lines(self) -> Iterator[str]:
        """What it says, once. First `ready` where `is_ready` was False, last `gone` with `how` it ended, and `taken`
        where its machine was taken away from it, which its trials are not to blame for."""

    def kill(self) -> None:
        """Ends the process and with it `lines`."""

    def close(self) -> None:
        """Ends everything that was started for it; its memory is free, or another's to free."""


class Call(NamedTuple):
    """How a worker is started, on any machine that has these paths."""

    program: list[str]
    folder: str  # of the driver, which relative paths start from
    log: str  # its stderr, in the study's folder
    environment: dict[str, str]  # on top of the machine's own


def call_of(log: Path, environment: dict[str, str]) -> Call:
    return Call([sys.executable, "-m", "sweeplab.execution.worker"], str(Path.cwd()), str(log), environment)


def refuse_not_shared(call: Call) -> None:
    """Raises `StoreError` on a machine that does not see the study's folder, which the driver has made."""
    folder = Path(call.folder, call.log).parent
    if not folder.is_dir():
        raise StoreError(
            f"{socket.gethostname()} has no folder {folder}, where trials and checkpoints are kept; "
            "give study.runs_dir in a folder that all machines share"
        )


def open_log(path: Path) -> IO[str]:
    try:
        return path.open("a", encoding="utf-8")
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}; choose another study.runs_dir") from error


def how_it_ended(code: int) -> str:
    """A process's return code in words, for the records of its trials."""
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    if code == -9:
        how += ", as the system ends what takes its last memory"
    return f"the worker process ended with {how}"


class ProcessLink:
    """A worker's process on this machine. Ray's actors and Slurm's jobs hold it there."""

    def __init__(self, call: Call) -> None:
        """In a session of its own, so that Ctrl-C reaches the driver alone. Raises `StoreError`."""
        with open_log(Path(call.folder, call.log)) as stream:
            self.process = subprocess.Popen(
                call.program,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                text=True,
                start_new_session=True,
                cwd=call.folder,
                env={**os.environ, **call.environment},
            )

    def is_ready(self) -> bool:
        return True

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError, ValueError):  # it has died, or was closed
            self.process.stdin.write(line)
            self.process.stdin.flush()

    def lines(self) -> Iterator[str]:
        assert self.process.stdout is not None
        with self.process.stdout as stream:
            for line in stream:
                if not line.endswith("\n"):
                    break  # it died in the middle of a message
                yield line
        yield line_of("gone", how=how_it_ended(self.process.wait()), taken=False)

    def kill(self) -> None:
        self.process.kill()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stdin is not None:
            with suppress(BrokenPipeError):
                self.process.stdin.close()
