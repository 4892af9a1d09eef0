"""How long, how much at a time, and at what rate a trial trains."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from sweeplab.records.section import Section, key
from sweeplab.runtime.errors import refuse

_WHOLE = "use a whole number from 1"


class ScheduleConfig(Section):
    """What every shape has."""

    shape: str
    warmup_steps: int | None = key(
        "steps in which the rate rises from 0; null: warmup_ratio * steps",
        None,
        ge=0,
        unit="steps",
        remedy="use null for warmup_ratio",
    )
    warmup_ratio: float = key(
        "share of all steps in which the rate rises from 0",
        unless="schedule.warmup_steps",
        ge=0,
        le=1,
        remedy="try 0.05",
    )

    @property
    def factor_at_end(self) -> float:
        """Share of the full rate that is left at the last step."""
        return self.end_factor if isinstance(self, DecayingSchedule) else 1.0


class ConstantSchedule(ScheduleConfig):
    """The full rate after warmup."""

    shape: Literal["constant"] = "constant"


class DecayingSchedule(ScheduleConfig):
    """From the full rate to end_factor times it: in a line, or in half a cosine."""

    shape: Literal["linear", "cosine"]
    end_factor: float = key("share of the rate that is left at the last step", ge=0, le=1, remedy="try 0.05")


AnySchedule = Annotated[ConstantSchedule | DecayingSchedule, Field(discriminator="shape")]


class TrainingConfig(Section):
    """How a trial trains."""

    epochs: int = key(
        "passes over the training examples, where max_steps is null", unless="training.max_steps", ge=1, remedy=_WHOLE
    )
    max_steps: int | None = key(
        "optimizer steps; null: epochs decide", None, ge=1, unit="optimizer steps", remedy=_WHOLE
    )
    micro_batch_size: int = key("examples in one forward pass", ge=1, unit="rows", remedy=_WHOLE)
    accumulation: int = key(
        "micro-batches whose gradients are added up for one optimizer step", ge=1, unit="micro-batches", remedy=_WHOLE
    )
    max_length: int = key(
        "longest example; longer ones are cut off",
        unless="data.source=digits",
        ge=2,
        unit="tokens",
        remedy="use the longest example's tokens, or less",
    )
    gradient_clip: float | None = key(
        "largest norm of all gradients; null: no clipping", None, gt=0, remedy="use null for no clipping"
    )
    gradient_checkpointing: bool = key("compute activations again in the backward instead of keeping them")
    precision: Literal["auto", "float32", "bfloat16"] = key(  # float16 would need scaled losses
        "number format of the base; auto: bfloat16 on a GPU that has it, else float32"
    )
    heldout_interval: int | float | None = key(
        "steps between held-out losses, or a share of the trial's steps, such as 0.125; null: at the end only",
        None,
        gt=0,
        unit="optimizer steps",
        remedy="use a whole number from 1, or a share below 1",
    )
    keep: Literal["last", "best"] = key(
        "which weights are scored, saved and exported; last: those of the last step; best: those of the step with the "
        "lowest held-out loss"
    )
    patience: int | None = key(
        "held-out losses in a row that are no new minimum, after which the training ends; the schedule stays that of "
        "all steps; null: all steps are trained",
        None,
        ge=1,
        unit="held-out losses",
        remedy="use null for all steps",
    )
    log_interval: int = key("steps between points of the training loss", ge=1, unit="optimizer steps", remedy=_WHOLE)
    strategy: Literal["single", "ddp", "fsdp"] = key(
        "one model on several devices; ddp: each has the base, fsdp: each has a part of it", "single"
    )
    num_devices: int = key(
        "devices that share the rows of each micro-batch", 1, ge=1, remedy="use a whole number from 1"
    )

    @field_validator("heldout_interval")
    @classmethod
    def _check_interval(cls, interval: float | None) -> float | None:
        if isinstance(interval, float) and interval >= 1:
            rule = "must be a whole number of steps, or a share below 1"
            raise refuse("training.heldout_interval", rule, interval, f"try {max(1, int(interval))}, or 0.25")
        return interval
