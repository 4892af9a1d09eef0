"""Executors under test: each over the stand-in worker, with what it needs of a cluster."""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

from sweeplab.config.study import StudyConfig
from sweeplab.config.trial_spec import TrialSpec
from sweeplab.execution import executor as module
from sweeplab.execution import on_slurm
from sweeplab.execution.executor import Executor
from sweeplab.execution.link import LOOPBACK, Link, Message
from sweeplab.execution.worker_handle import Event
from tests.study_runs import Standin

RAY_ENVIRONMENT: Final = {  # of a cluster that only this machine reaches
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": "5" * 64,
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}


@contextmanager
def ray_cluster(*cpus: int) -> Iterator[Any]:
    """A real cluster with a node for each of `cpus`, all on the loopback; the first is the head."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in RAY_ENVIRONMENT.items():
            patch.setenv(name, value)
        pytest.importorskip("ray", reason="pip install -e '.[ray]'")
        from ray.cluster_utils import Cluster

        cluster: Any = Cluster()
        try:
            for count in cpus:
                node = {"num_cpus": count, "object_store_memory": 80 * 2**20, "include_dashboard": False}
                cluster.add_node(**node, node_ip_address=LOOPBACK)
            yield cluster
        finally:
            cluster.shutdown()


def use_standin(standin: Standin, patch: pytest.MonkeyPatch) -> None:
    """Workers of every executor are the stand-in."""
    patch.setattr(module, "list_worker_command", lambda: [str(standin.program)])


@contextmanager
def submitit_here() -> Iterator[list[Any]]:
    """Jobs run on this machine, under submitit's own stand-in for Slurm; their controllers are listed."""
    pytest.importorskip("submitit", reason="pip install -e '.[slurm]'")
    from submitit.local import local as submitit_local

    started: list[Any] = []
    start = submitit_local.start_controller

    def listed(**settings: Any) -> Any:
        started.append(start(**settings))
        return started[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(on_slurm, "_CLUSTER", "local")
        patch.setattr(submitit_local, "start_controller", listed)
        yield started
        for one in started:
            one.wait(200)


def make_specs(config: StudyConfig, folder: Path, *numbers: int) -> list[Message]:
    return [
        TrialSpec(number, 0, {"adapter.rank": number}, config.trial_config(), folder).to_dict() for number in numbers
    ]


def wait_for_event(executor: Executor, *kinds: str) -> list[Event]:
    """Events up to the first of one of the kinds."""
    found: list[Event] = []
    while not found or found[-1].message["kind"] not in kinds:
        found.append(executor.next_event())
    return found


def wait_until_ready(executor: Executor, worker: int) -> None:
    while not executor.is_ready(worker):
        executor.next_event()


def standin_pids(standin: Standin) -> list[int]:
    """Of stand-in workers that run."""
    found = []
    for one in psutil.process_iter():
        try:
            if str(standin.folder) in one.cmdline() and one.status() != psutil.STATUS_ZOMBIE:
                found.append(one.pid)
        except psutil.Error:  # it ended while one looked
            continue
    return [pid for pid in found if pid != os.getpid()]


class ReportedLink(Link):
    """A link whose other end the test reads once everything is sent."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        super().__init__(ours)
        self.other = Link(theirs)

    def read(self) -> list[Message]:
        self.close()
        messages = list(self.other.messages())
        self.other.close()
        return messages


Open = Callable[..., Executor]
