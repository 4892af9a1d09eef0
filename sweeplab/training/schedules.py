"""Learning-rate schedules: the share of the full rate at each optimizer step."""

import math

from sweeplab.config.training import ScheduleConfig


def num_warmup_steps(schedule: ScheduleConfig, num_steps: int) -> int:
    """`warmup_steps`, or `warmup_ratio` of all steps, rounded up; never all of them."""
    asked = schedule.warmup_steps
    warmup = math.ceil(schedule.warmup_ratio * num_steps) if asked is None else asked
    return min(warmup, num_steps - 1)


def rate_factor(schedule: ScheduleConfig, step: int, num_steps: int) -> float:
    """Factor for the optimizer step that follows `step` finished ones, from 0 to `num_steps`.

    Warmup rises in a line to 1 at its last step. After it, with p from 0 to 1: constant 1; linear 1 - (1 - e) p;
    cosine e + (1 - e)(1 + cos(pi p)) / 2, half a period (Loshchilov and Hutter 2016, arXiv 1608.03983, eq. 5 without
    restarts). e is `end_factor`, reached when every step is done.
    """
    warmup = num_warmup_steps(schedule, num_steps)
    if step < warmup:
        return (step + 1) / warmup
    if schedule.shape == "constant":
        return 1.0
    progress = min(1.0, (step - warmup) / (num_steps - warmup))
    left = 1 - progress if schedule.shape == "linear" else (1 + math.cos(math.pi * progress)) / 2
    end = schedule.factor_at_end
    return end + (1 - end) * left
