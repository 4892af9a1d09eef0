"""Runs cohorts in a worker process on this machine."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from sweeplab.config import ConfigError, ExecutorConfig
from sweeplab.store import StoreError, make_folder
from sweeplab.study.messages import Message, receive, send


class WorkerDied(Exception):
    """The worker process ended by itself; the message says how."""


def open_log(path: Path) -> IO[str]:
    try:
        return path.open("a", encoding="utf-8")
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}; choose another study.runs_dir") from error


class LocalExecutor:
    """One worker process. It starts importing at once, so open it before anything else that takes time."""

    def __init__(self, settings: ExecutorConfig, log: Path) -> None:
        self.settings = settings
        self.log = log
        self.process = self.start()

    def start(self) -> "subprocess.Popen[str]":
        """A fresh worker in a session of its own, so that Ctrl-C reaches the driver alone. Raises `StoreError`."""
        make_folder(self.log.parent)
        with open_log(self.log) as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "sweeplab.study.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        assert process.stdin is not None
        send(process.stdin, "open", executor=asdict(self.settings))
        return process

    def restart(self) -> None:
        self.stop()
        self.process = self.start()

    def run(self, specs: list[Message], newcomers: Callable[[int], list[Message]]) -> Iterator[Message]:
        """Messages `observed` and `ended` of one cohort; `newcomers` gives what takes the place of an ended trial.

        Raises `ConfigError`, or `WorkerDied` with signal or code.
        """
        assert self.process.stdout is not None
        self.tell("cohort", specs)
        for line in self.process.stdout:
            if not line.endswith("\n"):
                break  # it died in the middle of a message
            message = receive(line)
            if message["kind"] == "done":
                return
            if message["kind"] == "refused":
                raise ConfigError(message["message"])
            yield message
            if message["kind"] == "ended":
                self.tell("join", newcomers(message["record"]["number"]))
        code = self.process.wait()
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        raise WorkerDied(f"the worker process ended with {how}; see {self.log}")

    def tell(self, kind: str, specs: list[Message]) -> None:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it has died; what it leaves unsaid tells how
            send(self.process.stdin, kind, specs=specs)

    def stop(self) -> None:
        """Kills the worker: what it has not reported is run again later."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
