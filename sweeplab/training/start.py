"""A trial before its first step: its windows, its optimizer and its schedule."""

from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from sweeplab.config.training import TrainingConfig
from sweeplab.config.trial_spec import TrialSpec
from sweeplab.data.batches import Tokenized, Windows
from sweeplab.models.base import Base
from sweeplab.multilora.slots import Slot
from sweeplab.records.record import TrialRecord
from sweeplab.training.bitsandbytes_states import reuse_paged_memory
from sweeplab.training.optimizers import build_optimizer
from sweeplab.training.running_trial import Observe, RunningTrial
from sweeplab.training.schedules import compute_rate_factor


def start_trial(
    spec: TrialSpec,
    record: TrialRecord,
    base: Base,
    data: Tokenized,
    model: nn.Module,
    slot: Slot | None,
    observe: Observe,
    most_seconds: float | None = None,
) -> RunningTrial:
    """A trial before its first step, with a new optimizer and schedule. Raises `ConfigError` as `build_optimizer`."""
    config, training = spec.config, spec.config.training
    windows = Windows(data.train, training.micro_batch_size, training.accumulation, spec.seed)
    num_steps = count_steps(training, windows.num_per_epoch)
    trained = ((name, weight) for name, weight in model.named_parameters() if weight.requires_grad)
    named = list(slot.parameters.items() if slot else trained)
    optimizer = build_optimizer(named, config.optimizer, config.adapter.lr_pattern, config.adapter.factor_of_b())
    reuse_paged_memory(optimizer)
    if hasattr(optimizer, "train"):
        optimizer.train()  # a schedule-free optimizer trains other weights than it evaluates
    scheduler = LambdaLR(optimizer, lambda step: compute_rate_factor(config.schedule, step, num_steps))
    weights = [weight for _, weight in named]
    return RunningTrial(
        spec, record, base, data, model, slot, windows, weights, optimizer, scheduler, num_steps, observe, most_seconds
    )


def count_steps(training: TrainingConfig, num_windows: int) -> int:
    """Optimizer steps of the training: `training.max_steps`, or all windows of all epochs."""
    return training.max_steps if training.max_steps is not None else training.epochs * num_windows
