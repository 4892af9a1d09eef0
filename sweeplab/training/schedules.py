"""Learning-rate schedules: the factor on the learning rate at each optimizer step."""

import math

from sweeplab.config.training import ScheduleConfig


def _count_warmup_steps(schedule: ScheduleConfig, num_steps: int) -> int:
    """`warmup_steps`, or `warmup_ratio` of all steps, rounded up; never all of them."""
    asked = schedule.warmup_steps
    warmup = math.ceil(schedule.warmup_ratio * num_steps) if asked is None else asked
    return min(warmup, num_steps - 1)


def compute_rate_factor(schedule: ScheduleConfig, step: int, num_steps: int) -> float:
    """Factor on the learning rate of the next optimizer step, when `step` of `num_steps` steps are finished.

    During warmup it rises linearly and reaches 1 at the last warmup step. Then, with p running from 0 to 1 and e the
    `schedule.end_factor`: constant 1; linear 1 - (1 - e) p; cosine e + (1 - e)(1 + cos(pi p)) / 2 (Loshchilov and
    Hutter 2016, arXiv 1608.03983, eq. 5 without restarts). e itself is reached after the last step only.
    """
    warmup = _count_warmup_steps(schedule, num_steps)
    if step < warmup:
        return (step + 1) / warmup
    if schedule.shape == "constant":
        return 1.0
    progress = min(1.0, (step - warmup) / (num_steps - warmup))
    left = 1 - progress if schedule.shape == "linear" else (1 + math.cos(math.pi * progress)) / 2
    end = schedule.factor_at_end
    return end + (1 - end) * left
