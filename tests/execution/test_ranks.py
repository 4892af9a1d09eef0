"""What the processes of one worker say, and what each of them sees; a study with a model in two processes."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file

from sweeplab.cli.reproduce import ADAPTER
from sweeplab.config.space import axes
from sweeplab.execution import ranks as module
from sweeplab.execution.ranks import _EXIT_CODE_BROKEN, Reporter, _choose_device_variables
from sweeplab.records.record import LargerBatch, Status, TrialRecord
from sweeplab.records.store import read_record, read_records
from sweeplab.runtime.errors import ConfigError
from sweeplab.search.samplers import check_space
from tests.execution.executors import ReportedLink
from tests.hostile import answer
from tests.study_runs import LOSS, SHORT, ComposeStudy, run_cli, running
from tests.trials import SpecFactory, run_alone

DDP: Final = ("training.strategy=ddp", "training.num_devices=2")
ONE_TRIAL: Final = (*SHORT, LOSS, "evaluation=none", "tracking=none", "adapter.rank=4", "adapter.dropout=0.1")


def record(number: int, status: Status) -> TrialRecord:
    return TrialRecord(number, status, 0, {}, {})


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Exit codes of a process that goes on, so that it can tell."""
    codes: list[int] = []

    def leave(code: int) -> None:
        codes.append(code)
        raise SystemExit(code)

    monkeypatch.setattr(os, "_exit", leave)
    monkeypatch.setattr(module, "_GRACE_SECONDS", 0.0)
    return codes


def sent(link: ReportedLink) -> list[tuple[str, Any]]:
    return [(message["kind"], message.get("record", {}).get("number")) for message in link.read()]


@pytest.mark.parametrize("status", [Status.FAILED, Status.OUT_OF_MEMORY])
def test_a_trial_that_fails_on_one_of_several_devices_ends_the_worker(ends: list[int], status: Status) -> None:
    for silent in (False, True):
        link = ReportedLink()
        reporter = Reporter(link)
        reporter.is_silent = silent
        with pytest.raises(SystemExit):
            reporter.end_trial(record(3, status), num_devices=2)
        assert sent(link) == [("ended", 3)]  # a later rank tells the first
    assert ends == [_EXIT_CODE_BROKEN, _EXIT_CODE_BROKEN]
    link = ReportedLink()
    Reporter(link).end_trial(record(3, status), num_devices=1)
    assert sent(link) == [("ended", 3)]


@pytest.mark.parametrize("status", [Status.FINISHED, Status.PRUNED, Status.DIVERGED, Status.TIMED_OUT])
def test_what_all_devices_decide_together_ends_nothing_and_is_told_by_the_first(
    ends: list[int], status: Status
) -> None:
    first, later = ReportedLink(), ReportedLink()
    for link in (first, later):
        reporter = Reporter(link)
        reporter.is_silent = link is later
        reporter.report("observed", number=3)
        reporter.end_trial(record(3, status), num_devices=2)
    assert ends == []
    assert sent(first) == [("observed", None), ("ended", 3)]
    assert sent(later) == []


def test_a_driver_receives_a_trial_s_end_once(ends: list[int]) -> None:
    link = ReportedLink()
    reporter = Reporter(link)
    reporter.end_trial(record(3, Status.FINISHED), num_devices=2)
    with pytest.raises(SystemExit):  # another device failed as it wrote, after this one was through
        reporter.abort("ended", record=record(3, Status.FAILED).to_dict())
    assert sent(link) == [("ended", 3)]
    assert ends == [_EXIT_CODE_BROKEN]


def test_each_process_sees_one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-b,6")

    def variables(device: str, count: int) -> list[dict[str, str]]:
        return _choose_device_variables({"executor": {"device": device}, "num_devices": count})

    assert variables("auto", 2) == [{"CUDA_VISIBLE_DEVICES": "4"}, {"CUDA_VISIBLE_DEVICES": "GPU-b"}]
    assert variables("cpu", 4) == [{}] * 4
    with pytest.raises(
        ConfigError, match=r"^training\.num_devices must be at most the .* GPUs of a worker, 3, got 4; use "
    ):
        variables("cuda", 4)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert variables("auto", 2) == [{}, {}]


@pytest.mark.parametrize("key", ["training.strategy", "training.num_devices"])
def test_the_devices_are_no_axis(compose_study: ComposeStudy, key: str) -> None:
    config = compose_study(LOSS, "evaluation=none", f"++space.{key}.choices=[1,2]")
    with pytest.raises(ConfigError, match=rf"^space\.{key} must be the same in all trials, got .*; give {key} itself$"):
        check_space(config, axes(config.space))


@pytest.mark.parametrize("executor", ["ray", "slurm"])
def test_a_cluster_s_worker_has_as_many_gpus_as_its_model(compose_study: ComposeStudy, executor: str) -> None:
    asked = (LOSS, "evaluation=none", f"executor={executor}", *DDP)
    message = rf"^executor\.gpus_per_worker must be training\.num_devices=2 for executor={executor}, or 0 .*, got 1; u"
    with pytest.raises(ConfigError, match=message):
        compose_study(*asked)
    assert compose_study(*asked, "executor.gpus_per_worker=2").executor.gpus_per_worker == 2
    assert compose_study(*asked, "executor.device=cpu").training.num_devices == 2


def own_study(folder: Path, *overrides: str) -> list[TrialRecord]:
    """The records of a study on the command line."""
    done = answer([*ONE_TRIAL, *overrides, "study.name=own"], folder)
    assert done.code == 0, done.out + done.err
    return read_records(folder / "runs" / "own")


