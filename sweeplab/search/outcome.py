"""Reports a trial's record to Optuna: state, objective values, and constraints, which are violated above 0."""

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

_REASON: Final = "reason"  # user attribute of a trial that did not finish
STATUS: Final = "status"  # user attribute of a trial that did not finish: the status of its record
_FLAGS: Final = {  # violated constraints of settings that cannot run
    Status.OUT_OF_MEMORY: "out_of_memory",
    Status.SKIPPED: "out_of_memory",
    Status.REFUSED: "refused",
}
_STATES: Final = {  # samplers rank a pruned trial without a value below all trials that have one
    Status.FINISHED: TrialState.COMPLETE,
    Status.PRUNED: TrialState.PRUNED,
    Status.DIVERGED: TrialState.PRUNED,
    Status.OUT_OF_MEMORY: TrialState.PRUNED,
    Status.SKIPPED: TrialState.PRUNED,
    Status.REFUSED: TrialState.PRUNED,
    Status.TIMED_OUT: TrialState.FAIL,
    Status.STOPPED: TrialState.FAIL,  # by a person
    Status.FAILED: TrialState.FAIL,  # perhaps not because of its setting, so samplers ignore it
}


def find_loss_sign(config: StudyConfig) -> float:
    """The factor on losses that are reported to Optuna, -1 or 1. A pruner uses the direction of the first objective,
    so where that is maximized, losses change their sign."""
    return -1.0 if direction(config.study.objectives[0]) == "maximize" else 1.0


def tell_record(study: Study, trial: Trial, record: TrialRecord, config: StudyConfig) -> None:
    """Reports the objective values of a finished trial, or how else it ended; a second call changes nothing.

    Optuna's samplers ignore failed trials. A trial that cannot run is reported as pruned, with a violated
    constraint: TPE then avoids similar settings, and no objective value has to be invented. Raises `ConfigError` where
    a metric was not measured.
    """
    values = _objective_values(record, config)
    reported = trial.constraints
    for name, value in _constraint_values(record, config).items():
        if name not in reported:
            trial.set_constraint(name, value)
    if record.status is not Status.FINISHED:
        trial.set_user_attr(STATUS, record.status.value)
    if record.reason is not None:
        trial.set_user_attr(_REASON, record.reason)
    study.sampler = RandomSampler()  # the brute-force sampler would call study.stop(), which raises outside optimize()
    study.tell(trial, values=values, state=_STATES[record.status], skip_if_finished=True)


def _objective_values(record: TrialRecord, config: StudyConfig) -> list[float] | None:
    """Objective values; None for a trial that did not finish. Raises `ConfigError` where one is missing."""
    if record.status is not Status.FINISHED:
        return None
    values = {metric: metric_value(record, metric) for metric in config.study.objectives}
    _refuse_unmeasured(record, "study.objectives", values)
    return [float(value) for value in values.values() if value is not None]


def _constraint_values(record: TrialRecord, config: StudyConfig) -> dict[str, float]:
    """`compute_violations`. Raises `ConfigError` where a metric was not measured."""
    violations = compute_violations(record, config)
    _refuse_unmeasured(record, "study.constraints", {name.split()[0]: value for name, value in violations.items()})
    return {name: value for name, value in violations.items() if value is not None}


def _refuse_unmeasured(record: TrialRecord, key: str, values: dict[str, Any]) -> None:
    """Raises `ConfigError` naming the first metric that a record lacks."""
    for metric, value in values.items():
        if value is None:
            scores = ", ".join(f"scores.{task}.{name}" for task, metrics in record.scores.items() for name in metrics)
            raise ConfigError(
                f"{key} names {metric}, which trial {record.number} did not measure; it has "
                f"heldout_loss_nats_per_token{', ' + scores if scores else ''}"
            )


def compute_violations(record: TrialRecord, config: StudyConfig) -> dict[str, float | None]:
    """By how much a trial violates each constraint, by name, `metric max` or `metric min`; at most 0 is no violation.

    (value - bound) / abs(bound) for an upper bound, so that Optuna can add violations of different units; the plain
    difference where the bound is 0; None where the metric was not measured. A trial that cannot run violates
    one of `_FLAGS` by 1, which is no measurement. Other trials that did not finish have no entry.
    """
    if record.status in _FLAGS:
        return {_FLAGS[record.status]: 1.0}
    if record.status is not Status.FINISHED:
        return {}
    violations: dict[str, float | None] = {}
    for bound in list_bounds(dict(constraint_bounds(config.study.constraints))):
        excess = measure_excess(record, bound)
        violations[f"{bound.metric} {bound.end}"] = None if excess is None else excess / (abs(bound.limit) or 1.0)
    return violations
