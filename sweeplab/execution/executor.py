"""Runs cohorts in worker processes, which a launcher starts on this machine, on a Ray cluster or through Slurm."""

import queue
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

from sweeplab.config.study import StudyConfig
from sweeplab.execution.link import Message, Reception
from sweeplab.execution.on_ray import RayLauncher
from sweeplab.execution.on_slurm import SlurmLauncher
from sweeplab.execution.placement import VISIBLE, Placement, choose_placements
from sweeplab.execution.supervisor import Call, LocalLauncher, list_worker_command, open_log
from sweeplab.execution.worker_handle import Event, Job, WorkerHandle
from sweeplab.records.store import make_folder
from sweeplab.runtime.errors import ConfigError

_PACKAGE_OF: Final = {"ray": "ray", "slurm": "submitit"}


class _Launcher(Protocol):
    """Starts a supervisor for each worker."""

    reception: Reception
    placements: list[Placement]  # one for each worker

    def start(self, calls: list[Call]) -> Sequence[Job]:
        """Starts, or queues, one supervisor for each call. Raises `ConfigError`."""

    def close(self) -> None: ...


class Executor:
    """The workers of a study. Each runs one cohort at a time."""

    def __init__(self, launcher: _Launcher, pruning: bool, folder: Path) -> None:
        """Starts the workers without waiting for them; `folder` is the study's. Raises as `open_executor`."""
        self.launcher = launcher
        self.placements = launcher.placements
        self.pruning = pruning
        self.folder = folder
        self.events: queue.Queue[Event] = queue.Queue()
        self.checked_at = time.monotonic()  # the last time that workers were checked for a hang
        self.workers: list[WorkerHandle] = []
        for number in range(self.num_workers):
            open_log(self._log_path(number)).close()  # raises at once where the log cannot be written
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
        return Call(list_worker_command(), str(Path.cwd()), str(self._log_path(number)), environment, *invitations)

    def _open_worker(self, number: int, call: Call, job: Job) -> WorkerHandle:
        placement = self.placements[number]
        opening = {
            "executor": placement.executor.to_dict(),
            "pruning": self.pruning,
            "num_devices": placement.num_devices,
            "gpu_share": placement.gpu_share,
            "rank": 0,
        }
        return WorkerHandle(number, call, job, self.launcher.reception, opening, self.events)

    def is_ready(self, worker: int) -> bool:
        """False for a worker that still waits for a machine; an event `ready` follows when it has started."""
        return self.workers[worker].is_ready

    def submit(self, worker: int, specs: list[Message], only_forecast: bool = False) -> None:
        """Starts a cohort on a worker that is ready and idle; its events end with `done` or `died`.

        With `only_forecast` nothing trains: an event `forecast` says what the first trial will take.
        """
        chosen = self.workers[worker]
        chosen.is_busy, chosen.received_at = True, time.monotonic()
        chosen.send("cohort", specs=specs, only_forecast=only_forecast)

    def refill(self, worker: int, specs: list[Message]) -> None:
        """Sends trials in place of one that has `ended`; must be called once after each `ended`, also with none."""
        self.workers[worker].send("refill", specs=specs)

    def stop_trial(self, worker: int, number: int) -> None:
        """Asks a worker to end a trial after its present step; the trial's `ended` follows as that of any other."""
        self.workers[worker].send("stop", number=number)

    def send_verdict(self, worker: int, why: str | None) -> None:
        """Sends why the pruner stops the trial that reported the last held-out loss, or None where it goes on.

        Where a pruner is on, it must be called once after each held-out loss: the worker waits for it.
        """
        self.workers[worker].send("verdict", why=why)

    def next_event(self) -> Event:
        """Waits for the next event of any worker. A worker that hangs is killed, which gives an event `died`."""
        seconds = self.placements[0].executor.stall_seconds
        if seconds is None:
            return self.events.get()
        interval = min(seconds / 4, 5.0)
        while True:
            if time.monotonic() - self.checked_at >= interval:  # also where other workers keep sending
                self.checked_at = time.monotonic()
                for worker in self.workers:
                    worker.kill_if_stalled(seconds)
            with suppress(queue.Empty):
                return self.events.get(timeout=interval)

    def restart(self, worker: int) -> None:
        """Starts a new worker in place of one that died. Raises `ConfigError`."""
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
        """Ends every worker. Trials without a record run again when the study continues."""
        for worker in self.workers:
            worker.begin_stop()
        for worker in self.workers:
            worker.complete_stop()
        self.launcher.close()


def open_executor(config: StudyConfig, folder: Path) -> Executor:
    """The executor of the configuration; `folder` is the study's. Raises `ConfigError` and `StoreError`."""
    name = config.executor.name
    package = _PACKAGE_OF.get(name)
    if package is not None and find_spec(package) is None:
        raise ConfigError(f"executor={name} needs the package {package}; pip install -c constraints.txt -e '.[{name}]'")
    make_folder(folder)
    launcher: _Launcher
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
