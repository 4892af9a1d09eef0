"""How long, how much at a time, and at what rate a trial trains."""

from dataclasses import dataclass

from omegaconf import MISSING


@dataclass
class ScheduleConfig:
    shape: str = MISSING  # constant | linear | cosine
    warmup_steps: int | None = None  # null: warmup_ratio * steps
    warmup_ratio: float = MISSING
    end_factor: float = MISSING  # share of the rate that is left at the last step


@dataclass
class TrainingConfig:
    epochs: int = MISSING
    max_steps: int | None = None  # optimizer steps; null: epochs decide
    micro_batch_size: int = MISSING
    accumulation: int = MISSING  # micro-batches per optimizer step
    max_length: int = MISSING  # tokens; a longer example is cut
    gradient_clip: float | None = None  # largest gradient norm; null: no clipping
    gradient_checkpointing: bool = MISSING
    precision: str = MISSING  # auto: bfloat16 on a GPU that has it, else float32
    heldout_interval: int | None = None  # steps between held-out losses; null: at the end only
    log_interval: int = MISSING  # steps between points of the training loss
    strategy: str = "single"  # single | ddp: every device has the base | fsdp: every device has a part of it
    num_devices: int = 1  # that share each micro-batch's rows
