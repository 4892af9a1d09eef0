"""Runs cohorts in worker processes, which a launcher starts on this machine, on a Ray cluster or through Slurm."""

import queue
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Protocol, Self

from sweeplab.config.study import StudyConfig
from sweeplab.execution.link import InvalidMessage, Link, Message, Reception
from sweeplab.execution.on_ray import RayLauncher
from sweeplab.execution.on_slurm import SlurmLauncher
from sweeplab.execution.placement import VISIBLE, Placement, choose_placements
from sweeplab.execution.supervisor import Call, Ending, LocalLauncher, open_log, worker_program
from sweeplab.records.record import Status
from sweeplab.records.store import make_folder
from sweeplab.runtime.errors import ConfigError
from sweeplab.runtime.paths import abbreviate_home_in_text

_PACKAGE_OF: Final = {"ray": "ray", "slurm": "submitit"}
_EXIT_SECONDS: Final = 5.0  # for a worker to end that has closed its link
_STOP_SECONDS: Final = 10.0  # for a machine to end a worker, before the launcher ends what holds it


class Event(NamedTuple):
    """What worker number `worker` sends: a message; `ready`; or that it `died`, with `status` and `reason` for its
    trials, and `taken`, True where the death is no fault of theirs."""

    worker: int
    message: Message


class Job(Protocol):
    """A supervisor that a launcher has started, or asked for."""

    def explain_loss(self) -> Ending:
        """How it ended, where it could not tell."""

    def cancel(self) -> None:
        """Ends it, wherever it runs or waits."""


class Launcher(Protocol):
    """Starts supervisors, and says how one ended that could not tell."""

    reception: Reception
    placements: list[Placement]  # of each worker

    def start(self, calls: list[Call]) -> Sequence[Job]:
        """Raises `ConfigError`."""

    def close(self) -> None: ...


class _Worker:
    """One worker: the link to it, the link to its supervisor, and a thread that receives from each."""

    def __init__(
        self, number: int, call: Call, job: Job, reception: Reception, opening: Message, events: "queue.Queue[Event]"
    ) -> None:
        self.number = number
        self.call = call
        self.job = job
        self.opening = opening
        self.events = events
        self.link: Link | None = None
        self.supervisor: Link | None = None
        self.lock = threading.Lock()
        self.ending = Ending("")
        self.is_busy = False
        self.is_stopped = False
        self.received_at = time.monotonic()
        self.killed_for: tuple[Status, str] | None = None
        self.links, self.supervisors = reception.links_of(call.worker), reception.links_of(call.supervisor)
        first = self.links.get_nowait() if call.worker.descriptor is not None else None
        if first is not None:
            self._open(first)
        self.threads = [
            threading.Thread(target=self._watch_supervisor, daemon=True),
            threading.Thread(target=self._receive, daemon=True),
        ]
        for thread in self.threads:
            thread.start()

    @property
    def is_ready(self) -> bool:
        return self.link is not None

    def send(self, kind: str, **content: object) -> None:
        link = self.link
        if link is not None:
            link.send(kind, **content)

    def _open(self, link: Link) -> None:
        link.send("open", **self.opening)
        self.link = link

    def _watch_supervisor(self) -> None:
        """Until the worker has ended; then nobody waits for its link."""
        self.ending = self._await_ending()
        self.links.put(None)

    def _await_ending(self) -> Ending:
        link = self.supervisors.get()
        if link is None:
            return Ending("it did not begin") if self.is_stopped else self.job.explain_loss()
        with self.lock:
            self.supervisor = link
            if self.is_stopped:
                link.finish()
        try:
            for message in link.messages():
                if message["kind"] == "gone":
                    return Ending(message["how"], message["taken"], message["requeued"])
                self.events.put(Event(self.number, message))
            return self.job.explain_loss()
        except InvalidMessage as error:
            return Ending(f"its supervisor sent what is no message: {error}")
        finally:
            link.close()

    def _receive(self) -> None:
        """What the worker sends, then that it died."""
        link = self.link or self.links.get()
        has_ended = link is None
        if link is not None:
            if self.link is None:
                self._open(link)
                self.events.put(Event(self.number, {"kind": "ready"}))
            self._receive_from(link)
            self.link = None
            link.close()
        if not has_ended and self.killed_for is None:
            with suppress(queue.Empty):
                has_ended = self.links.get(timeout=_EXIT_SECONDS) is None
        if not has_ended:
            self._end_process()
            while (unexpected := self.links.get()) is not None:
                unexpected.close()
        if not self.is_stopped:
            self.events.put(Event(self.number, self._describe_death()))

    def _receive_from(self, link: Link) -> None:
        try:
            for message in link.messages():
                self.received_at = time.monotonic()
                if message["kind"] == "done":
                    self.is_busy = False
                if message["kind"] != "alive":
                    self.events.put(Event(self.number, message))
        except InvalidMessage as error:
            self.kill(Status.FAILED, f"it said what is no message: {error}")

    def _describe_death(self) -> Message:
        status, how = self.killed_for or (Status.FAILED, self.ending.how)
        reason = abbreviate_home_in_text(f"{how}; see {Path(self.call.folder, self.call.log)}")
        return {"kind": "died", "status": status.value, "reason": reason, "taken": self.ending.taken}

    def _end_process(self) -> None:
        """Its supervisor ends it, and says so."""
        with self.lock:
            if self.supervisor is not None:
                self.supervisor.finish()

    def kill(self, status: Status, why: str) -> None:
        self.killed_for = status, why
        self._end_process()
        if (link := self.link) is not None:
            link.close()  # also where its machine does not answer

    def kill_if_stalled(self, seconds: float) -> None:
        """A worker that has a cohort and sends nothing for `seconds` hangs."""
        if self.is_busy and self.killed_for is None and time.monotonic() - self.received_at > seconds:
            self.kill(Status.TIMED_OUT, f"no forward pass for executor.stall_seconds={seconds:g}")

    def begin_stop(self) -> None:
        """What it has not reported is run again later."""
        with self.lock:
            self.is_stopped = True
            if self.supervisor is None:
                self.supervisors.put(None)
            else:
                self.supervisor.finish()

    def complete_stop(self, keep_job: bool = False) -> None:
        """Its memory is free, or the launcher's to free."""
        self.threads[0].join(_STOP_SECONDS)
        if not keep_job:
            self.job.cancel()
        for link in (self.link, self.supervisor):
            if link is not None:
                link.close()  # ends the threads, also where its machine does not answer
        for thread in self.threads:
            thread.join(_STOP_SECONDS)


