"""Studies on a real Ray cluster of several nodes: what is lost costs a retry, and every trial ends once."""

import io
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any, Final

import psutil
import pytest
from rich.console import Console

from sweeplab.config.executor import RayWorkers
from sweeplab.execution.driver import Driver
from sweeplab.execution.on_ray import _choose_ray_placements, _count_free_workers
from sweeplab.records.store import read_records
from sweeplab.runtime.errors import ConfigError
from tests.execution.executors import ray_cluster, standin_pids, use_standin
from tests.study_runs import LOSS, SHORT, ComposeStudy, MakeRequest, Standin, gone, running, wait_until

SIX_RANKS: Final = "++space.adapter.rank.choices=[1,2,3,4,5,6]"
ON_RAY: Final = ("executor=ray", "executor.device=cpu")
WITH_STANDIN: Final = """
import os
from sweeplab.execution import executor
executor.list_worker_command = lambda: [os.environ["STANDIN"]]
from sweeplab.__main__ import main
main()
"""


def node(alive: bool = True, **resources: float) -> dict[str, Any]:
    return {"Alive": alive, "Resources": resources}


def test_the_cluster_s_room_is_counted_node_by_node(compose_study: ComposeStudy) -> None:
    config = compose_study("executor=ray", "executor.cpus_per_worker=4", "evaluation=none", LOSS)
    assert isinstance(config.executor, RayWorkers)
    nodes = [node(CPU=7.0), node(CPU=9.0), node(CPU=64.0, alive=False), node()]
    assert _count_free_workers(nodes, config.executor, 0) == 3  # 16 cores have room for 4 workers, these nodes have not
    placements, num_gpus = _choose_ray_placements(config, nodes)
    assert num_gpus == 0
    assert [(one.executor.num_threads, one.executor.device) for one in placements] == [(4, "cpu")] * 3
    nodes.append(node(CPU=16.0, GPU=2.0))
    placements, num_gpus = _choose_ray_placements(config, nodes)
    assert num_gpus == 1
    assert [(one.executor.num_threads, one.executor.device) for one in placements] == [(4, "auto")] * 2
    config = config.replaced(executor=config.executor.replaced(gpus_per_worker=0.5))
    assert len(_choose_ray_placements(config, nodes)[0]) == 4
    config = config.replaced(executor=config.executor.replaced(cpus_per_worker=128))
    with pytest.raises(
        ConfigError, match=r"^no node of the Ray cluster has room for a worker of .*=128 .*=0\.5; lower"
    ):
        _choose_ray_placements(config, nodes)


def statuses(tmp_path: Path) -> list[str]:
    return [record.status.value for record in read_records(tmp_path / "runs" / "single")]


@pytest.mark.slow
def test_a_node_removed_without_grace_costs_its_trials_a_retry(
    make_request: MakeRequest, standin: Standin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second worker waits for a machine from then on, and the first does all that is left."""
    use_standin(standin, monkeypatch)
    standin.plan(seconds=4)
    with ray_cluster(1, 1) as cluster:
        lost = cluster.worker_nodes.copy().pop()

        def remove() -> None:
            wait_until(lambda: len({one["pid"] for one in standin.given()}) == 2)  # both are at work
            cluster.remove_node(lost, allow_graceful=False)
            standin.plan()

        thread = threading.Thread(target=remove)
        thread.start()
        request = make_request(SIX_RANKS, *ON_RAY, f"executor.address={cluster.address}", "executor.num_workers=2")
        assert Driver(request, Console(file=io.StringIO())).run() == 6
        thread.join()
    numbers = standin.numbers()
    assert sorted(set(numbers)) == list(range(6))
    assert len(numbers) == 7  # one was lost, and run again
    assert statuses(tmp_path) == ["finished"] * 6
    wait_until(lambda: standin_pids(standin) == [], 10)


@pytest.mark.slow
def test_a_driver_killed_on_a_cluster_leaves_no_worker_and_goes_on(standin: Standin, tmp_path: Path) -> None:
    standin.plan(seconds=2)
    with ray_cluster(2) as cluster:
        settings = ("executor.cohort_size=1", "evaluation=none", "tracking=none", LOSS, SIX_RANKS.removeprefix("++"))
        place = (*ON_RAY, f"executor.address={cluster.address}", "executor.num_workers=2")
        command = [sys.executable, "-c", WITH_STANDIN, *settings, *place]
        variables = {name: os.environ[name] for name in os.environ if name.startswith("RAY_")}
        variables["STANDIN"] = str(standin.program)
        with running(command, tmp_path, **variables) as driver:
            wait_until(lambda: len(standin.given()) == 4)
            os.kill(driver.pid, signal.SIGKILL)
        wait_until(lambda: standin_pids(standin) == [], 60)
        folder = tmp_path / "runs" / "single"
        before = {path: path.stat().st_mtime_ns for path in folder.glob("trials/*/record.json")}
        assert 1 <= len(before) <= 3
        standin.plan()
        with running(command, tmp_path, **variables) as driver:
            out, err = driver.communicate(timeout=120)
        assert (driver.returncode, err) == (0, ""), out
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert statuses(tmp_path) == ["finished"] * 6


def addresses(processes: list[psutil.Process]) -> list[str]:
    """That anybody could call these processes at."""
    connections = [one for process in processes for one in process.net_connections(kind="inet")]
    return [one.laddr.ip.removeprefix("::ffff:") for one in connections if one.status == psutil.CONN_LISTEN]


@pytest.mark.slow
def test_a_real_trial_whose_worker_is_killed_goes_on_from_its_checkpoint(
    make_request: MakeRequest, tmp_path: Path
) -> None:
    """On a cluster that the study starts for itself: the only one of these on nothing but this machine's loopback."""
    long = (*SHORT[:2], *SHORT[3:], "training.max_steps=400", "executor.checkpoint_seconds=0.2")
    request = make_request(*long, *ON_RAY)
    folder = tmp_path / "runs" / "single" / "trials" / "00000"
    killed: list[int] = []
    listening: list[str] = []

    def kill() -> None:
        wait_until((folder / "checkpoint.pt").exists, 120)
        workers = [
            one for one in psutil.Process().children(recursive=True) if "sweeplab.execution.worker" in one.cmdline()
        ]
        listening.extend(addresses([psutil.Process(), *psutil.Process().children(recursive=True)]))
        killed.extend(one.pid for one in workers)
        for one in workers:
            one.kill()

    thread = threading.Thread(target=kill)
    thread.start()
    out = io.StringIO()
    assert Driver(request, Console(file=out, width=200)).run() == 1
    thread.join()
    (record,) = read_records(tmp_path / "runs" / "single")
    assert len(killed) == 1
    assert gone(killed[0])
    assert listening
    assert set(listening) <= {"127.0.0.1", "::1"}
    assert [point.step for point in record.losses] == list(range(1, 401))
    assert record.phases["train"].seconds > 0
    assert not (folder / "checkpoint.pt").exists()
