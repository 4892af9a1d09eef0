"""A supervisor runs on the machine of a worker, starts it, reports how it ended, and kills it when the driver ends.

It is a thread of the driver for local workers, a Ray actor, or a Slurm job.
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
    """How a worker is started; every machine must have these paths."""

    program: list[str]  # the command with its arguments
    folder: str  # the driver's working directory, which relative paths start from
    log: str  # file for stdout and stderr, in the study's folder
    environment: dict[str, str]  # variables in addition to the machine's own
    worker: Invitation
    supervisor: Invitation


class Ending(NamedTuple):
    """How a worker ended, for the records of its trials."""

    how: str
    taken: bool = False  # its machine was taken away, so its trials are not the cause
    requeued: bool = False  # the cluster starts it again, with the same invitations


def list_worker_command() -> list[str]:
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
    """Starts a process that reads its invitation from stdin.

    With a `log` it gets its own session, so that Ctrl-C reaches the driver only; without one it shares the output and
    the session of this process.
    """
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
        for descriptor in inherited:  # the other side sees the end of the link only when no process has it open
            os.close(descriptor)
    assert process.stdin is not None
    with suppress(BrokenPipeError), process.stdin as stream:
        stream.write(json.dumps(invitation) + "\n")
    return process


def _refuse_unshared_folder(call: Call) -> None:
    """Raises `StoreError` on a machine that does not have the study's folder, which the driver has created."""
    folder = Path(call.folder, call.log).parent
    if not folder.is_dir():
        raise StoreError(
            f"{socket.gethostname()} has no folder {folder}, where trials and checkpoints are kept; "
            "set study.runs_dir to a folder that all machines share"
        )


def _describe_exit(code: int) -> str:
    """A sentence about the return code of a process."""
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    if code == -9:
        how += ", which the system sends when its memory is full"
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
        """Starts the worker and waits until it has ended. Raises as `connect`."""
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
                watcher.join()  # until the driver has received the report and closed the link
            self.link.close()

    def _end_with_driver(self, link: Link, process: "subprocess.Popen[str]") -> None:
        for _ in link.messages():
            pass
        process.kill()

    def _report(self, how: str, requeued: bool = False) -> None:
        """Reports to the driver how the worker ended; only the first call counts, which has the cause."""
        with self.lock:
            if self.link is not None and not self.has_reported:
                self.has_reported = True
                self.link.send("gone", how=how, taken=requeued, requeued=requeued)

    def give_up(self, how: str) -> None:
        """Kills the worker because its machine is taken away; the cluster will start the job again."""
        self._report(how, requeued=True)
        if self.process is not None:
            self.process.kill()


class _LocalJob:
    """A supervisor in a thread of this process."""

    def __init__(self, call: Call) -> None:
        self.thread = threading.Thread(target=Supervisor(call).run, daemon=True)
        self.thread.start()

    def explain_loss(self) -> Ending:
        return Ending("its supervisor ended")

    def cancel(self) -> None:
        """Waits for the supervisor, which ends because its link is closed."""
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
