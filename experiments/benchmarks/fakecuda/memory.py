"""Peaks of whole trials by the fake allocator, beside what the plan says."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from experiments.benchmarks.gpu.trials import ALL, LLAMA_7B, Laboratory, planned
from sweeplab.config.trial import TrialConfig
from sweeplab.planning.phases import MemoryForecast
from sweeplab.records.record import Status
from tests.fakecuda.device import on_fake_cuda
from tests.fakecuda.trials import DQ, LAYERS, compose, run_trials

FEW: Final = (2, 3)  # layers of the models that run; what one more adds is what each of the others adds
LLAMA_8B: Final = ("model=llama3_8b", "model.random_init=true")
QWEN_8B: Final = ("model=qwen", "model.random_init=true")
CHECKPOINTED: Final = "training.gradient_checkpointing=true"
PHASES: Final = {"load": "load", "train": "training", "evaluate": "evaluation"}  # a record's -> the plan's
PUBLISHED: Final = 8.0  # GB, Unsloth's figure for an 8B with rank 32


class Case(NamedTuple):
    """One trial, or several at once, all alike."""

    name: str
    shape: tuple[str, ...]
    lengths: tuple[int, ...]  # of a micro-batch's rows
    overrides: tuple[str, ...]
    num_layers: int = 32
    num_trials: int = 1
    has_bfloat16: bool = True
    few: tuple[int, int] = FEW  # more where with few layers an evaluation is highest before it saves the adapter
    goal: float | None = None  # GB, in training


CASES: Final = (
    Case("7B nf4_dq, r 8, query and value, 1 x 1,304", LLAMA_7B, (1304,), (DQ,), goal=8.0),
    Case("same, checkpointing", LLAMA_7B, (1304,), (DQ, CHECKPOINTED), goal=4.6),
    Case("7B nf4, r 8, six toggles, dropout, 1 x 1,304", LLAMA_7B, (1304,),
         ("quantization=nf4", "adapter.dropout=0.05", *ALL)),
    Case("7B nf4, r 256, six toggles, 1 x 1,304", LLAMA_7B, (1304,), ("quantization=nf4", "adapter.rank=256", *ALL)),
    Case("7B bf16, r 8, query and value, 1 x 1,304", LLAMA_7B, (1304,), ("quantization=none",)),
    Case("7B nf4_dq, r 16, layers, 16 x 512, padded", LLAMA_7B, (512, *[300] * 15),
         (DQ, "adapter.rank=16", *LAYERS)),
    Case("7B nf4_dq, r 16, layers, 4 x 1,024, padded, checkpointing", LLAMA_7B, (1024, 700, 700, 300),
         (DQ, "adapter.rank=16", CHECKPOINTED, *LAYERS)),
    Case("7B nf4_dq, r 64, layers, 1 x 2,048", LLAMA_7B, (2048,), (DQ, "adapter.rank=64", *LAYERS), few=(14, 15)),
    Case("7B nf4_dq, r 8, query and value, 1 x 512, a T4 in 32 bits", LLAMA_7B, (512,), (DQ,), has_bfloat16=False),
    Case("7B nf4_dq, r 8, query and value, 1 x 128", LLAMA_7B, (128,), (DQ,)),
    Case("same, eight at once", LLAMA_7B, (128,), (DQ,), num_trials=8),
    Case("7B nf4_dq, r 16, layers, 1 x 512, four at once", LLAMA_7B, (512,), (DQ, "adapter.rank=16", *LAYERS),
         num_trials=4),
    Case("8B nf4_dq, r 32, layers, 1 x 2,972, checkpointing, 8-bit AdamW", LLAMA_8B, (2972,),
         (DQ, "adapter.rank=32", CHECKPOINTED, "optimizer=adamw_8bit", *LAYERS), goal=PUBLISHED),
    Case("8B nf4_dq, r 32, layers, 1 x 2,972, checkpointing, AdamW in 32 bits", LLAMA_8B, (2972,),
         (DQ, "adapter.rank=32", CHECKPOINTED, *LAYERS)),
    Case("8B nf4_dq, r 16, layers, 2 x 1,024", LLAMA_8B, (1024, 1024), (DQ, "adapter.rank=16", *LAYERS)),
    Case("Qwen3-8B nf4_dq, r 64, layers, 1 x 1,024", QWEN_8B, (1024,), (DQ, "adapter.rank=64", *LAYERS), 36,
         few=(10, 11)),
)  # fmt: skip


def compose_case(case: Case, num_layers: int) -> TrialConfig:
    """Rows of several lengths come twice, so that the longest stand beside the optimizer's states, too."""
    shape = (*case.shape, f"model.architecture.num_hidden_layers={num_layers}")
    steps = 2 if len(set(case.lengths)) == 1 else 4
    return compose(shape, case.lengths, f"training.max_steps={steps}", *case.overrides)


def count_peaks(case: Case, num_layers: int) -> dict[str, int]:
    """Bytes by phase. Raises `RuntimeError` where a trial does not finish."""
    with tempfile.TemporaryDirectory() as folder, on_fake_cuda(1e15, major=9 if case.has_bfloat16 else 7):
        lab = Laboratory.on("cuda", cohort_size=case.num_trials)
        lab.lengths = [*case.lengths] * 2
        records = run_trials(lab, compose_case(case, num_layers), Path(folder), case.num_trials)
        lab.forget_base()
    for record in records:
        if record.status is not Status.FINISHED:
            raise RuntimeError(f"{case.name}: {record.status} in {record.phase}: {record.reason}")
    return {phase: max(int(one.phases[phase].peak_allocated_bytes or 0) for one in records) for phase in PHASES}


def plan_peaks(case: Case) -> dict[str, int]:
    """Of trials at once what is the base's once, and all else for each; in evaluation adapters and states."""
    config = compose_case(case, case.num_layers)
    if not case.has_bfloat16:
        config = config.replaced(training=config.training.replaced(precision="float32"))
    plan: MemoryForecast = planned(config, max(case.lengths), "cuda")
    total = {phase: getattr(plan, moment).total_bytes for phase, moment in PHASES.items()}
    train, evaluate, more = plan.training, plan.evaluation, case.num_trials - 1
    total["train"] += more * (train.total_bytes - train.base_bytes - train.dequantized_bytes)
    total["evaluate"] += more * (evaluate.adapter_bytes + evaluate.optimizer_bytes)
    return total


def measure_cases(cases: tuple[Case, ...] = CASES) -> Iterator[dict[str, Any]]:
    """A row for each case: bytes by phase, counted with few layers and extended to all, and planned."""
    for case in cases:
        few, more = (count_peaks(case, number) for number in case.few)
        counted = {name: few[name] + (case.num_layers - case.few[0]) * (more[name] - few[name]) for name in PHASES}
        yield {"case": case.name, "goal": case.goal, "counted": counted, "planned": plan_peaks(case)}
