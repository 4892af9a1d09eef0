"""The state of a trial while it runs, from the attached adapter to the record."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from sweeplab.config.training import TrainingConfig
from sweeplab.config.trial_spec import TrialSpec
from sweeplab.data.batches import Tokenized, Windows
from sweeplab.evaluation.heldout import HeldoutLosses
from sweeplab.models.base import Base
from sweeplab.models.row_limits import find_column_multiple
from sweeplab.multilora.slots import Slot
from sweeplab.records.record import HeldoutPoint, RungScores, Score, Status, TrainPoint, TrialRecord, score_values
from sweeplab.training.adafactor import sizes_on_device
from sweeplab.training.bitsandbytes_states import give_paged_memory_back, without_waiting
from sweeplab.training.kept import KeptWeights, choose_kept, find_least

# (trial number, optimizer step, metrics by name) -> None, or the reason why the pruner stops the trial
Observe = Callable[[int, int, dict[str, float]], str | None]


class EarlyEnd(NamedTuple):
    """How and why a trial ended before its last step."""

    status: Status
    reason: str


class StepLoss(NamedTuple):
    """The mean loss of an accumulation window in nats per target token, and its tokens, padding not counted."""

    loss: float
    num_tokens: int


class OptimizerBytes(NamedTuple):
    """Memory of a trial's optimizer: its states after the first step, and what a step needs besides for a moment."""

    states: int
    step: int

    def scaled(self, factor: float) -> "OptimizerBytes":
        """Of an optimizer of the same kind with so many times the weights."""
        return OptimizerBytes(round(factor * self.states), round(factor * self.step))


_UNMEASURED: Final = OptimizerBytes(0, 0)
_ROUNDING: Final = 1e-9


def _reaches_rung(step: int, interval: float, num_steps: int) -> bool:
    """Whether a held-out loss is due after `step` of `num_steps` steps: every `interval` steps, or each time that
    another such share of the steps is done where it is below 1."""
    if interval >= 1:
        return step % interval == 0
    done, before = (math.floor(count / num_steps / interval + _ROUNDING) for count in (step, step - 1))
    return done > before


