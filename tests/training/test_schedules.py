import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler

from sweeplab.config.training import ScheduleConfig
from sweeplab.training.schedules import _count_warmup_steps, compute_rate_factor
from tests.configs import schedule_of
from tests.training.conftest import examples

RATE = 0.3


def schedule(shape: str, warmup: int = 0, end: float = 0.0) -> ScheduleConfig:
    made: ScheduleConfig = schedule_of(shape, warmup, 0.0, end)
    return made


def factors(config: ScheduleConfig, num_steps: int) -> list[float]:
    """Factors of every optimizer step, and the one that is left when all are done."""
    return [compute_rate_factor(config, step, num_steps) for step in range(num_steps + 1)]


def rates_of(make: Any, num_steps: int) -> list[float]:
    """What one of torch's own schedulers gives, as factors."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=RATE)
    scheduler = make(optimizer)
    found = [optimizer.param_groups[0]["lr"] / RATE]
    for _ in range(num_steps):
        optimizer.step()
        scheduler.step()
        found.append(optimizer.param_groups[0]["lr"] / RATE)
    return found


@pytest.mark.parametrize("end", [0.0, 0.1])
def test_cosine_and_linear_equal_those_of_torch(end: float) -> None:
    cosine = rates_of(lambda one: lr_scheduler.CosineAnnealingLR(one, T_max=17, eta_min=end * RATE), 17)
    np.testing.assert_allclose(factors(schedule("cosine", end=end), 17), cosine, rtol=0, atol=1e-14)
    linear = rates_of(lambda one: lr_scheduler.LinearLR(one, 1.0, end, total_iters=17), 17)
    np.testing.assert_allclose(factors(schedule("linear", end=end), 17), linear, rtol=0, atol=1e-14)


@pytest.mark.parametrize("warmup", [1, 3, 9])
@pytest.mark.parametrize("end", [0.0, 0.25])
def test_shapes_equal_their_closed_forms(warmup: int, end: float) -> None:
    num_steps = 10
    rise = np.arange(1, warmup + 1) / warmup
    p = (np.arange(warmup, num_steps + 1) - warmup) / (num_steps - warmup)
    closed = {
        "constant": np.ones_like(p),
        "linear": 1 - (1 - end) * p,
        "cosine": end + (1 - end) * (1 + np.cos(np.pi * p)) / 2,
    }
    for shape, values in closed.items():
        found = factors(schedule(shape, warmup, end), num_steps)
        np.testing.assert_allclose(found, [*rise, *values], rtol=0, atol=1e-15, err_msg=shape)


@pytest.mark.parametrize(
    ("ratio", "num_steps", "expected"), [(0.0, 10, 0), (0.05, 10, 1), (0.05, 200, 10), (1.0, 8, 7), (0.5, 1, 0)]
)
def test_warmup_from_a_ratio_is_rounded_up_and_leaves_a_step(ratio: float, num_steps: int, expected: int) -> None:
    config = schedule_of("cosine", None, ratio)
    assert _count_warmup_steps(config, num_steps) == expected


def test_no_step_trains_at_a_rate_of_zero_or_above_the_full_one() -> None:
    for shape in ("constant", "linear", "cosine"):
        for num_steps in (1, 2, 7, 30):
            for warmup in (0, 1, 5, 100):
                taken = factors(schedule(shape, warmup), num_steps)[:num_steps]
                assert all(0 < factor <= 1 and math.isfinite(factor) for factor in taken)
                assert max(taken) == 1


@pytest.mark.parametrize("shape", ["constant", "linear", "cosine"])
@pytest.mark.parametrize(
    ("accumulation", "epochs", "num_steps"),
    [(1, 1, 3), (3, 4, 4), (2, 3, 6)],  # of 5 examples two by two; 3 micro-batches a step: one step an epoch
)
@pytest.mark.parametrize(("warmup_key", "warmup"), [("steps=2", 2), ("ratio=0.5", None)])
def test_every_step_of_training_takes_its_rate_and_the_end_value_is_left(
    shape: str, accumulation: int, epochs: int, num_steps: int, warmup_key: str, warmup: int | None,
    new_model: Any, train: Any, compose_trial: Any, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    left: list[float] = []
    plain = lr_scheduler.LambdaLR.step

    def watched(self: lr_scheduler.LambdaLR) -> None:
        plain(self)
        left.append(float(self.get_last_lr()[0]))

    monkeypatch.setattr(lr_scheduler.LambdaLR, "step", watched)
    config = compose_trial(
        "optimizer.lr=0.25", f"schedule={shape}", f"schedule.warmup_{warmup_key}",
        *([] if shape == "constant" else ["schedule.end_factor=0.125"]),
        f"training.accumulation={accumulation}", f"training.epochs={epochs}", "training.micro_batch_size=2",
        "training.log_interval=1",
    )  # fmt: skip
    record = train(new_model(), examples(5, seed=1), config)
    assert record.step == num_steps
    warmup = math.ceil(num_steps / 2) if warmup is None else warmup
    rise = [0.25 * (step + 1) / warmup for step in range(warmup)]
    p = np.arange(num_steps - warmup + 1) / (num_steps - warmup)
    fall = {"constant": p * 0 + 1, "linear": 1 - 0.875 * p, "cosine": 0.125 + 0.875 * (1 + np.cos(np.pi * p)) / 2}
    expected = [*rise, *(0.25 * fall[shape])]
    assert [point.lr for point in record.losses] == pytest.approx(expected[:-1], rel=1e-12)
    assert left[-1] == pytest.approx(0.25 * (1 if shape == "constant" else 0.125), rel=1e-12)
