"""Trials at once on one base: tokens per second against the same trials alone, memory, and equality."""

import math
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from lightning.fabric.utilities import move_data_to_device
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

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
LOSS_BOUND_NATS: Final = 2e-4  # where PEFT answers a disturbance by less
SENSITIVITY_FACTOR: Final = 3.0
DISTURBANCE: Final = 1e-7  # of the initial A, relative, where the base is in 32 bits
NUM_DISTURBED: Final = 3  # PEFT's own trainings, each disturbed otherwise
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


def round_otherwise(base: nn.Module, feature: int) -> RemovableHandle:
    """From now on one number of the first token, before the first layer, is the next one in the base's precision."""

    def move(module: nn.Module, inputs: Any, states_BTH: Tensor) -> Tensor:
        moved_BTH = states_BTH.clone()
        one_B = states_BTH[:, 0, feature].detach()
        moved_BTH[:, 0, feature] = torch.nextafter(one_B, torch.full_like(one_B, torch.inf))
        return moved_BTH

    embedding: nn.Module = base.get_input_embeddings()  # type: ignore[operator]
    return embedding.register_forward_hook(move)


class Trained(NamedTuple):
    """What a training by hand through PEFT alone leaves."""

    losses: list[float]
    weights: dict[str, Tensor]


def train_by_hand(lab: Laboratory, config: TrialConfig, seed: int, disturbed: int | None = None) -> Trained:
    """PEFT alone on the rows of the trial; `disturbed` in one way of several where it is a number.

    A disturbance is as small as rounding: a relative 1e-7 of A in 32 bits; in half precision, one number rounded
    otherwise.
    """
    base = lab.base_for(config)
    rows, training = lab.tokens_for(config, base).train, config.training
    model: Any = attach_adapter(base.model, config.adapter, config.model, seed)
    with ExitStack() as stack:
        stack.callback(detach_adapter, model)
        if disturbed is not None and base.model.dtype is not torch.float32:
            stack.callback(round_otherwise(base.model, disturbed).remove)
        elif disturbed is not None:
            for a_RI, _ in read_lora_weights(model).values():
                a_RI.mul_(1 + DISTURBANCE * (disturbed + 1))
        named = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
        optimizer = build_optimizer(named, config.optimizer, {}, 1.0)
        windows, losses = Windows(rows, training.micro_batch_size, training.accumulation, seed), []
        model.train()
        for window in islice(windows.iterate_from(0), training.max_steps):
            loss = torch.zeros((), device=lab.device)
            for micro in window:
                batch = collate_rows([rows[index] for index in micro.indices], base.pad_id, 0)
                share = sum_target_losses(model, move_data_to_device(batch, lab.device)) / micro.num_window_targets
                share.backward()
                loss += share.detach()
            losses.append(float(loss))
            torch.nn.utils.clip_grad_norm_([weight for _, weight in named], float(training.gradient_clip or 0))
            optimizer.step()
            optimizer.zero_grad()
        pairs = {name: dict(zip("AB", pair, strict=True)) for name, pair in read_lora_weights(model).items()}
        weights = {
            f"base_model.model.{name}.lora_{part}.weight": weight.cpu()
            for name, pair in pairs.items()
            for part, weight in pair.items()
        }
    return Trained(losses, weights)


def measure_distance(left: dict[str, Tensor], right: dict[str, Tensor]) -> float:
    """The root mean square of the differences of all weights.

    The largest one says little: where a gradient is nearly 0, Adam makes whole steps of either sign of it.
    """
    squares = sum(float((left[name] - right[name]).double().square().sum()) for name in left)
    return math.sqrt(squares / sum(one.numel() for one in left.values()))


def furthest_losses(left: Sequence[float], right: Sequence[float]) -> float:
    return max(abs(one - other) for one, other in zip(left, right, strict=True))


def equality(lab: Laboratory, config: TrialConfig, lengths: Sequence[int], num_trials: int) -> Row:
    """Losses and weights of trials trained at once against each alone, and against what PEFT's own training makes of a
    disturbance as small as rounding."""
    seeds = list(range(num_trials))
    size = lab.cohort_size
    try:
        lab.cohort_size = num_trials
        together = trained(lab, config, lengths, seeds)
        lab.cohort_size = 1
        alone = [trained(lab, config, lengths, [seed])[0] for seed in seeds]
    finally:
        lab.cohort_size = size
    losses, weights, from_peft, loss_answers, answers = ([] for _ in range(5))
    for seed, packed, solo in zip(seeds, together, alone, strict=True):
        losses.append(furthest_losses(packed["losses"], solo["losses"]))
        weights.append(measure_distance(packed["weights"], solo["weights"]))
        peft = train_by_hand(lab, config, seed)
        from_peft.append(measure_distance(peft.weights, packed["weights"]))
        others = [train_by_hand(lab, config, seed, number) for number in range(NUM_DISTURBED)]
        loss_answers.append(max(furthest_losses(peft.losses, one.losses) for one in others))
        answers.append(max(measure_distance(peft.weights, one.weights) for one in others))
    bounds = [max(LOSS_BOUND_NATS, SENSITIVITY_FACTOR * most) for most in loss_answers]
    are_near = [one <= bound for one, bound in zip(losses, bounds, strict=True)]
    within = [one <= SENSITIVITY_FACTOR * most for one, most in zip(weights, answers, strict=True)]
    return {
        "largest_loss_difference_nats": max(losses),
        "loss_bound_nats": max(bounds),
        "weight_differences": weights,
        "weight_differences_from_peft": from_peft,
        "peft_sensitivities": answers,
        "equal": all(are_near) and all(within),
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