@dataclass(eq=False)
class RunningTrial:
    """A trial while it trains. `step` counts the trial's own optimizer steps; others of the cohort may be further."""

    spec: TrialSpec
    record: TrialRecord
    base: Base
    data: Tokenized
    model: nn.Module  # the base itself where the adapter is in a slot, else PEFT's model around the base
    slot: Slot | None
    windows: Windows
    parameters: list[nn.Parameter]
    optimizer: Optimizer
    scheduler: LambdaLR
    num_steps: int
    observe: Observe
    most_seconds: float | None = None  # of training; None: no limit
    step: int = 0
    num_tokens: int = 0  # trained on so far, padding not counted
    seconds: float = 0.0  # of training so far, in which the rest of the cohort trained, too
    losses: list[TrainPoint] = field(default_factory=list)
    heldout_losses: list[HeldoutPoint] = field(default_factory=list)
    rung_scores: list[RungScores] = field(default_factory=list)
    kept: KeptWeights | None = None  # of training.keep=best, once a held-out loss is measured
    since_point: list[float] = field(default_factory=list)  # losses of the steps since the last point
    early_end: EarlyEnd | None = None  # None while it trains, and after its last step
    step_loss: StepLoss | None = None  # of the gradients that the next optimizer step uses
    is_half_stepped: bool = False  # within an optimizer step, or an error stopped it there: the weights are not usable
    optimizer_bytes: OptimizerBytes = _UNMEASURED
    random_states: list[Tensor] | None = None  # of torch's generators in the checkpoint, until they are restored

    @property
    def training(self) -> TrainingConfig:
        return self.spec.config.training

    @property
    def column_multiple(self) -> int:
        """Of a micro-batch's columns; those of a trial in a slot also have to suit the trials beside it."""
        return 1 if self.slot is None else find_column_multiple(self.base.model)

    @property
    def num_micro_batches_left(self) -> int:
        return (self.num_steps - self.step) * self.training.accumulation

    @property
    def num_weights(self) -> int:
        """That are trained, those of a slot's padding included."""
        return sum(weight.numel() for weight in self.parameters)

    @property
    def mean_micro_batch_tokens(self) -> float:
        """Padding not counted."""
        return self.training.micro_batch_size * sum(row.num_tokens for row in self.data.train) / len(self.data.train)

    @property
    def checkpoint_path(self) -> Path:
        return self.spec.folder / "checkpoint.pt"

    def identity(self) -> dict[str, Any]:
        """What must be equal for a checkpoint to be this trial's."""
        fingerprints = {"base": self.base.fingerprint, "data": self.data.fingerprint}
        layout = {"by_rank": True} if self.slot is not None and self.slot.by_rank else {}
        return {"config": self.spec.config.to_dict(), "seed": self.spec.seed, **fingerprints, **layout}

    def report_metrics(self, metrics: dict[str, float]) -> str | None:
        """Reports metrics of the present step; returns the reason why the pruner stops the trial, or None."""
        return self.observe(self.spec.number, self.step, metrics | {"num_steps": self.num_steps})

    @property
    def has_ended(self) -> bool:
        return self.early_end is not None or self.step >= self.num_steps or self.is_out_of_patience

    @property
    def is_out_of_patience(self) -> bool:
        """True after `training.patience` held-out losses in a row without a new least one: it ends as a finished trial,
        in the middle of its schedule."""
        patience, points = self.training.patience, self.heldout_losses
        return patience is not None and bool(points) and len(points) - 1 - find_least(points) >= patience

    def set_step_loss(self, step_loss: StepLoss) -> None:
        """Sets the loss of the present window, before its optimizer step; ends a trial whose loss is not finite."""
        loss = step_loss.loss
        if not math.isfinite(loss):
            self.early_end = EarlyEnd(Status.DIVERGED, f"the training loss became {loss} after {self.step} steps")
        self.step_loss = step_loss

    def clip_gradients(self) -> None:
        if self.training.gradient_clip is not None:
            nn.utils.clip_grad_norm_(self.parameters, self.training.gradient_clip)

    def take_step(self) -> None:
        """Takes one optimizer step, and a point of the loss curve every `training.log_interval` steps."""
        assert self.step_loss is not None
        lr = self.optimizer.param_groups[0]["lr"]  # the rate without a factor, where any weight has it
        self.is_half_stepped = True
        self.step_optimizer()
        self.scheduler.step()
        self.step += 1
        self.is_half_stepped = False
        self.since_point.append(self.step_loss.loss)
        self.num_tokens += self.step_loss.num_tokens
        if self.step % self.training.log_interval == 0 or self.step == self.num_steps:
            loss = sum(self.since_point) / len(self.since_point)
            self.losses.append(TrainPoint(self.step, loss, lr))
            self.since_point.clear()
            self.report_metrics({"train_loss": loss, "lr": lr})

    def step_optimizer(self) -> None:
        """Changes the weights, without a wait for a GPU that the results do not need."""
        with without_waiting(self.optimizer), sizes_on_device(self.optimizer):
            self.optimizer.step()

    @property
    def heldout_is_due(self) -> bool:
        """True after every `heldout_interval` steps until the loss is measured. False after the last step: evaluation
        measures that loss."""
        return self.is_at_rung and not self._has_point_now(self.heldout_losses)

    @property
    def scores_are_due(self) -> bool:
        """As `heldout_is_due`, for the scores of `evaluation.rung_tasks`."""
        return self.is_at_rung and not self._has_point_now(self.rung_scores)

    def _has_point_now(self, points: Sequence[HeldoutPoint | RungScores]) -> bool:
        """True where the last of the points was measured at the present step."""
        return bool(points) and points[-1].step == self.step

    @property
    def is_at_rung(self) -> bool:
        interval = self.training.heldout_interval
        at_rung = interval is not None and _reaches_rung(self.step, interval, self.num_steps)
        return at_rung and self.step > 0 and not self.has_ended

    def add_heldout_losses(self, losses: HeldoutLosses, loss: float) -> None:
        """Adds the held-out losses after `step` steps and their mean, in nats per target token; the pruner may stop the
        trial for it. The model has the weights with which they were measured: `evaluation_weights`."""
        if not math.isfinite(loss):
            self.early_end = EarlyEnd(Status.DIVERGED, f"the held-out loss became {loss} after {self.step} steps")
            return
        if self._has_point_now(self.heldout_losses):  # a second attempt of an evaluation that failed
            self.heldout_losses.pop()
        self.heldout_losses.append(HeldoutPoint(self.step, loss))
        if self.training.keep == "best":
            self.kept = choose_kept(self.kept, self.step, loss, losses, self.parameters)
        reason = self.report_metrics({"heldout_loss": loss})
        if reason is not None and not self.has_ended:
            self.early_end = EarlyEnd(Status.PRUNED, reason)

    def add_scores(self, scores: dict[str, dict[str, Score]]) -> None:
        """Adds the scores of `evaluation.rung_tasks` after `step` steps, by task and metric."""
        self.rung_scores.append(RungScores(self.step, scores))
        self.report_metrics(score_values(scores))

    def add_seconds(self, seconds: float) -> None:
        """Counts seconds of training; ends the trial that has used more than `most_seconds`."""
        self.seconds += seconds
        if self.most_seconds is not None and self.seconds > self.most_seconds and not self.has_ended:
            reason = f"over executor.trial_seconds={self.most_seconds:g} after {self.step} of {self.num_steps} steps"
            self.early_end = EarlyEnd(Status.TIMED_OUT, reason)

    def stop_by_hand(self) -> None:
        """Ends the trial because a person asked for it."""
        if self.early_end is None:
            reason = f"by hand after {self.step} of {self.num_steps} steps"
            self.early_end = EarlyEnd(Status.STOPPED, reason)

    def park(self) -> None:
        """Moves a waiting trial's weights and optimizer states off the GPU; `attach_cohort` brings them back."""
        if self.slot is not None:
            self.slot.park()
            self._move_states(torch.device("cpu"))

    def unpark(self) -> None:
        """Brings the optimizer's states back to where the base is."""
        if self.slot is not None:
            self._move_states(self.base.model.device)

    def _move_states(self, device: torch.device) -> None:
        """Moves states that have an entry for each weight; torch keeps counts of steps on the CPU, and managed memory
        goes where it is needed by itself."""
        for state in self.optimizer.state.values():
            for name, value in state.items():
                if isinstance(value, Tensor) and value.ndim > 0 and not getattr(value, "is_paged", False):
                    state[name] = value.to(device)

    def free(self) -> None:
        """Drops gradients and the optimizer's states and weights, after the trial's end.

        torch's schedules put the optimizer's own `step` into the optimizer: such a cycle would keep all of them until
        Python's collector happens to run, and nothing on a GPU makes it run where memory is short.
        """
        for weight in self.parameters:
            weight.grad = None
        self.parameters.clear()
        give_paged_memory_back(self.optimizer)
        vars(self.optimizer).clear()

    def complete_record(self) -> TrialRecord:
        """The trial's record, completed with the curves, steps and tokens of the training and how it ended."""
        record = self.record
        record.step, record.num_train_tokens = self.step, self.num_tokens
        record.losses, record.heldout_losses, record.rung_scores = self.losses, self.heldout_losses, self.rung_scores
        if self.is_out_of_patience and self.step < self.num_steps:
            least = self.heldout_losses[find_least(self.heldout_losses)]
            record.reason = (
                f"ended after {self.step} of {self.num_steps} steps: no held-out loss below that of step {least.step} "
                f"in training.patience={self.training.patience} evaluations"
            )
        if len(record.cohort) == 1 and "train" in record.phases:
            record.tokens_per_second = self.num_tokens / record.phases["train"].seconds
        if self.early_end is not None:
            record.status, record.reason = self.early_end
        return record


def list_gradients(trials: Iterable[RunningTrial]) -> list[Tensor]:
    """The gradients of all trained weights of the trials; weights without a gradient are left out."""
    return [weight.grad for trial in trials for weight in trial.parameters if weight.grad is not None]
