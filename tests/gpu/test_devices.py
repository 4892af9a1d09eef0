"""One model on two GPUs against one. Not measured here: it needs a machine with two."""

from pathlib import Path

import pytest
import torch

from sweeplab.records.record import Status, TrialRecord
from sweeplab.records.store import read_records
from tests.study_runs import LOSS, run_cli

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def _two_gpus(device: torch.device) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("one GPU is not two")


def only_record(folder: Path, strategy: str, num_devices: int) -> TrialRecord:
    done = run_cli(
        folder, LOSS, "evaluation=none", "tracking=none", "quantization=nf4_dq", "adapter.dropout=0.1",
        "training.precision=float32", "training.max_steps=8", "training.log_interval=1", "executor.device=cuda",
        f"training.strategy={strategy}", f"training.num_devices={num_devices}", f"study.name={strategy}",
        "executor.num_workers=1", "training.gradient_checkpointing=true",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = read_records(folder / "runs" / strategy)
    return record


@pytest.mark.timeout(600)
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_gpus_give_the_losses_of_one(tmp_path: Path, strategy: str) -> None:
    single, divided = only_record(tmp_path, "single", 1), only_record(tmp_path, strategy, 2)
    assert divided.status is Status.FINISHED
    losses = [point.loss for point in single.losses]
    assert [point.loss for point in divided.losses] == pytest.approx(losses, rel=0, abs=1e-4)
    assert divided.heldout_loss_nats_per_token == pytest.approx(single.heldout_loss_nats_per_token, rel=0, abs=1e-4)
    peaks = [record.phases["train"].peak_allocated_bytes for record in (divided, single)]
    assert None not in peaks
    assert peaks[0] < peaks[1]  # type: ignore[operator]
