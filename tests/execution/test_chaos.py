"""A study of forty trials whose processes are killed thirty times ends as one that nobody disturbed."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file

from sweeplab.records.quarantine import read_study
from sweeplab.records.record import Status, TrialRecord
from sweeplab.records.store import read_records, trial_folder
from tests.study_runs import LOSS, SHORT, environment, running

NUM_KILLS: Final = 30
MOST_NATS: Final = 5e-6
CHAOS: Final = (
    *SHORT,
    LOSS,
    "evaluation=none",
    "tracking=none",
    "data=json",
    "data.path=rows.jsonl",
    "training.max_steps=12",
    "training.heldout_interval=4",
    "executor.num_workers=2",
    "executor.checkpoint_seconds=0.05",
    "study.seeds=[0,1,2,3]",
    "space.adapter.rank.choices=[1,2,3,4,5,6,7,8,9,10]",
)
ROWS: Final = [{"instruction": f"Say {number}.", "output": f"It is {number}."} for number in range(20)]
OWN: Final = (
    "number",
    "status",
    "seed",
    "params",
    "config",
    "reason",
    "step",
    "num_trainable_params",
    "adapter_layers",
)


class Chaos(NamedTuple):
    """What was killed, and whether a record changed after it was written."""

    kills: list[str]
    changed: list[str]


def study(folder: Path) -> Path:
    return folder / "runs" / "single"


def written(folder: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in study(folder).glob("trials/*/record.json")}


def newest(folder: Path) -> float:
    """When a trial last left something on the disk."""
    times = [0.0]
    for path in study(folder).glob("trials/*/*"):
        with suppress(FileNotFoundError):
            times.append(path.stat().st_mtime)
    return max(times)


def alive(process: "psutil.Popen | psutil.Process") -> bool:
    return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)


def wait_for_progress(driver: psutil.Process, folder: Path, seconds: float, dice: random.Random) -> None:
    """Until a trial has left something new, or the time is over; then a little longer."""
    before, end = newest(folder), time.monotonic() + seconds
    while alive(driver) and time.monotonic() < end and newest(folder) == before:
        time.sleep(0.01)
    time.sleep(dice.uniform(0, 0.4))


def disturb(driver: psutil.Process, folder: Path, dice: random.Random, most: int) -> list[str]:
    """Kills some workers, each at most once, since two deaths are blamed on the trial; then the driver."""
    killed: list[str] = []
    spared: set[int] = set()
    if dice.random() < 0.3:
        time.sleep(dice.uniform(0, 6))  # while everything starts, or the search is asked for its first trials
    else:
        wait_for_progress(driver, folder, 300, dice)
        while len(killed) < most - 1 and dice.random() < 0.5:
            with suppress(psutil.NoSuchProcess):
                workers = [one for one in driver.children() if one.pid not in spared]
                if workers and not killed:
                    target = dice.choice(workers)
                    target.kill()
                    killed.append("worker")
                    spared.update(one.pid for one in driver.children())
            wait_for_progress(driver, folder, 300, dice)
            if killed:
                break
    if alive(driver):
        with suppress(psutil.NoSuchProcess):
            os.kill(driver.pid, signal.SIGKILL)
            killed.append("driver")
    return killed


def run_chaos(folder: Path, command: tuple[str, ...], seed: int) -> Chaos:
    """The same command, again and again, until it has been killed often enough; then to its end."""
    dice, kills, changed = random.Random(seed), list[str](), list[str]()
    before: dict[str, bytes] = {}
    while len(kills) < NUM_KILLS:
        with running([sys.executable, "-m", "sweeplab", *command], folder) as process:
            made = disturb(psutil.Process(process.pid), folder, dice, NUM_KILLS - len(kills))
            out, err = process.communicate(timeout=120)
        assert process.returncode in (-signal.SIGKILL, 0), (out, err)
        kills += made
        after = written(folder)
        changed += [name for name, data in before.items() if after.get(name) != data]
        before = after
        if process.returncode == 0:
            break  # it was faster than the dice
    done = finish(folder, command)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    after = written(folder)
    changed += [name for name, data in before.items() if after.get(name) != data]
    return Chaos(kills, changed)


def finish(folder: Path, command: tuple[str, ...]) -> "subprocess.CompletedProcess[str]":
    """The command to its end, however busy the machine is."""
    line = [sys.executable, "-m", "sweeplab", *command]
    return subprocess.run(line, cwd=folder, env=environment(), capture_output=True, text=True, check=False)


def own(record: TrialRecord) -> dict[str, Any]:
    return {name: getattr(record, name) for name in OWN}


def losses(record: TrialRecord) -> list[float]:
    assert record.heldout_loss_nats_per_token is not None
    heldout = [point.loss for point in record.heldout_losses]
    return [*(point.loss for point in record.losses), *heldout, record.heldout_loss_nats_per_token]


def weights(folder: Path, number: int) -> dict[str, Any]:
    return dict(load_file(trial_folder(folder, number) / "adapter" / "adapter_model.safetensors"))


def told(folder: Path) -> list[tuple[int, str, list[float] | None]]:
    import optuna

    storage = optuna.storages.RDBStorage(f"sqlite:///{folder / 'optuna.db'}")
    trials = optuna.load_study(study_name="single", storage=storage).trials
    storage.remove_session()
    return [(trial.number, trial.state.name, trial.values) for trial in trials]


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("size", ["1", "auto"])
def test_a_study_that_is_killed_thirty_times_ends_as_an_undisturbed_one(size: str, tmp_path: Path) -> None:
    command = (*CHAOS, f"executor.cohort_size={size}")
    calm, wild = tmp_path / "calm", tmp_path / "wild"
    for folder in (calm, wild):
        folder.mkdir()
        (folder / "rows.jsonl").write_text("\n".join(json.dumps(one) for one in ROWS))
    done = finish(calm, command)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    seed = int(os.environ.get("CHAOS_SEED", "0"))
    found = run_chaos(wild, command, seed)
    expected, records = read_records(study(calm)), read_records(study(wild))
    say = {"kills": len(found.kills), "workers": found.kills.count("worker"), "trials": len(records)}
    print(json.dumps(say | {"changed": found.changed}))
    assert found.changed == []
    assert [record.number for record in records] == list(range(40))
    assert len({(record.params["adapter.rank"], record.seed) for record in records}) == 40
    assert [own(record) for record in records] == [own(record) for record in expected]
    assert {record.status for record in records} == {Status.FINISHED}
    largest = 0.0
    for record, calm_one in zip(records, expected, strict=True):
        largest = max(largest, float(np.abs(np.subtract(losses(record), losses(calm_one))).max()))
        if size == "1":
            ours, theirs = weights(study(wild), record.number), weights(study(calm), record.number)
            assert ours.keys() == theirs.keys()
            assert all(np.array_equal(ours[name], theirs[name]) for name in ours)
    print(json.dumps({"largest difference in nats": largest}))
    assert largest == 0 if size == "1" else largest <= MOST_NATS
    assert told(study(wild)) == [
        (record.number, "COMPLETE", [record.heldout_loss_nats_per_token]) for record in records
    ]
    assert list(study(wild).glob("trials/*/checkpoint.pt")) == []
    assert list(study(wild).glob("trials/*/.*")) == []  # no half-written file of a killed process
    assert read_study(study(wild)).sentences == []
    assert len(found.kills) >= NUM_KILLS