class Executor:
    """What the driver needs of whatever runs cohorts. Each worker has one cohort at a time."""

    def __init__(self, launcher: Launcher, pruning: bool, folder: Path) -> None:
        """Workers begin to start, and import what they need; `folder` is the study's. Raises as `open_executor`."""
        self.launcher = launcher
        self.placements = launcher.placements
        self.pruning = pruning
        self.folder = folder
        self.events: queue.Queue[Event] = queue.Queue()
        self.checked_at = time.monotonic()  # whether one of them hangs
        self.workers: list[_Worker] = []
        for number in range(self.num_workers):
            open_log(self._log_path(number)).close()  # where it cannot be written, this is said at once
        calls = [self._call_worker(number) for number in range(self.num_workers)]
        for number, (call, job) in enumerate(zip(calls, launcher.start(calls), strict=True)):
            self.workers.append(self._open_worker(number, call, job))

    @property
    def num_workers(self) -> int:
        return len(self.placements)

    def _log_path(self, number: int) -> Path:
        return self.folder / f"worker-{number}.log"

    def _call_worker(self, number: int) -> Call:
        gpu, reception = self.placements[number].gpu, self.launcher.reception
        environment = {} if gpu is None else {VISIBLE: gpu}
        invitations = reception.invite(), reception.invite()
        return Call(worker_program(), str(Path.cwd()), str(self._log_path(number)), environment, *invitations)

    def _open_worker(self, number: int, call: Call, job: Job) -> _Worker:
        placement = self.placements[number]
        opening = {
            "executor": asdict(placement.executor),
            "pruning": self.pruning,
            "num_devices": placement.num_devices,
            "rank": 0,
        }
        return _Worker(number, call, job, self.launcher.reception, opening, self.events)

    def is_ready(self, worker: int) -> bool:
        """False for a worker that waits for a machine; `ready` says when it has one."""
        return self.workers[worker].is_ready

    def submit(self, worker: int, specs: list[Message]) -> None:
        """Starts a cohort on a worker that is ready and has none; its events end with `done` or `died`."""
        chosen = self.workers[worker]
        chosen.is_busy, chosen.received_at = True, time.monotonic()
        chosen.send("cohort", specs=specs)

    def refill(self, worker: int, specs: list[Message]) -> None:
        """What follows a trial that has `ended`: owed once for each, also where there is nothing."""
        self.workers[worker].send("refill", specs=specs)

    def send_verdict(self, worker: int, why: str | None) -> None:
        """None where the trial of the last held-out loss goes on, else why not; owed for each where a pruner is on."""
        self.workers[worker].send("verdict", why=why)

    def next_event(self) -> Event:
        """Waits for the next event of any worker. A worker that hangs is killed, and dies like any other."""
        seconds = self.placements[0].executor.stall_seconds
        if seconds is None:
            return self.events.get()
        interval = min(seconds / 4, 5.0)
        while True:
            if time.monotonic() - self.checked_at >= interval:  # also while others send
                self.checked_at = time.monotonic()
                for worker in self.workers:
                    worker.kill_if_stalled(seconds)
            with suppress(queue.Empty):
                return self.events.get(timeout=interval)

    def restart(self, worker: int) -> None:
        """A fresh worker for one that died. Raises `ConfigError`."""
        dead = self.workers[worker]
        call, job = dead.call, dead.job
        dead.begin_stop()
        dead.complete_stop(keep_job=dead.ending.requeued)
        if not dead.ending.requeued:
            call = self._call_worker(worker)
            (job,) = self.launcher.start([call])
        self.workers[worker] = self._open_worker(worker, call, job)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends every worker: what they have not reported is run again later."""
        for worker in self.workers:
            worker.begin_stop()
        for worker in self.workers:
            worker.complete_stop()
        self.launcher.close()


def open_executor(config: StudyConfig, folder: Path) -> Executor:
    """The executor that a study names; `folder` is the study's. Raises `ConfigError` and `StoreError`."""
    name = config.executor.name
    package = _PACKAGE_OF.get(name)
    if package is not None and find_spec(package) is None:
        raise ConfigError(f"executor={name} needs the package {package}; pip install -e '.[{name}]'")
    make_folder(folder)
    launcher: Launcher
    if name == "ray":
        launcher = RayLauncher(config)
    elif name == "slurm":
        launcher = SlurmLauncher(config, folder / "slurm")
    else:
        launcher = LocalLauncher(choose_placements(config))
    try:
        return Executor(launcher, config.pruner.name != "none", folder)
    except BaseException:
        launcher.close()
        raise
