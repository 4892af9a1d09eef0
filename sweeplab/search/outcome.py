"""What a trial's record says to Optuna: state, objective values, and constraints, which above 0 are violated."""

from typing import Any, Final

from optuna import Study
from optuna.samplers import RandomSampler
from optuna.trial import Trial, TrialState

from sweeplab.config.search_rules import constraint_bounds
from sweeplab.config.study import StudyConfig
from sweeplab.records.constraints import list_bounds, measure_excess
from sweeplab.records.metrics import direction
from sweeplab.records.record import Status, TrialRecord, metric_value
from sweeplab.runtime.errors import ConfigError

REASON: Final = "reason"  # of a trial that did not finish
STATUS: Final = "status"  # of a trial that did not finish, in a record's words
_NO_MEMORY: Final = "out_of_memory"
_WITHOUT_MEMORY: Final = (Status.OUT_OF_MEMORY, Status.SKIPPED)
_STATES: Final = {  # samplers learn from a pruned trial without a value that it was worse than all that have one
    Status.FINISHED: TrialState.COMPLETE,
    Status.PRUNED: TrialState.PRUNED,
    Status.DIVERGED: TrialState.PRUNED,
    Status.OUT_OF_MEMORY: TrialState.PRUNED,
    Status.SKIPPED: TrialState.PRUNED,
    Status.TIMED_OUT: TrialState.FAIL,
    Status.FAILED: TrialState.FAIL,  # by no fault of its setting, as far as is known: samplers ignore it
}


def loss_sign(config: StudyConfig) -> float:
    """Pruners go by the objective's direction: where it is maximized, Optuna gets the loss with its sign changed."""
    return -1.0 if direction(config.study.objectives[0]) == "maximize" else 1.0


def tell_record(study: Study, trial: Trial, record: TrialRecord, config: StudyConfig) -> None:
    """Objective values of a finished trial, else how it ended; telling twice changes nothing. Raises `ConfigError`.

    Optuna's samplers ignore failed trials. One that ran out of memory is told as pruned with a violated constraint:
    TPE then avoids its neighbours, and no value is made up for it.
    """
    values = _objective_values(record, config)
    kept = trial.constraints
    for name, value in _constraint_values(record, config).items():
        if name not in kept:
            trial.set_constraint(name, value)
    if record.status is not Status.FINISHED:
        trial.set_user_attr(STATUS, record.status.value)
    if record.reason is not None:
        trial.set_user_attr(REASON, record.reason)
    study.sampler = RandomSampler()  # brute force would stop an optimize() that does not run
    study.tell(trial, values=values, state=_STATES[record.status], skip_if_finished=True)


def _objective_values(record: TrialRecord, config: StudyConfig) -> list[float] | None:
    """Objective values; None for a trial that did not finish. Raises `ConfigError` where one is missing."""
    if record.status is not Status.FINISHED:
        return None
    values = {metric: metric_value(record, metric) for metric in config.study.objectives}
    _refuse_unmeasured(record, "study.objectives", values)
    return [float(value) for value in values.values() if value is not None]


def _constraint_values(record: TrialRecord, config: StudyConfig) -> dict[str, float]:
    """`violations`, all of them measured. Raises `ConfigError` where one is not."""
    found = violations(record, config)
    _refuse_unmeasured(record, "study.constraints", {name.split()[0]: value for name, value in found.items()})
    return {name: value for name, value in found.items() if value is not None}


def _refuse_unmeasured(record: TrialRecord, key: str, values: dict[str, Any]) -> None:
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
    None: not measured. A trial that had no room for its memory violates `_NO_MEMORY` by 1: a yes, no measurement.
    """
    if record.status in _WITHOUT_MEMORY:
        return {_NO_MEMORY: 1.0}
    if record.status is not Status.FINISHED:
        return {}
    found: dict[str, float | None] = {}
    for bound in list_bounds(dict(constraint_bounds(config.study.constraints))):
        excess = measure_excess(record, bound)
        found[f"{bound.metric} {bound.end}"] = None if excess is None else excess / (abs(bound.limit) or 1.0)
    return found
