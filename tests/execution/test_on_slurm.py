"""Jobs: what is submitted, what preemption costs, who may call the driver."""

import io
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Final

import psutil
import pytest
import torch
from rich.console import Console

from sweeplab.execution.driver import Driver
from sweeplab.execution.executor import Executor, open_executor
from sweeplab.execution.supervisor import Call
from sweeplab.records.store import make_folder, read_records
from sweeplab.runtime.errors import ConfigError
from tests.execution.executors import standin_pids, submitit_here, use_standin
from tests.study_runs import LOSS, SHORT, ComposeStudy, MakeRequest, Standin, wait_until

GOLDEN: Final = Path(__file__).parent / "golden" / "array.sbatch"
ON_SLURM: Final = ("executor=slurm", "executor.device=cpu")
THREE_RANKS: Final = "++space.adapter.rank.choices=[1,2,3]"


def statuses(tmp_path: Path) -> list[str]:
    return [record.status.value for record in read_records(tmp_path / "runs" / "single")]


def fake_slurm(folder: Path, patch: pytest.MonkeyPatch, sbatch: str) -> None:
    """`sbatch` keeps what it is given; nothing runs."""
    for name, text in {"sbatch": sbatch, "srun": "", "scancel": 'echo "$@" >> "$0.log"'}.items():
        program = folder / name
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
    patch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_the_array_that_is_submitted_is_as_it_was(
    compose_study: ComposeStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("submitit", reason="pip install -e '.[slurm]'")
    programs = tmp_path / "programs"
    programs.mkdir()
    fake_slurm(programs, monkeypatch, 'cp "$1" "$0.txt"; echo Submitted batch job 7')
    asked = (
        "executor.num_workers=3",
        "executor.cpus_per_worker=4",
        "executor.gpus_per_worker=2",
        "executor.partition=gpu",
        "executor.timeout_minutes=90",
        "++executor.sbatch={account: lab, mem: 32G}",
    )
    config = compose_study("executor=slurm", *asked, "evaluation=none", LOSS)
    folder = tmp_path / "study"
    make_folder(folder)
    with open_executor(config, folder) as executor:
        assert executor.num_workers == 3
        assert not any(map(executor.is_ready, range(3)))
        assert (folder / "slurm").stat().st_mode & 0o077 == 0  # the secret is in there
    submitted = (programs / "sbatch.txt").read_text()
    submitted = submitted.replace(str(folder), "STUDY").replace(sys.executable, "PYTHON")
    assert submitted == GOLDEN.read_text()
    assert (programs / "scancel.log").read_text().split() == ["7_0", "7_1", "7_2"]


def test_what_sbatch_refuses_is_told(
    compose_study: ComposeStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("submitit", reason="pip install -e '.[slurm]'")
    fake_slurm(tmp_path, monkeypatch, "echo 'sbatch: error: invalid partition specified: gpux' >&2; exit 1")
    config = compose_study(*ON_SLURM, "executor.partition=gpux", "evaluation=none", LOSS)
    with pytest.raises(ConfigError, match=r"^sbatch refused the study's jobs: .*invalid partition specified: gpux"):
        open_executor(config, tmp_path)


def test_no_slurm_is_told(compose_study: ComposeStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit", reason="pip install -e '.[slurm]'")
    monkeypatch.setenv("PATH", str(tmp_path))
    config = compose_study(*ON_SLURM, "evaluation=none", LOSS)
    with pytest.raises(ConfigError, match=r'^executor=slurm: Could not detect "srun", .*use executor=local$'):
        open_executor(config, tmp_path)


def test_an_address_of_another_machine_is_refused(compose_study: ComposeStudy, tmp_path: Path) -> None:
    config = compose_study(*ON_SLURM, "executor.address=192.0.2.77", "evaluation=none", LOSS)
    with (
        submitit_here(),
        pytest.raises(ConfigError, match=r"^executor\.address must be an address of this machine .*192\.0\.2\.77"),
    ):
        open_executor(config, tmp_path)


def preempt(standin: Standin) -> None:
    """What Slurm does first where it takes a node away: the signal to the job that holds the worker."""
    (pid,) = standin_pids(standin)
    psutil.Process(pid).parent().send_signal(signal.SIGUSR2)


def test_a_preempted_job_comes_back_and_its_trials_are_not_to_blame(
    make_request: MakeRequest, standin: Standin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice with the same trial, which would have been failed had its worker died twice."""
    use_standin(standin, monkeypatch)
    standin.plan(seconds=600)

    def take_away() -> None:
        wait_until(lambda: standin.numbers() == [0])
        preempt(standin)
        wait_until(lambda: standin.numbers() == [0, 0])
        standin.plan()
        preempt(standin)

    with submitit_here() as jobs:
        thread = threading.Thread(target=take_away)
        thread.start()
        request = make_request(THREE_RANKS, *ON_SLURM)
        assert Driver(request, Console(file=io.StringIO())).run() == 3
        thread.join()
    assert len(jobs) == 1  # it was the same job all along
    assert standin.numbers() == [0, 0, 0, 1, 2]
    assert statuses(tmp_path) == ["finished"] * 3


@pytest.mark.slow
def test_a_real_trial_whose_job_is_preempted_goes_on_from_its_checkpoint(
    make_request: MakeRequest, tmp_path: Path
) -> None:
    """The same job, requeued: a second worker trains what the first had not yet."""
    long = (*SHORT[:2], *SHORT[3:], "training.max_steps=400", "executor.checkpoint_seconds=0.2")
    folder = tmp_path / "runs" / "single" / "trials" / "00000"
    steps: list[int] = []

    def take_away() -> None:
        wait_until((folder / "checkpoint.pt").exists, 120)
        (worker,) = (one for one in psutil.Process().children(recursive=True) if is_worker(one))
        job = worker.parent()
        assert job is not None
        steps.append(torch.load(folder / "checkpoint.pt", weights_only=True)["step"])
        job.send_signal(signal.SIGUSR2)

    with submitit_here() as jobs:
        thread = threading.Thread(target=take_away)
        thread.start()
        assert Driver(make_request(*long, *ON_SLURM), Console(file=io.StringIO(), width=200)).run() == 1
        thread.join()
    (record,) = read_records(tmp_path / "runs" / "single")
    assert len(jobs) == 1
    assert 0 < steps[0] < 400
    assert [point.step for point in record.losses] == list(range(1, 401))
    assert not (folder / "checkpoint.pt").exists()


def is_worker(process: psutil.Process) -> bool:
    return "sweeplab.execution.worker" in process.cmdline()


def test_a_job_that_dies_is_replaced_by_a_new_one(
    make_request: MakeRequest, standin: Standin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_standin(standin, monkeypatch)
    standin.plan(die_once=[1])
    with submitit_here() as jobs:
        assert Driver(make_request(THREE_RANKS, *ON_SLURM), Console(file=io.StringIO())).run() == 3
    assert len(jobs) == 2
    assert standin.numbers() == [0, 1, 1, 2]
    assert statuses(tmp_path) == ["finished"] * 3


def test_a_node_without_the_study_s_folder_refuses(
    make_request: MakeRequest, standin: Standin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where study.runs_dir is on the driver's own disk."""
    use_standin(standin, monkeypatch)
    real = Executor._call_worker

    def call_elsewhere(executor: Executor, number: int) -> Call:
        return real(executor, number)._replace(log=str(tmp_path / "elsewhere" / "worker.log"))

    monkeypatch.setattr(Executor, "_call_worker", call_elsewhere)
    with (
        submitit_here(),
        pytest.raises(ConfigError, match=r" has no folder .*elsewhere, where trials and checkpoints "),
    ):
        Driver(make_request(THREE_RANKS, *ON_SLURM), Console(file=io.StringIO())).run()
