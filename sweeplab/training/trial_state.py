"""What each trial of a cohort owns in training, and the one optimizer that Lightning sees."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from sweeplab.config.optimizer import OptimizerConfig
from sweeplab.config.training import ScheduleConfig
from sweeplab.records.record import HeldoutPoint, RungScores, Score, Status, TrainPoint, score_values
from sweeplab.training.optimizers import build_optimizer
from sweeplab.training.schedules import rate_factor

# optimizer step, metrics by name -> None, or why the trial is to stop here
Observe = Callable[[int, dict[str, float]], str | None]


class Early(NamedTuple):
    """How and why a trial ended before its last step."""

    status: Status
    reason: str


class Window(NamedTuple):
    """What an optimizer step is taken on: the mean loss per target in nats, and tokens, padding not counted."""

    loss: float
    num_tokens: int


@dataclass(eq=False)
class Member:
    """A trial in training. `step` counts its own optimizer steps, whatever the cohort's count is."""

    parameters: list[nn.Parameter]
    optimizer: Optimizer
    scheduler: LambdaLR
    num_steps: int
    gradient_clip: float | None
    log_interval: int
    heldout_interval: int | None
    observe: Observe
    step: int = 0
    num_tokens: int = 0  # trained on so far, padding not counted
    losses: list[TrainPoint] = field(default_factory=list)
    heldout_losses: list[HeldoutPoint] = field(default_factory=list)
    rung_scores: list[RungScores] = field(default_factory=list)
    seconds: float = 0.0  # trained so far, the whole cohort's
    most_seconds: float | None = None  # to train
    early: Early | None = None  # None for one that trains, or has trained to its end
    since_point: list[float] = field(default_factory=list)  # losses of the steps since the last point
    window: "Window | None" = None  # whose gradients stand, before its step
    is_torn: bool = False  # in the middle of a step, or stopped there by an error
    random_states: list[Tensor] | None = None  # of a checkpoint, for a trial alone that draws by itself

    @property
    def has_ended(self) -> bool:
        return self.early is not None or self.step >= self.num_steps

    def take_window(self, window: Window) -> None:
        """The window at hand, before its optimizer step; one that is tried again comes again."""
        if window.loss - window.loss != 0:  # infinite, or not a number
            self.early = Early(Status.DIVERGED, f"the training loss became {window.loss} after {self.step} steps")
        self.window = window

    def clip(self) -> None:
        if self.gradient_clip is not None:
            nn.utils.clip_grad_norm_(self.parameters, self.gradient_clip)

    def advance(self) -> None:
        """One optimizer step."""
        assert self.window is not None
        lr = self.optimizer.param_groups[0]["lr"]  # the plain rate where any weight has it
        self.is_torn = True
        self.optimizer.step()
        self.scheduler.step()
        self.step += 1
        self.is_torn = False
        self.since_point.append(self.window.loss)
        self.num_tokens += self.window.num_tokens
        if self.step % self.log_interval == 0 or self.step == self.num_steps:
            loss = sum(self.since_point) / len(self.since_point)
            self.losses.append(TrainPoint(self.step, loss, lr))
            self.since_point.clear()
            self.observe(self.step, {"train_loss": loss, "lr": lr})

    @property
    def heldout_is_due(self) -> bool:
        """True after every `heldout_interval` steps until it is measured, except at the end, where evaluation does."""
        return self.is_at_rung and not self.has_now(self.heldout_losses)

    @property
    def scores_are_due(self) -> bool:
        """As `heldout_is_due`, where tasks are scored at rungs."""
        return self.is_at_rung and not self.has_now(self.rung_scores)

    def has_now(self, points: Sequence[HeldoutPoint | RungScores]) -> bool:
        """True where the last of the points is of this step."""
        return bool(points) and points[-1].step == self.step

    @property
    def is_at_rung(self) -> bool:
        at_rung = self.heldout_interval is not None and self.step % self.heldout_interval == 0
        return at_rung and self.step > 0 and not self.has_ended

    def take_heldout_loss(self, loss: float) -> None:
        """The held-out loss after `step` steps, where a pruner may give the trial up."""
        if loss - loss != 0:
            self.early = Early(Status.DIVERGED, f"the held-out loss became {loss} after {self.step} steps")
            return
        if self.has_now(self.heldout_losses):  # an evaluation that is tried again
            self.heldout_losses.pop()
        self.heldout_losses.append(HeldoutPoint(self.step, loss))
        why = self.observe(self.step, {"heldout_loss": loss})
        if why is not None and not self.has_ended:
            self.early = Early(Status.PRUNED, why)

    def take_scores(self, scores: dict[str, dict[str, Score]]) -> None:
        """The tasks' scores after `step` steps, before the end."""
        self.rung_scores.append(RungScores(self.step, scores))
        self.observe(self.step, score_values(scores))

    def take_seconds(self, seconds: float) -> None:
        """Time that has passed in training."""
        self.seconds += seconds
        if self.most_seconds is not None and self.seconds > self.most_seconds and not self.has_ended:
            why = f"over executor.trial_seconds={self.most_seconds:g} after {self.step} of {self.num_steps} steps"
            self.early = Early(Status.TIMED_OUT, why)


def build_member(
    named_parameters: Iterable[tuple[str, nn.Parameter]],
    optimizer: OptimizerConfig,
    schedule: ScheduleConfig,
    lr_pattern: dict[str, float],
    lr_ratio: float,
    num_steps: int,
    **settings: Any,
) -> Member:
    """A trial at its start. Raises `ConfigError` as `build_optimizer` does."""
    named = list(named_parameters)
    built = build_optimizer(named, optimizer, lr_pattern, lr_ratio)
    if hasattr(built, "train"):
        built.train()  # a schedule-free optimizer trains on other weights than it evaluates
    scheduler = LambdaLR(built, lambda step: rate_factor(schedule, step, num_steps))
    return Member([weight for _, weight in named], built, scheduler, num_steps, **settings)


def gradients(members: Iterable[Member]) -> list[Tensor]:
    """Of every weight that has one."""
    return [weight.grad for member in members for weight in member.parameters if weight.grad is not None]


class CohortOptimizer(Optimizer):
    """The members' optimizers and schedules as one, so that Lightning counts its steps and calls its hooks."""

    def __init__(self, members: list[Member], zero_gradients: Callable[[], None]) -> None:
        super().__init__([weight for member in members for weight in member.parameters], {})
        self.members = members
        self.zero_gradients = zero_gradients
        self.param_groups = [group for member in members for group in member.optimizer.param_groups]

    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:  # type: ignore[override]
        """Runs the forward and backward, then the step of every member that goes on."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for member in self.members:
            if not member.has_ended:
                member.advance()
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.zero_gradients()