def test_a_study_with_two_processes_gives_the_records_of_one(
    tmp_path: Path, make_spec: SpecFactory, resources: Any
) -> None:
    """By the command line, in 32 bits, with dropout; the adapter is written once."""
    (found,) = own_study(tmp_path, *DDP, "executor.num_workers=1", "training.max_steps=3")
    expected = run_alone(make_spec(0, *ONE_TRIAL[: len(SHORT)], *ONE_TRIAL[-2:], "evaluation=none"), resources)
    assert found.status is Status.FINISHED
    assert len(found.losses) == 3
    assert [one.loss for one in found.losses] == pytest.approx([one.loss for one in expected.losses], rel=0, abs=1e-6)
    assert found.heldout_loss_nats_per_token == pytest.approx(expected.heldout_loss_nats_per_token, rel=0, abs=1e-6)
    assert found.num_train_tokens == expected.num_train_tokens
    assert found.config["training"]["strategy"] == "ddp"
    assert found.adapter_bytes == expected.adapter_bytes
    trial = tmp_path / "runs" / "own" / "trials" / "00000"
    assert read_record(trial / "record.json").number == 0
    assert (trial / "adapter" / "adapter_model.safetensors").is_file()


def children(process: psutil.Process, program: str) -> list[psutil.Process]:
    return [one for one in process.children() if program in " ".join(one.cmdline())]


def eventually(found: Callable[[], list[psutil.Process]]) -> psutil.Process:
    for _ in range(2400):
        if processes := found():
            return processes[0]
        time.sleep(0.05)
    raise AssertionError("no such process came")


@pytest.mark.slow
def test_a_process_that_is_killed_costs_its_trials_one_retry(tmp_path: Path) -> None:
    """The second process of the worker goes; the first one, and the driver, notice."""
    command = [
        sys.executable, "-m", "sweeplab", *ONE_TRIAL, *DDP, "study.name=own", "executor.num_workers=1",
        "training.max_steps=30", "space.adapter.rank.choices=[2,4]",
    ]  # fmt: skip
    with running(command, tmp_path) as driver:
        worker = eventually(lambda: children(psutil.Process(driver.pid), "sweeplab.execution.worker"))
        later = eventually(lambda: children(worker, "sweeplab.execution.worker"))
        (tmp_path / "runs" / "own").mkdir(parents=True, exist_ok=True)
        eventually(lambda: [worker] * bool(list(tmp_path.glob("runs/own/base/*.json"))))  # it is at work
        later.send_signal(signal.SIGKILL)
        out, errors = driver.communicate(timeout=200)
    assert driver.returncode == 0, out + errors
    assert not worker.is_running()
    assert [one.status for one in read_records(tmp_path / "runs" / "own")] == [Status.FINISHED] * 2


HUNGRY: Final = """
import os
import sys

import psutil

if "sweeplab.execution.worker" in " ".join(psutil.Process().parent().cmdline()):
    import torch

    import sweeplab.trial.lifecycle
    import sweeplab.training.module as module

    real = module.window_shares

    def hungry(model, batch):
        if len(batch.rows.ids_BT) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")
        return real(model, batch)

    module.window_shares = hungry
"""


@pytest.mark.slow
def test_memory_that_runs_out_on_the_second_device_alone_is_the_trial_s(tmp_path: Path) -> None:
    """The first one waits for it in the middle of a step; the trial is halved as it would be on one device."""
    (tmp_path / "sitecustomize.py").write_text(HUNGRY)
    path = f"{Path(module.__file__).parents[2]}:{tmp_path}"
    halve = "executor.on_out_of_memory=halve"
    done = run_cli(tmp_path, *ONE_TRIAL, *DDP, halve, "executor.num_workers=1", "study.name=own", PYTHONPATH=path)
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = read_records(tmp_path / "runs" / "own")
    assert found.status is Status.FINISHED
    tried = LargerBatch(4, 1, "CUDA out of memory. Tried to allocate 9 GiB")
    assert found.larger_batches == [tried]
    assert found.config["training"]["micro_batch_size"] == 2


@pytest.mark.slow
def test_a_base_in_parts_goes_through_pruner_tasks_and_cohort(tmp_path: Path) -> None:
    """Everything that every process must do in step: base score, verdicts, lm-eval, adapters on disk."""
    asked = (
        *SHORT, "quantization=nf4_dq", "tracking=none", "evaluation.limit=4", "training.heldout_interval=1",
        "pruner=median", "space.adapter.rank.choices=[2,4]", "executor.num_workers=1", "executor.cohort_size=2",
    )  # fmt: skip
    parts = ("training.strategy=fsdp", "training.num_devices=2")
    for name, more in (("single", ()), ("fsdp", parts)):
        done = run_cli(tmp_path, *asked, *more, f"study.name={name}")
        assert done.returncode == 0, done.stdout + done.stderr
    singles, divided = (read_records(tmp_path / "runs" / name) for name in ("single", "fsdp"))
    for one, other in zip(singles, divided, strict=True):
        assert other.status is Status.FINISHED
        assert [point.loss for point in other.losses] == pytest.approx([point.loss for point in one.losses], abs=1e-5)
        held = [point.loss for point in one.heldout_losses]
        assert [point.loss for point in other.heldout_losses] == pytest.approx(held, abs=1e-5)
        assert other.scores == one.scores
        weights, expected = (
            load_file(tmp_path / "runs" / name / "trials" / f"{one.number:05d}" / ADAPTER)
            for name in ("fsdp", "single")
        )
        assert weights.keys() == expected.keys()
        for key, weight in expected.items():
            np.testing.assert_allclose(weights[key], weight, rtol=0, atol=1e-4, err_msg=key)
