"""Peaks by phase, beside published ones and the plan's."""

from dataclasses import asdict
from functools import partial
from typing import Final, NamedTuple

from experiments.benchmarks.gpu.cases import Case, Row
from experiments.benchmarks.gpu.trials import (
    ALL,
    LLAMA_7B,
    LLAMA_13B,
    PHI,
    Laboratory,
    config_of,
    measured_trial,
    planned,
)

LENGTH: Final = 1304
ROWS_PER_TRIAL: Final = 8
PLANNED_MOMENTS: Final = {"load": "load", "evaluate": "evaluation"}  # a record's phase -> the plan's moment
INSIGHTS: Final = "Raschka 2023, Insights"
LITGPT: Final = "LitGPT resource tables 2023-10"


class Setting(NamedTuple):
    """What one trial is, and what somebody else needed for the same."""

    name: str
    shape: tuple[str, ...]
    overrides: tuple[str, ...]
    published_gigabytes: float | None = None
    source: str | None = None
    length: int = LENGTH
    seconds: float = 10  # estimated


LOADED: Final = 25  # estimated seconds of a trial whose base is to be loaded first
LARGE: Final = 30  # of one whose adapter has 0.65 billion parameters
TRAINED: Final = ("adapter.dropout=0.05", "training.accumulation=2")  # 128 micro-batches a step need what two need
SGD: Final = "optimizer=sgd"
CHECKPOINTED: Final = "training.gradient_checkpointing=true"
PAGED: Final = "optimizer=paged_adamw"
R256: Final = ("adapter.rank=256", *ALL)
NF4: Final = "quantization=nf4"
DQ: Final = "quantization=nf4_dq"
BF16: Final = "quantization=none"
# one after another on one base, so that each is loaded once
SETTINGS: Final = (
    Setting("7B nf4_dq", LLAMA_7B, (DQ,), 13.84, LITGPT, seconds=LOADED),
    Setting("7B nf4_dq, checkpointing", LLAMA_7B, (DQ, CHECKPOINTED), 13.84, LITGPT),
    Setting("7B nf4", LLAMA_7B, (NF4,), 14.18, INSIGHTS, seconds=LOADED),
    Setting("7B nf4, sgd", LLAMA_7B, (NF4, SGD), 14.15, INSIGHTS),
    Setting("7B nf4, six toggles", LLAMA_7B, (NF4, *ALL), 16.42, INSIGHTS),
    Setting("7B nf4, six toggles, rank 16", LLAMA_7B, (NF4, "adapter.rank=16", *ALL), 16.47, INSIGHTS),
    Setting("7B nf4, six toggles, rank 256", LLAMA_7B, (NF4, *R256), 19.24, INSIGHTS, seconds=LARGE),
    Setting("7B nf4, six toggles, rank 256, sgd", LLAMA_7B, (NF4, SGD, *R256), 14.46, INSIGHTS, seconds=LARGE),
    Setting("7B nf4, six toggles, rank 256, 2048 tokens", LLAMA_7B, (NF4, *R256), 26.96, INSIGHTS, 2048, LARGE),
    Setting("7B nf4, six toggles, rank 256, paged AdamW", LLAMA_7B, (NF4, PAGED, *R256), seconds=LARGE),
    Setting("7B nf4, six toggles, rank 256, checkpointing", LLAMA_7B, (NF4, CHECKPOINTED, *R256), seconds=LARGE),
    Setting("7B bf16", LLAMA_7B, (BF16,), 21.33, INSIGHTS, seconds=LOADED),
    Setting("7B bf16, micro-batch 2", LLAMA_7B, (BF16, "training.micro_batch_size=2"), 29.07, LITGPT),
    Setting("7B fp4", LLAMA_7B, ("quantization=fp4",), 14.19, INSIGHTS, seconds=LOADED),
    Setting("7B int8", LLAMA_7B, ("quantization=int8",), seconds=LOADED),
    Setting("13B nf4_dq", LLAMA_13B, (DQ,), 22.55, LITGPT, seconds=2 * LOADED),
    Setting("13B nf4", LLAMA_13B, (NF4,), 23.14, LITGPT, seconds=2 * LOADED),
    Setting("13B bf16", LLAMA_13B, (BF16,), 38.12, LITGPT, seconds=2 * LOADED),
    Setting("phi-1.5 nf4_dq", PHI, (DQ,), 3.72, LITGPT),
    Setting("phi-1.5 nf4", PHI, (NF4,), 3.78, LITGPT),
    Setting("phi-1.5 bf16", PHI, (BF16,), 4.82, LITGPT),
    Setting("phi-1.5 bf16, micro-batch 4", PHI, (BF16, "training.micro_batch_size=4"), 10.68, LITGPT),
)


def measure(setting: Setting, lab: Laboratory) -> Row:
    """Peaks of the allocator by phase, and the plan's for the same moments."""
    config = config_of(setting.shape, f"training.max_length={setting.length}", *TRAINED, *setting.overrides)
    record = measured_trial(lab, config, [setting.length] * ROWS_PER_TRIAL)
    plan = planned(config, setting.length, lab.device.type)
    phases = {name: asdict(phase) for name, phase in record.phases.items()}
    moments = {phase: plan.moments()[moment].total_bytes for phase, moment in PLANNED_MOMENTS.items()}
    return {
        "phases": phases,
        "planned_bytes": moments | {"train": plan.training.total_bytes},
        "planned_moment": plan.training_moment,
        "planned_parts": asdict(plan.training),
        "train_peak_bytes": phases["train"]["peak_allocated_bytes"] or phases["train"]["peak_resident_bytes"],
        "trainable_params": record.num_trainable_params,
        "base_bits_per_param": record.base_bits_per_param,
    }


def cases(lab: Laboratory, settings: tuple[Setting, ...] = SETTINGS) -> list[Case]:
    return [
        Case(
            one.name,
            one.seconds,
            {
                "settings": list(one.overrides),
                "length": one.length,
                "published_gigabytes": one.published_gigabytes,
                "source": one.source,
            },
            partial(measure, one, lab),
        )
        for one in settings
    ]
