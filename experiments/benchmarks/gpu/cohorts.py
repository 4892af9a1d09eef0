"""Trials at once on one base: tokens per second against the same trials alone, memory, and equality."""

import tempfile
from collections.abc import Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

import torch
from lightning.fabric.utilities import move_data_to_device
from safetensors.torch import load_file
from torch import Tensor

from experiments.benchmarks.gpu.cases import Case, Row
from experiments.benchmarks.gpu.trials import LLAMA_7B, Laboratory, begun, config_of, measured_trials
from sweeplab.adapters.attach import attach_adapter, detach_adapter
from sweeplab.config.trial import TrialConfig
from sweeplab.data.batches import Windows, collate_rows
from sweeplab.multilora.slots import read_lora_weights
from sweeplab.records.record import Phase, TrialRecord
from sweeplab.training.module import sum_target_losses
from sweeplab.training.optimizers import build_optimizer
from sweeplab.trial.measurement import measure_phase
from sweeplab.trial.profile import prepare_longest_pass, time_fastest

LENGTHS: Final = (128, 512, 2048)
SIZES: Final = (1, 2, 4, 8)
GOALS: Final = {128: 4.0, 512: 2.0, 2048: 1.05}  # times the trials alone, of eight at once
LOSS_BOUND_NATS: Final = 2e-4
SENSITIVITY_FACTOR: Final = 3.0
DISTURBANCE: Final = 1e-7  # of the initial A, relative
NUM_STEPS: Final = 4
EQUAL: Final = ("optimizer=adamw", f"training.max_steps={NUM_STEPS}", "training.gradient_clip=1.0")
EQUALITY_LENGTHS: Final = (128, 96, 160, 64, 112, 144, 80, 104)


def speeds(lab: Laboratory, config: TrialConfig, length: int) -> Row:
    """Forward and backward of K trials at once, by K; a size that does not fit ends the row with its reason."""
    runs = begun(lab, config, [length], list(range(max(SIZES))))
    tokens_per_second: dict[str, float] = {}
    peaks: dict[str, int | None] = {}
    stopped = None
    for size in SIZES:
        phases = dict[str, Phase]()
        try:
            with measure_phase(phases, "work", lab.device), prepare_longest_pass(runs[:size], lab) as work:
                tokens_per_second[str(size)] = size * length / time_fastest(work, lab.device)
        except torch.OutOfMemoryError as error:
            stopped = f"{size} at once: {str(error).splitlines()[0]}"
            break
        peaks[str(size)] = phases["work"].peak_allocated_bytes
    ratios = {size: speed / tokens_per_second["1"] for size, speed in tokens_per_second.items()}
    return {"tokens_per_second": tokens_per_second, "ratios": ratios, "peak_bytes": peaks, "stopped": stopped}


def trained(lab: Laboratory, config: TrialConfig, lengths: Sequence[int], seeds: list[int]) -> list[dict[str, Any]]:
    """Losses and weights after training together, by trial."""
    with tempfile.TemporaryDirectory() as folder:
        records = measured_trials(lab, config, list(lengths), seeds, Path(folder))
        return [told(record, Path(folder)) for record in records]


def told(record: TrialRecord, folder: Path) -> dict[str, Any]:
    (path,) = (folder / str(record.number) / "adapter").glob("adapter_model.safetensors")
    return {"losses": [point.loss for point in record.losses], "weights": load_file(path)}


