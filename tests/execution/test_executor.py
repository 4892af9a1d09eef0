"""What an executor does, whatever started its workers: one class of tests, on a worker without a model.

Then what it makes of workers that hang or send what is no message; those are the test's own.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

import pytest

from sweeplab.execution import executor as module
from sweeplab.execution.executor import Executor, open_executor
from sweeplab.execution.link import Link, Message, Reception, connect
from sweeplab.execution.placement import Placement
from sweeplab.execution.supervisor import Call, Ending
from sweeplab.execution.worker_handle import Event
from sweeplab.records.record import Status, TrialRecord
from sweeplab.records.store import make_folder
from sweeplab.runtime.errors import ConfigError
from tests.configs import workers_of
from tests.execution.executors import (
    Open,
    make_specs,
    ray_cluster,
    standin_pids,
    submitit_here,
    use_standin,
    wait_for_event,
    wait_until_ready,
)
from tests.study_runs import LOSS, MOST_SECONDS, ComposeStudy, Standin, wait_until

EXECUTORS: Final = ("local", "ray", "slurm")
QUICK: Final = ("evaluation=none", LOSS, "executor.device=cpu", "executor.stall_seconds=60")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Of a Ray cluster, for all tests of this file."""
    with ray_cluster(2) as cluster:
        yield cluster.address


@pytest.fixture(params=EXECUTORS)
def open_under_test(
    request: pytest.FixtureRequest,
    compose_study: ComposeStudy,
    standin: Standin,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Open]:
    """An executor of the stand-in; overrides are of its study."""
    name = request.param
    use_standin(standin, monkeypatch)
    place = [f"executor.address={request.getfixturevalue('address')}"] if name == "ray" else []

    def make(*overrides: str) -> Any:
        everything = (f"executor={name}", "executor.num_workers=1", *place, *QUICK, *overrides)
        config = compose_study(*everything)
        make_folder(tmp_path / "study")
        return open_executor(config, tmp_path / "study")

    with submitit_here() if name == "slurm" else nullcontext():
        yield make


def records(events: list[Event]) -> list[TrialRecord]:
    return [TrialRecord.from_dict(one.message["record"]) for one in events if one.message["kind"] == "ended"]


# Ray takes several seconds to start a worker: that it starts, trains, dies and is replaced there is tested always
ray_is_slow = pytest.mark.parametrize(
    "open_under_test", ["local", pytest.param("ray", marks=pytest.mark.slow), "slurm"], indirect=True
)


