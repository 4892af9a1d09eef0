"""How long a study takes, as far as that can be said before anything trains: by its earlier trials, or by its plan."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sweeplab.records.record import Status, TrialRecord
from sweeplab.records.store import StoreError, read_json


def foresee_seconds(
    folder: Path, earlier: Sequence[TrialRecord], num_left: int, num_workers: int, scores_tasks: bool
) -> float | None:
    """Seconds for the trials that are left; None where nothing tells.

    A plan stands for a study that begins, with the workers of its machine and without the time of tasks.
    """
    finished = [record for record in earlier if record.status is Status.FINISHED]
    if num_left and finished:
        return _sum_worker_seconds(finished) / len(finished) * num_left / min(num_workers, num_left)
    plan = _read_plan(folder)
    if scores_tasks or earlier or plan is None or plan.get("num_trials") != num_left:
        return None
    seconds = plan.get("study_seconds")
    return float(seconds) if isinstance(seconds, int | float) else None


def _sum_worker_seconds(records: Sequence[TrialRecord]) -> float:
    """Trials of one cohort have its time each; it counts once."""
    cohorts = {tuple(sorted(record.cohort)) or (record.number,): record.phases for record in records}
    return math.fsum(phase.seconds for phases in cohorts.values() for phase in phases.values())


def _read_plan(folder: Path) -> dict[str, Any] | None:
    """None without one; a damaged one says nothing, since a plan can be made again."""
    try:
        plan = read_json(folder / "plan.json")
    except StoreError:
        return None
    return plan if isinstance(plan, dict) else None
