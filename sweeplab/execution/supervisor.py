"""What runs beside a worker, on its machine: starts it, tells the driver how it ended, and ends it with the driver.

A thread of the driver for workers on its own machine, an actor of Ray's, a job of Slurm's.
"""

import json
import os
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

from sweeplab.execution.link import Invitation, Link, Reception, connect
from sweeplab.execution.placement import Placement
from sweeplab.records.store import StoreError


class Call(NamedTuple):
    """How a worker is started, on any machine that has these paths."""

    program: list[str]
    folder: str  # of the driver, which relative paths start from
    log: str  # its stdout and stderr, in the study's folder
    environment: dict[str, str]  # on top of the machine's own
    worker: Invitation
    supervisor: Invitation


class Ending(NamedTuple):
    """How a worker ended, for the records of its trials."""

    how: str
    taken: bool = False  # its machine was taken away, which is no fault of its trials
    requeued: bool = False  # it comes back by itself, and accepts the same invitations


def worker_program() -> list[str]:
    return [sys.executable, "-m", "sweeplab.execution.worker"]


def open_log(path: Path) -> IO[str]:
    """Raises `StoreError`."""
    try:
        return path.open("a", encoding="utf-8")
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}; choose another study.runs_dir") from error


def start_process(
    program: list[str],
    invitation: Invitation,
    environment: dict[str, str],
    folder: str | None = None,
    log: IO[str] | None = None,
) -> "subprocess.Popen[str]":
    """A process that reads its invitation from stdin. With a log it has a session of its own, so that Ctrl-C reaches
    the driver alone; without one it shares this process's output and its session."""
    inherited = () if invitation.descriptor is None else (invitation.descriptor,)
    try:
        process = subprocess.Popen(
            program,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT if log else None,
            text=True,
            start_new_session=log is not None,
            cwd=folder,
            env={**os.environ, **environment},
            pass_fds=inherited,
        )
    finally:
        for descriptor in inherited:  # the other side hears of the end only where nobody else holds the socket
            os.close(descriptor)
    assert process.stdin is not None
    with suppress(BrokenPipeError), process.stdin as stream:
        stream.write(json.dumps(invitation) + "\n")
    return process


def _refuse_unshared_folder(call: Call) -> None:
    """Raises `StoreError` on a machine that does not see the study's folder, which the driver has made."""
    folder = Path(call.folder, call.log).parent
    if not folder.is_dir():
        raise StoreError(
            f"{socket.gethostname()} has no folder {folder}, where trials and checkpoints are kept; "
            "give study.runs_dir in a folder that all machines share"
        )


def _describe_exit(code: int) -> str:
    """A process's return code in words."""
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    if code == -9:
        how += ", as the system ends what takes its last memory"
    return f"the worker process ended with {how}"


class Supervisor:
    """Runs one worker's process."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.link: Link | None = None
        self.process: subprocess.Popen[str] | None = None
        self.has_reported = False
        self.lock = threading.RLock()  # submitit's signal may come where this thread holds it

    def run(self) -> None:
        """Until the worker has ended. Raises as `connect`."""
        self.link = connect(self.call.supervisor)
        watcher: threading.Thread | None = None
        try:
            _refuse_unshared_folder(self.call)
            with open_log(Path(self.call.folder, self.call.log)) as log:
                self.process = start_process(
                    self.call.program, self.call.worker, self.call.environment, self.call.folder, log
                )
            watcher = threading.Thread(target=self._end_with_driver, args=(self.link, self.process), daemon=True)
            watcher.start()
            self._report(_describe_exit(self.process.wait()))
        except StoreError as error:
            self.link.send("refused", message=str(error))
        except OSError as error:
            self._report(f"the worker process could not be started: {error}")
        finally:
            self.link.finish()
            if watcher is not None:
                watcher.join()  # until the driver has received it
            self.link.close()

    def _end_with_driver(self, link: Link, process: "subprocess.Popen[str]") -> None:
        for _ in link.messages():
            pass
        process.kill()

    def _report(self, how: str, requeued: bool = False) -> None:
        """Tells the driver once: the first reason is the cause of the others."""
        with self.lock:
            if self.link is not None and not self.has_reported:
                self.has_reported = True
                self.link.send("gone", how=how, taken=requeued, requeued=requeued)

    def give_up(self, how: str) -> None:
        """For a machine that is taken away, and a job that comes back."""
        self._report(how, requeued=True)
        if self.process is not None:
            self.process.kill()


class _LocalJob:
    """A supervisor as a thread of this process."""

    def __init__(self, call: Call) -> None:
        self.thread = threading.Thread(target=Supervisor(call).run, daemon=True)
        self.thread.start()

    def explain_loss(self) -> Ending:
        return Ending("its supervisor ended")

    def cancel(self) -> None:
        """Waits for what the closed link has ended already."""
        self.thread.join()


class LocalLauncher:
    """Starts workers on this machine."""

    def __init__(self, placements: list[Placement]) -> None:
        self.placements = placements
        self.reception = Reception(None)

    def start(self, calls: list[Call]) -> list[_LocalJob]:
        return [_LocalJob(call) for call in calls]

    def close(self) -> None:
        self.reception.close()