class TestEveryExecutor:
    @pytest.fixture
    def specs(self, compose_study: ComposeStudy, tmp_path: Path) -> Any:
        config = compose_study(*QUICK)
        return lambda *numbers: make_specs(config, tmp_path / "study", *numbers)

    def test_a_cohort_its_refill_and_the_next_cohort(
        self, open_under_test: Open, specs: Any, standin: Standin, tmp_path: Path
    ) -> None:
        with open_under_test() as executor:
            wait_until_ready(executor, 0)
            executor.submit(0, specs(0, 1))
            ended = []
            for numbers in ([2], list[int](), list[int]()):
                ended += records(wait_for_event(executor, "ended"))
                executor.refill(0, specs(*numbers))
            wait_for_event(executor, "done")
            executor.submit(0, specs(3))
            ended += records(wait_for_event(executor, "ended"))
            executor.refill(0, [])
            wait_for_event(executor, "done")
        assert [(one.number, one.status) for one in ended] == [(number, Status.FINISHED) for number in range(4)]
        assert standin.heard("cohort") == [[0, 1], [3]]
        assert standin.heard("refill") == [[2]]
        assert len({one["pid"] for one in standin.given()}) == 1
        log = (tmp_path / "study" / "worker-0.log").read_text()
        assert [log.count(f"a stray print of trial {number}\n") for number in range(4)] == [1] * 4

    @ray_is_slow
    def test_a_trial_stops_where_the_verdict_says_so(self, open_under_test: Open, specs: Any) -> None:
        with open_under_test("pruner=median", "training.heldout_interval=1") as executor:
            wait_until_ready(executor, 0)
            executor.submit(0, specs(0, 1))
            verdicts = {0: "worse than the median", 1: None}
            ended: list[TrialRecord] = []
            while len(ended) < 2:
                message = executor.next_event().message
                if message["kind"] == "observed" and "heldout_loss" in message["values"]:
                    executor.send_verdict(0, verdicts[message["number"]])
                elif message["kind"] == "ended":
                    ended.append(TrialRecord.from_dict(message["record"]))
                    executor.refill(0, [])
        assert [(one.status, one.reason) for one in ended] == [
            (Status.PRUNED, "worse than the median"),
            (Status.FINISHED, None),
        ]

    def test_a_worker_that_dies_says_how_and_a_fresh_one_takes_its_place(
        self, open_under_test: Open, specs: Any, standin: Standin, tmp_path: Path
    ) -> None:
        standin.plan(die_once=[0], cut_off=[1])
        with open_under_test() as executor:
            for _ in range(2):  # once silently, once in the middle of a message
                wait_until_ready(executor, 0)
                executor.submit(0, specs(0, 1))
                died = wait_for_event(executor, "died", "ended")[-1].message
                if died["kind"] == "ended":
                    executor.refill(0, [])
                    died = wait_for_event(executor, "died")[-1].message
                assert (died["status"], died["taken"]) == ("failed", False)
                assert died["reason"].startswith("the worker process ended with signal 9, which the system sends ")
                assert died["reason"].endswith(f"; see {tmp_path}/study/worker-0.log")
                executor.restart(0)
            wait_until_ready(executor, 0)
            executor.submit(0, specs(1))
            assert [one.number for one in records(wait_for_event(executor, "ended"))] == [1]
        assert len({one["pid"] for one in standin.given()}) == 3

    @ray_is_slow
    def test_a_worker_that_hangs_is_ended_and_timed_out(
        self, open_under_test: Open, specs: Any, standin: Standin
    ) -> None:
        standin.plan(hang_always=[0])
        with open_under_test("executor.stall_seconds=2") as executor:
            wait_until_ready(executor, 0)
            executor.submit(0, specs(0))
            died = wait_for_event(executor, "died")[-1].message
            assert died["status"] == "timed_out"
            assert died["reason"].startswith("no forward pass for executor.stall_seconds=2; see ")

    @ray_is_slow
    def test_two_workers_run_at_once_and_none_is_left_in_the_end(
        self, open_under_test: Open, specs: Any, standin: Standin
    ) -> None:
        standin.plan(seconds=100 * MOST_SECONDS)
        with open_under_test("executor.num_workers=2") as executor:
            for worker in (0, 1):
                wait_until_ready(executor, worker)
                executor.submit(worker, specs(worker))
            wait_until(lambda: len(standin.given()) == 2)
            assert len(standin_pids(standin)) == 2
            started = time.monotonic()
        assert time.monotonic() - started < MOST_SECONDS
        wait_until(lambda: standin_pids(standin) == [])