def peft_weights(lab: Laboratory, config: TrialConfig, seed: int, disturbance: float) -> dict[str, Tensor]:
    """Weights of a training by hand through PEFT alone on the rows of the trial, from A times 1 + `disturbance`."""
    base = lab.base_for(config)
    rows, training = lab.tokens_for(config, base).train, config.training
    model: Any = attach_adapter(base.model, config.adapter, config.model, seed)
    for a_RI, _ in read_lora_weights(model).values():
        a_RI.mul_(1 + disturbance)
    named = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    optimizer = build_optimizer(named, config.optimizer, {}, 1.0)
    windows = Windows(rows, training.micro_batch_size, training.accumulation, seed)
    model.train()
    for window in islice(windows.iterate_from(0), training.max_steps):
        for micro in window:
            batch = collate_rows([rows[index] for index in micro.indices], base.pad_id, 0)
            moved = move_data_to_device(batch, lab.device)
            (sum_target_losses(model, moved) / micro.num_window_targets).backward()
        torch.nn.utils.clip_grad_norm_([weight for _, weight in named], float(training.gradient_clip or 0))
        optimizer.step()
        optimizer.zero_grad()
    pairs = {name: dict(zip("AB", pair, strict=True)) for name, pair in read_lora_weights(model).items()}
    detach_adapter(model)
    return {
        f"base_model.model.{name}.lora_{part}.weight": weight.cpu()
        for name, pair in pairs.items()
        for part, weight in pair.items()
    }


def furthest(left: dict[str, Tensor], right: dict[str, Tensor]) -> float:
    """The largest difference of any weight."""
    return max(float((left[name] - right[name]).abs().max()) for name in left)


def equality(lab: Laboratory, config: TrialConfig, lengths: Sequence[int], num_trials: int) -> Row:
    """Losses and weights of trials trained at once against each alone, and against what PEFT makes of 1e-7."""
    seeds = list(range(num_trials))
    size = lab.cohort_size
    try:
        lab.cohort_size = num_trials
        together = trained(lab, config, lengths, seeds)
        lab.cohort_size = 1
        alone = [trained(lab, config, lengths, [seed])[0] for seed in seeds]
    finally:
        lab.cohort_size = size
    loss = max(
        abs(one - other)
        for packed, solo in zip(together, alone, strict=True)
        for one, other in zip(packed["losses"], solo["losses"], strict=True)
    )
    weights = [furthest(one["weights"], other["weights"]) for one, other in zip(together, alone, strict=True)]
    undisturbed = [peft_weights(lab, config, seed, 0.0) for seed in seeds]
    sensitivities = [
        furthest(peft, peft_weights(lab, config, seed, DISTURBANCE))
        for seed, peft in zip(seeds, undisturbed, strict=True)
    ]
    from_peft = [furthest(peft, one["weights"]) for peft, one in zip(undisturbed, together, strict=True)]
    within = [one <= SENSITIVITY_FACTOR * most for one, most in zip(weights, sensitivities, strict=True)]
    return {
        "largest_loss_difference_nats": loss,
        "weight_differences": weights,
        "weight_differences_from_peft": from_peft,
        "peft_sensitivities": sensitivities,
        "equal": loss <= LOSS_BOUND_NATS and all(within),
    }


def cases(
    lab: Laboratory, shape: Sequence[str] = LLAMA_7B, lengths: Sequence[int] = LENGTHS, num_equal: int = 4
) -> list[Case]:
    made: list[Case] = []
    for place, length in enumerate(lengths):
        for checkpointing in (False, True):
            toggle = f"training.gradient_checkpointing={str(checkpointing).lower()}"
            config = config_of(shape, "quantization=nf4_dq", f"training.max_length={length}", toggle)
            name = f"1 x {length}{', checkpointing' if checkpointing else ''}"
            seconds = (45 if not made else 20) + length / 50
            facts = {"length": length, "checkpointing": checkpointing, "goal_of_8": GOALS.get(length)}
            made.append(Case(name, seconds, facts, partial(speeds, lab, config, length)))
        if place == 0:
            equal = config_of(shape, "quantization=nf4_dq", "training.max_length=256", *EQUAL)
            made.append(
                Case(
                    f"equality of {num_equal} at once",
                    100,
                    {},
                    partial(equality, lab, equal, EQUALITY_LENGTHS, num_equal),
                )
            )
    return made
