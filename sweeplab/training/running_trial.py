"""A trial in motion: one class from its adapter to its record."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from sweeplab.config.training import TrainingConfig
from sweeplab.config.trial_spec import TrialSpec
from sweeplab.data.batches import Tokenized, Windows
from sweeplab.models.base import Base
from sweeplab.multilora.slots import Slot
from sweeplab.records.record import HeldoutPoint, RungScores, Score, Status, TrainPoint, TrialRecord, score_values
from sweeplab.training.optimizers import build_optimizer
from sweeplab.training.schedules import rate_factor

# trial number, optimizer step, metrics by name -> None, or why the trial is to stop here
Observe = Callable[[int, int, dict[str, float]], str | None]


class EarlyEnd(NamedTuple):
    """How and why a trial ended before its last step."""

    status: Status
    reason: str


class StepLoss(NamedTuple):
    """What an optimizer step is taken on: the mean loss per target in nats, and tokens, padding not counted."""

    loss: float
    num_tokens: int


@dataclass(eq=False)
class RunningTrial:
    """A trial in motion. `step` counts its own optimizer steps, whatever the cohort's count is."""

    spec: TrialSpec
    record: TrialRecord
    base: Base
    data: Tokenized
    model: nn.Module  # the base where the adapter is in a slot, else the base as its method changed it
    slot: Slot | None
    windows: Windows
    parameters: list[nn.Parameter]
    optimizer: Optimizer
    scheduler: LambdaLR
    num_steps: int
    observe: Observe
    most_seconds: float | None = None  # to train
    step: int = 0
    num_tokens: int = 0  # trained on so far, padding not counted
    seconds: float = 0.0  # trained so far, the whole cohort's
    losses: list[TrainPoint] = field(default_factory=list)
    heldout_losses: list[HeldoutPoint] = field(default_factory=list)
    rung_scores: list[RungScores] = field(default_factory=list)
    since_point: list[float] = field(default_factory=list)  # losses of the steps since the last point
    early_end: EarlyEnd | None = None  # None for one that trains, or has trained to its end
    step_loss: StepLoss | None = None  # of the gradients that stand, before their step
    is_torn: bool = False  # in the middle of a step, or stopped there by an error
    random_states: list[Tensor] | None = None  # of a checkpoint, for a trial alone that draws by itself

    @property
    def training(self) -> TrainingConfig:
        return self.spec.config.training

    @property
    def checkpoint_path(self) -> Path:
        return self.spec.folder / "checkpoint.pt"

    def identity(self) -> dict[str, Any]:
        """What a checkpoint must be of to be this trial's."""
        prints = {"base": self.base.fingerprint, "data": self.data.fingerprint}
        return {"config": asdict(self.spec.config), "seed": self.spec.seed, **prints}

    def tell(self, metrics: dict[str, float]) -> str | None:
        """Reports metrics of this step; why the trial is to stop here, or None."""
        return self.observe(self.spec.number, self.step, metrics | {"num_steps": self.num_steps})

    @property
    def has_ended(self) -> bool:
        return self.early_end is not None or self.step >= self.num_steps

    def take_step_loss(self, step_loss: StepLoss) -> None:
        """The loss of the window at hand, before its optimizer step; one that is tried again comes again."""
        loss = step_loss.loss
        if loss - loss != 0:  # infinite, or not a number
            self.early_end = EarlyEnd(Status.DIVERGED, f"the training loss became {loss} after {self.step} steps")
        self.step_loss = step_loss

    def clip_gradients(self) -> None:
        if self.training.gradient_clip is not None:
            nn.utils.clip_grad_norm_(self.parameters, self.training.gradient_clip)

    def take_step(self) -> None:
        """One optimizer step."""
        assert self.step_loss is not None
        lr = self.optimizer.param_groups[0]["lr"]  # the plain rate where any weight has it
        self.is_torn = True
        self.optimizer.step()
        self.scheduler.step()
        self.step += 1
        self.is_torn = False
        self.since_point.append(self.step_loss.loss)
        self.num_tokens += self.step_loss.num_tokens
        if self.step % self.training.log_interval == 0 or self.step == self.num_steps:
            loss = sum(self.since_point) / len(self.since_point)
            self.losses.append(TrainPoint(self.step, loss, lr))
            self.since_point.clear()
            self.tell({"train_loss": loss, "lr": lr})

    @property
    def heldout_is_due(self) -> bool:
        """True after every `heldout_interval` steps until it is measured, except at the end, where evaluation does."""
        return self.is_at_rung and not self.is_measured_now(self.heldout_losses)

    @property
    def scores_are_due(self) -> bool:
        """As `heldout_is_due`, where tasks are scored at rungs."""
        return self.is_at_rung and not self.is_measured_now(self.rung_scores)

    def is_measured_now(self, points: Sequence[HeldoutPoint | RungScores]) -> bool:
        """True where the last of the points is of this step."""
        return bool(points) and points[-1].step == self.step

    @property
    def is_at_rung(self) -> bool:
        interval = self.training.heldout_interval
        at_rung = interval is not None and self.step % interval == 0
        return at_rung and self.step > 0 and not self.has_ended

    def take_heldout_loss(self, loss: float) -> None:
        """The held-out loss after `step` steps, where a pruner may give the trial up."""
        if loss - loss != 0:
            self.early_end = EarlyEnd(Status.DIVERGED, f"the held-out loss became {loss} after {self.step} steps")
            return
        if self.is_measured_now(self.heldout_losses):  # an evaluation that is tried again
            self.heldout_losses.pop()
        self.heldout_losses.append(HeldoutPoint(self.step, loss))
        why = self.tell({"heldout_loss": loss})
        if why is not None and not self.has_ended:
            self.early_end = EarlyEnd(Status.PRUNED, why)

    def take_scores(self, scores: dict[str, dict[str, Score]]) -> None:
        """The tasks' scores after `step` steps, before the end."""
        self.rung_scores.append(RungScores(self.step, scores))
        self.tell(score_values(scores))

    def take_seconds(self, seconds: float) -> None:
        """Time that has passed in training."""
        self.seconds += seconds
        if self.most_seconds is not None and self.seconds > self.most_seconds and not self.has_ended:
            why = f"over executor.trial_seconds={self.most_seconds:g} after {self.step} of {self.num_steps} steps"
            self.early_end = EarlyEnd(Status.TIMED_OUT, why)

    def complete_record(self) -> TrialRecord:
        """The record, with what training has left."""
        record = self.record
        record.step, record.num_train_tokens = self.step, self.num_tokens
        record.losses, record.heldout_losses, record.rung_scores = self.losses, self.heldout_losses, self.rung_scores
        if len(record.cohort) == 1 and "train" in record.phases:
            record.tokens_per_second = self.num_tokens / record.phases["train"].seconds
        if self.early_end is not None:
            record.status, record.reason = self.early_end
        return record


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
    """A trial before its first step, with its optimizer and schedule. Raises `ConfigError` as `build_optimizer`."""
    config, training = spec.config, spec.config.training
    windows = Windows(data.train, training.micro_batch_size, training.accumulation, spec.seed)
    num_steps = count_steps(training, windows.num_per_epoch)
    trained = ((name, weight) for name, weight in model.named_parameters() if weight.requires_grad)
    named = list(slot.parameters.items() if slot else trained)
    optimizer = build_optimizer(named, config.optimizer, config.adapter.lr_pattern, config.adapter.lr_ratio)
    if hasattr(optimizer, "train"):
        optimizer.train()  # a schedule-free optimizer trains on other weights than it evaluates
    scheduler = LambdaLR(optimizer, lambda step: rate_factor(config.schedule, step, num_steps))
    weights = [weight for _, weight in named]
    return RunningTrial(
        spec, record, base, data, model, slot, windows, weights, optimizer, scheduler, num_steps, observe, most_seconds
    )


def count_steps(training: TrainingConfig, num_windows: int) -> int:
    """Optimizer steps of the training: `max_steps`, or all windows of all epochs."""
    return training.max_steps if training.max_steps is not None else training.epochs * num_windows


def list_gradients(trials: Iterable[RunningTrial]) -> list[Tensor]:
    """Of every trained weight that has one."""
    return [weight.grad for trial in trials for weight in trial.parameters if weight.grad is not None]