@pytest.mark.parametrize(("name", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_a_missing_package_is_named(
    name: str, package: str, compose_study: ComposeStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    config = compose_study(f"executor={name}", *QUICK)
    why = rf"^executor={name} needs the package {package}; pip install -c constraints.txt -e '\.\[{name}\]'$"
    with pytest.raises(ConfigError, match=why):
        open_executor(config, tmp_path)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ("executor.address=login1",),
            r"^executor\.address has no effect with executor=local, got login1; choose executor=ray, or leave .* out$",
        ),
        (
            ("executor=ray", "executor.partition=gpu"),
            r"^executor\.partition has no effect with executor=ray, got gpu; choose executor=slurm",
        ),
        (("executor.name=pbs",), r"^executor\.name is unknown, got 'pbs'; choose one of local, ray, slurm$"),
        (
            ("executor=slurm", "executor.num_workers=auto"),
            r"^executor\.num_workers must be a number of jobs for executor=slurm, got auto; try 4$",
        ),
        (
            ("executor=slurm", "executor.gpus_per_worker=0.5"),
            r"^executor\.gpus_per_worker must be a whole number for executor=slurm, got 0\.5; try 1$",
        ),
        (("executor=slurm", "executor.address=null"), r"^executor\.address must be what a job could call, got null; "),
        (("executor=ray", "executor.cpus_per_worker=0"), r"^executor\.cpus_per_worker must be at least 1, got 0; "),
        (("executor=ray", "executor.gpus_per_worker=-1"), r"^executor\.gpus_per_worker must be at least 0, got -1; "),
        (("executor=slurm", "executor.timeout_minutes=0"), r"^executor\.timeout_minutes must be at least 1, got 0; "),
    ],
)
def test_what_no_executor_could_do_is_refused(
    compose_study: ComposeStudy, overrides: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        compose_study(*QUICK, *overrides)


class Scripted:
    """A worker and its supervisor in this process: the test sends for the one, the other ends it when it is told to."""

    def __init__(self, call: Call) -> None:
        self.worker, self.supervisor = connect(call.worker), connect(call.supervisor)
        threading.Thread(target=self.supervise, daemon=True).start()

    def supervise(self) -> None:
        list(self.supervisor.messages())
        self.worker.close()
        self.supervisor.send("gone", how="killed", taken=False, requeued=False)
        self.supervisor.close()

    def explain_loss(self) -> Ending:
        raise AssertionError("its supervisor told how it ended")

    def cancel(self) -> None:
        pass


class ScriptedLauncher:
    """Two workers, each of which may be silent for so long."""

    def __init__(self, stall_seconds: float) -> None:
        executor = workers_of(num_workers=2, stall_seconds=stall_seconds)
        self.placements = [Placement(executor, None)] * 2
        self.reception = Reception(None)
        self.jobs: list[Scripted] = []

    def start(self, calls: list[Call]) -> list[Scripted]:
        self.jobs = [Scripted(call) for call in calls]
        return self.jobs

    def close(self) -> None:
        self.reception.close()


@pytest.fixture
def scripted(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Executor, list[Link]]]:
    """Two workers with a cohort each, and what they send by."""
    launcher = ScriptedLauncher(request.param)
    with Executor(launcher, False, tmp_path) as executor:
        for number in range(2):
            executor.submit(number, [])
        yield executor, [job.worker for job in launcher.jobs]


def death(executor: Executor) -> tuple[int, Message, list[int]]:
    """The first worker that died, what is said of it, and who spoke before."""
    spoke: list[int] = []
    while True:
        event = executor.next_event()
        if event.message["kind"] == "died":
            return event.worker, event.message, spoke
        spoke.append(event.worker)


@pytest.mark.parametrize("scripted", [0.5], indirect=True)
def test_a_worker_that_hangs_is_found_while_another_one_talks(scripted: tuple[Executor, list[Link]]) -> None:
    executor, links = scripted
    over, started = threading.Event(), time.monotonic()

    def talk() -> None:
        while not over.wait(0.02):
            links[1].send("observed", number=1, step=1, values={})

    talker = threading.Thread(target=talk)
    talker.start()
    try:
        worker, message, spoke = death(executor)
    finally:
        over.set()
        talker.join()
    assert worker == 0
    assert set(spoke) == {1}
    assert message["status"] == "timed_out"
    assert message["reason"].startswith("no forward pass for executor.stall_seconds=0.5; see ")
    assert time.monotonic() - started < MOST_SECONDS


@pytest.mark.parametrize("scripted", [MOST_SECONDS], indirect=True)
@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        (b"Segmentation fault\n", r"'Segmentation fault\n'"),
        (b"[" * 100_000 + b"\n", f"'{'[' * 100}'"),
        (b"[1]\n", r"'[1]\n'"),
        (b"{}\n", r"'{}\n'"),
        (b"\xff\xfe\n", "'\ufffd\ufffd\\n'"),
    ],
    ids=["text", "nested", "list", "no-kind", "no-utf8"],
)
def test_a_worker_that_says_what_is_no_message_is_ended(
    sent: bytes, shown: str, scripted: tuple[Executor, list[Link]]
) -> None:
    executor, links = scripted
    links[1].socket.sendall(sent)
    worker, message, spoke = death(executor)
    assert (worker, message["status"], spoke) == (1, "failed", [])
    assert message["reason"].startswith(f"it sent a line that is not a message: {shown}; see ")
