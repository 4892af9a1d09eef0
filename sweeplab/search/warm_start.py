"""`study.warm_start`: an earlier study, from whose finished trials a sampler learns, and whose rate action=recommend
begins with."""

from pathlib import Path
from typing import Final

from optuna.trial import FrozenTrial, TrialState, create_trial

from sweeplab.config.space import Axis, fits, identify_params
from sweeplab.config.study import StudyConfig
from sweeplab.records.asked import EarlierTrial
from sweeplab.records.metrics import direction
from sweeplab.records.record import Status, StudyFacts, TrialRecord, metric_value
from sweeplab.records.store import read_facts, read_records
from sweeplab.runtime.errors import refuse
from sweeplab.search.outcome import compute_violations

_SOURCE: Final = "warm_start_from"  # user attribute: name of the earlier study and number of the trial


def _earlier_trial(record: TrialRecord, config: StudyConfig, varied: list[Axis]) -> EarlierTrial | None:
    """What the sampler learns from a record; None for a trial that did not finish, is not of this space, or lacks a
    metric."""
    if record.status is not Status.FINISHED or not fits(record.params, varied):
        return None
    values = [metric_value(record, metric) for metric in config.study.objectives]
    violations = compute_violations(record, config)
    if None in values or None in violations.values():
        return None
    params = {axis.key: axis.exact(record.params[axis.key]) for axis in varied if axis.key in record.params}
    return EarlierTrial(
        f"{config.study.warm_start} {record.number}",
        params,
        [float(value) for value in values if value is not None],
        {name: float(value or 0.0) for name, value in violations.items()},
    )


def build_earlier_trial(earlier: EarlierTrial, varied: list[Axis]) -> FrozenTrial:
    """The earlier trial as a finished trial of this study's Optuna."""
    trial = create_trial(
        state=TrialState.COMPLETE,
        values=earlier.values,
        params=earlier.params,
        distributions={axis.key: axis.distribution() for axis in varied if axis.key in earlier.params},
        user_attrs={_SOURCE: earlier.source},
    )
    for name, value in earlier.constraints.items():
        trial.set_constraint(name, value)
    return trial


def read_earlier_trials(config: StudyConfig, varied: list[Axis]) -> list[EarlierTrial]:
    """The trials of `study.warm_start` that fit this study's space, ordered by number.

    Raises `ConfigError` where that study is missing, has other objectives, or no trial fits.
    """
    name, facts, records = _read_study(config)
    trials = [_earlier_trial(record, config, varied) for record in records]
    fitting = [trial for trial in trials if trial is not None]
    if not fitting:
        rule = f"must have finished trials within space ({', '.join(axis.key for axis in varied)})"
        raise refuse("study.warm_start", rule, f"{name}, which varied {', '.join(facts.space)}", "widen space")
    return fitting


def find_earlier_rate(config: StudyConfig) -> float:
    """The learning rate of the best setting of `study.warm_start`: by its mean, of those with the most seeds.

    Raises `ConfigError` where that study is missing, has other objectives, or no trial of it has finished.
    """
    name, facts, records = _read_study(config)
    (metric,) = facts.objectives
    values: dict[str, list[tuple[float, float]]] = {}  # rate and value of each seed, by setting
    for record in records:
        value, rate = metric_value(record, metric), record.config.get("optimizer", {}).get("lr")
        if record.status is Status.FINISHED and value is not None and rate is not None:
            values.setdefault(identify_params(record.params), []).append((float(rate), float(value)))
    if not values:
        raise refuse(
            "study.warm_start", "must have a finished trial with a learning rate", name, "choose another study"
        )
    most, sign = max(map(len, values.values())), 1 if direction(metric) == "minimize" else -1
    deepest = [seeds for seeds in values.values() if len(seeds) == most]
    best = min(deepest, key=lambda seeds: sign * sum(value for _, value in seeds))
    return best[0][0]


def _read_study(config: StudyConfig) -> tuple[str, StudyFacts, list[TrialRecord]]:
    """The study of `study.warm_start`. Raises `ConfigError` where it is missing or has other objectives."""
    name = str(config.study.warm_start)
    folder = Path(config.study.runs_dir) / name
    facts = read_facts(folder) if name == folder.name != config.study.name else None
    if facts is None:
        raise refuse("study.warm_start", f"must be another study in {config.study.runs_dir}", name, "check the name")
    if list(facts.objectives) != config.study.objectives:
        rule = f"must have the objectives {', '.join(config.study.objectives)}"
        raise refuse("study.warm_start", rule, f"{name} with {', '.join(facts.objectives)}", "choose another study")
    return name, facts, read_records(folder)
