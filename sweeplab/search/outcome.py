"""What Optuna is told of a trial's record: state, objective values, and constraints, of which above 0 is violated."""

from typing import Any, Final

from optuna.trial import TrialState

from sweeplab.config.search_rules import constraint_bounds
from sweeplab.config.study import StudyConfig
from sweeplab.records.record import Status, TrialRecord, metric_value
from sweeplab.runtime.errors import ConfigError

NO_MEMORY: Final = "out_of_memory"
WITHOUT_ROOM: Final = (Status.OUT_OF_MEMORY, Status.SKIPPED)
TOLD: Final = {  # samplers learn from a pruned trial without a value that it was worse than all that have one
    Status.FINISHED: TrialState.COMPLETE,
    Status.PRUNED: TrialState.PRUNED,
    Status.DIVERGED: TrialState.PRUNED,
    Status.OUT_OF_MEMORY: TrialState.PRUNED,
    Status.SKIPPED: TrialState.PRUNED,
    Status.TIMED_OUT: TrialState.FAIL,
    Status.FAILED: TrialState.FAIL,  # by no fault of its setting, as far as is known: samplers ignore it
}


def objective_values(record: TrialRecord, config: StudyConfig) -> list[float] | None:
    """Objective values; None for a trial that did not finish. Raises `ConfigError` where one is missing."""
    if record.status is not Status.FINISHED:
        return None
    values = {metric: metric_value(record, metric) for metric in config.study.objectives}
    refuse_unmeasured(record, "study.objectives", values)
    return [float(value) for value in values.values() if value is not None]


def constraint_values(record: TrialRecord, config: StudyConfig) -> dict[str, float]:
    """`violations`, all of them measured. Raises `ConfigError` where one is not."""
    found = violations(record, config)
    refuse_unmeasured(record, "study.constraints", {name.split()[0]: value for name, value in found.items()})
    return {name: value for name, value in found.items() if value is not None}


def refuse_unmeasured(record: TrialRecord, key: str, values: dict[str, Any]) -> None:
    """Raises `ConfigError` naming the first metric that a record lacks."""
    for metric, value in values.items():
        if value is None:
            there = ", ".join(f"scores.{task}.{name}" for task, metrics in record.scores.items() for name in metrics)
            raise ConfigError(
                f"{key} names {metric}, which trial {record.number} did not measure; it has "
                f"heldout_loss_nats_per_token{', ' + there if there else ''}"
            )


def violations(record: TrialRecord, config: StudyConfig) -> dict[str, float | None]:
    """By how much of the bound a finished trial is beyond it, by `metric max` and `metric min`; at most 0 keeps it.

    Relative, (value - bound) / abs(bound), so that Optuna can add parameters to bytes; absolute where the bound is 0.
    None: not measured. A trial that had no room for its memory violates `NO_MEMORY` by 1: a yes, no measurement.
    """
    if record.status in WITHOUT_ROOM:
        return {NO_MEMORY: 1.0}
    if record.status is not Status.FINISHED:
        return {}
    found: dict[str, float | None] = {}
    for metric, bounds in constraint_bounds(config.study.constraints):
        value = metric_value(record, metric)
        for end, bound in bounds.items():
            beyond = None if value is None else (value - bound if end == "max" else bound - value)
            found[f"{metric} {end}"] = None if beyond is None else beyond / (abs(bound) or 1.0)
    return found
