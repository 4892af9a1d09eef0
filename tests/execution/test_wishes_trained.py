"""A real study on the embedded base, from which a press takes one trial away: the others do not see it."""

import sys
import time
from pathlib import Path
from typing import Final

import numpy as np
import pytest
from safetensors.numpy import load_file

from sweeplab.cli.live_view import LiveView
from sweeplab.records.record import Status, TrialRecord
from sweeplab.records.store import read_records, trial_folder
from sweeplab.tracking.status_file import read_status
from tests.study_runs import LOSS, MOST_SECONDS, SHORT, run_cli, running, wait_until

NUM_STEPS: Final = 80
STUDY: Final = (
    *SHORT,
    LOSS,
    "evaluation=none",
    "tracking=none",
    "executor.num_workers=1",
    "executor.cohort_size=3",
    "study.seeds=[0]",
    "space.adapter.rank.choices=[2,4,8]",
)
LENGTH: Final = f"training.max_steps={NUM_STEPS}"
MOST_SECONDS_LATE: Final = 2.0


# two studies with trained trials; quick ones: the bits in trial/test_stopping.py, the driver in test_wishes.py
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_press_ends_one_trial_of_three_and_the_others_are_equal_to_the_last_bit(tmp_path: Path) -> None:
    calm, pressed = tmp_path / "calm", tmp_path / "pressed"
    for folder in (calm, pressed):
        folder.mkdir()
    done = run_cli(calm, *STUDY, LENGTH)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    study = pressed / "runs" / "single"

    def read_step() -> int:
        now = read_status(study) if study.exists() else None
        return max((round(one.fraction * NUM_STEPS) for one in now.running if one.number == 1), default=0) if now else 0

    with running([sys.executable, "-m", "sweeplab", *STUDY, LENGTH], pressed) as process:
        wait_until(lambda: read_step() > 0)
        view, before, began = LiveView(study), read_step(), time.monotonic()
        assert view.ask({"ask": "stop_trial", "trial": 1}) == "Trial 1 ends now, after its present step."
        wait_until((trial_folder(study, 1) / "record.json").exists)
        took = time.monotonic() - began
        _, err = process.communicate(timeout=MOST_SECONDS)
    assert (process.returncode, err) == (0, "")
    expected, records = read_records(calm / "runs" / "single"), read_records(study)
    stopped = records[1]
    assert stopped.status is Status.STOPPED
    assert stopped.step is not None
    rate = stopped.step / stopped.phases["train"].seconds  # on this machine, as busy as it is
    print(f"pressed at step {before}, ended at {stopped.step}, {rate:.1f} steps/s, record after {took:.2f} s")
    # what is shown of a step is up to a second old
    assert stopped.step - before <= 1 + rate * (MOST_SECONDS_LATE + 1)
    assert len(stopped.losses) == stopped.step < NUM_STEPS
    for number in (0, 2):
        assert records[number].status is Status.FINISHED
        assert curves(records[number]) == curves(expected[number])
        ours, theirs = (weights(one, number) for one in (study, calm / "runs" / "single"))
        assert ours.keys() == theirs.keys()
        assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


def curves(record: TrialRecord) -> tuple[list[float], float | None]:
    return [point.loss for point in record.losses], record.heldout_loss_nats_per_token


def weights(study: Path, number: int) -> dict[str, np.ndarray]:
    return dict(load_file(trial_folder(study, number) / "adapter" / "adapter_model.safetensors"))
