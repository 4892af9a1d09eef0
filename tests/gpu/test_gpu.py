"""What only a GPU can show: its kernels, its allocator, its pages. Not measured here: `experiments/benchmarks/gpu`."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest
import torch
from torch import Tensor, nn

import sweeplab.training.module as module_code
from experiments.benchmarks.gpu.cases import free_memory
from experiments.benchmarks.gpu.cohorts import equality
from experiments.benchmarks.gpu.trials import Laboratory
from sweeplab.config.model import EmbeddedModel
from sweeplab.config.trial_spec import TrialSpec
from sweeplab.models.base import load_base
from sweeplab.models.quantization.layers import dequantize_layers
from sweeplab.records.record import Status, TrialRecord
from sweeplab.trial.lifecycle import run_cohort
from sweeplab.trial.resources import Resources
from tests.configs import quantize
from tests.trials import Compose, SpecFactory, run_alone

pytestmark = pytest.mark.gpu

EMBEDDED: Final = EmbeddedModel(name="tiny_base")
ROOT: Final = Path(__file__).parents[2]
LEAK_BYTES: Final = 1 << 20


@pytest.mark.parametrize(
    ("scheme", "double", "tolerance"),
    [("nf4", False, 1e-4), ("nf4", True, 1e-4), ("fp4", False, 1e-4), ("int8", False, 0.1)],  # of int8 inputs too
)
def test_a_quantized_base_computes_from_its_dequantized_weights(
    device: torch.device, scheme: str, double: bool, tolerance: float
) -> None:
    base = load_base(EMBEDDED, quantize(scheme, double), torch.float32, device)
    ids = torch.randint(2, 60, (2, 24), device=device)
    with torch.no_grad():
        quantized = base.model(input_ids=ids).logits
        dequantize_layers(base.model)
        plain = base.model(input_ids=ids).logits
    assert float((quantized - plain).norm() / plain.norm()) < tolerance


def steps_of(kind: Any, start: nn.Parameter) -> Tensor:
    weight = nn.Parameter(start.detach().clone())
    optimizer = kind([weight], lr=1e-2)
    generator = torch.Generator(weight.device).manual_seed(1)
    for _ in range(5):
        weight.grad = torch.randn(weight.shape, generator=generator, device=weight.device)
        optimizer.step()
    torch.cuda.synchronize()
    return weight.detach()


@pytest.mark.parametrize("bits", ["32bit", "8bit"])
def test_paged_states_give_the_same_weights(device: torch.device, bits: str) -> None:
    import bitsandbytes

    start = nn.Parameter(torch.randn(512, 256, device=device))
    paged = steps_of(getattr(bitsandbytes.optim, f"PagedAdamW{bits}"), start)
    plain = steps_of(getattr(bitsandbytes.optim, f"AdamW{bits}"), start)
    assert not torch.equal(paged, start)
    assert torch.equal(paged, plain)


def records_of(specs: Sequence[TrialSpec], resources: Resources, said: list[str]) -> list[TrialRecord]:
    return list(run_cohort(specs, resources, lambda *_: None, said.append, list))


def test_out_of_memory_halves_the_cohort_and_all_trials_finish(
    gpu_resources: Resources, make_spec: SpecFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than two trials at once ask the allocator for twice what the GPU has."""
    real = module_code.compute_window_shares
    too_much = 2 * torch.cuda.get_device_properties(gpu_resources.device).total_memory

    def hungry(model: nn.Module, batch: Any) -> Tensor:
        if len(batch.shares) > 2:
            torch.empty(too_much, dtype=torch.uint8, device=gpu_resources.device)
        return real(model, batch)

    monkeypatch.setattr(module_code, "compute_window_shares", hungry)
    gpu_resources.cohort_size = 4
    said: list[str] = []
    records = records_of([make_spec(number, seed=number) for number in range(4)], gpu_resources, said)
    assert [record.status for record in records] == [Status.FINISHED] * 4
    assert len(said) == 1
    assert said[0].startswith("4 trials at once: OutOfMemoryError")
    assert said[0].endswith("going on with 2 at a time")


def test_twenty_trials_leave_no_memory_behind(gpu_resources: Resources, make_spec: SpecFactory) -> None:
    standing = []
    for number in range(20):
        spec = make_spec(number, f"adapter.rank={(4, 8, 64)[number % 3]}", "training.max_steps=2", seed=number)
        assert run_alone(spec, gpu_resources).status is Status.FINISHED
        free_memory()
        standing.append(torch.cuda.memory_allocated(gpu_resources.device))
    assert standing[-1] - standing[1] < LEAK_BYTES, standing  # the first one makes what libraries keep


@pytest.mark.parametrize("quantization", ["none", "nf4_dq"])
def test_trials_at_once_equal_trials_alone_within_bfloat16(
    device: torch.device, compose_trial: Compose, quantization: str
) -> None:
    lab = Laboratory.on("cuda", cohort_size=1)
    config = compose_trial(
        f"quantization={quantization}",
        "adapter.rank=8",
        "training.max_steps=4",
        "training.micro_batch_size=1",
        "training.log_interval=1",
        "training.precision=bfloat16",
        "schedule=constant",
        "optimizer.lr=3e-4",
        "evaluation=none",
    )
    lab.lengths = [48, 32, 40, 24]
    found = equality(lab, config, lab.lengths, 4)
    assert found["equal"], found


@pytest.mark.timeout(600)
def test_a_study_in_nf4_runs_from_its_command_to_its_report(device: torch.device, tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "sweeplab", "quantization=nf4", "adapter.rank=8", "training.max_steps=20",
        "executor.device=cuda", "study.name=on_gpu", "study.seeds=[0,1]", "evaluation.limit=20", "tracking=none",
        f"study.runs_dir={tmp_path / 'runs'}", f"study.reports_dir={tmp_path / 'reports'}",
    ]  # fmt: skip
    offline = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=ROOT, env=offline, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    records = json.loads((tmp_path / "reports" / "on_gpu" / "records.json").read_text())["records"]
    assert [record["status"] for record in records] == ["finished", "finished"]
    for record in records:
        assert record["provenance"]["device"]["type"] == "cuda"
        assert record["phases"]["train"]["peak_allocated_bytes"] > 0
        assert record["phases"]["train"]["peak_reserved_bytes"] >= record["phases"]["train"]["peak_allocated_bytes"]
        assert record["losses"][-1]["loss"] < record["losses"][0]["loss"]
        assert record["scores"]
    assert (tmp_path / "reports" / "on_gpu" / "report.html").exists()
