"""What a study plans before anything runs: the number of its trials, and its points, composed and checked."""

import sys
from collections.abc import Iterator, Sequence
from typing import Any

from sweeplab.config.compose import Request, trial_config
from sweeplab.config.idle_axes import decider, refuse_idle
from sweeplab.config.sampler import FinalsSampler
from sweeplab.config.search_rules import LISTING, list_asked_metrics
from sweeplab.config.shared_base import why_exclusive
from sweeplab.config.space import Axis, Params, Scalar, fits, grid, list_begin
from sweeplab.config.study import StudyConfig
from sweeplab.config.tasks import check_measured
from sweeplab.config.trial import TrialConfig
from sweeplab.runtime.errors import ConfigError, refuse
from sweeplab.search.enqueue import read_enqueued_points


def count_planned_trials(config: StudyConfig, varied: list[Axis]) -> int:
    """Trials of the whole study, all seeds included."""
    most = config.study.num_trials
    if isinstance(config.sampler, FinalsSampler):
        finals = config.sampler.num_finalists * (len(config.study.seeds) - 1)
        return min(config.sampler.num_drawn + finals, most or sys.maxsize)
    if config.sampler.name not in LISTING:
        assert most is not None
        return most
    num_trials = len(grid(varied)) * len(config.study.seeds)
    return num_trials if most is None else min(most, num_trials)


def list_settings(config: StudyConfig, varied: list[Axis]) -> list[Params] | None:
    """The settings that a study names: a grid's, those that a race begins with, or the entries of study.enqueue where
    these are all its trials. None where a sampler draws some. Raises `ConfigError` for a wrong `study.enqueue`."""
    entries = read_enqueued_points(config.study.enqueue, varied)
    if config.sampler.name in LISTING:
        return grid(list_begin(varied))
    drawn = count_planned_trials(config, varied) - len(entries) * len(config.study.seeds)
    leaves_none_open = entries and all(fits(entry, varied) for entry in entries)
    return entries if leaves_none_open and drawn <= 0 else None


def compose_planned_points(request: Request, varied: list[Axis]) -> list[tuple[dict[str, Any], TrialConfig]]:
    """Every setting that the study names, each with its configuration; for samplers that draw, the configuration
    without any values.

    A sampler that draws may draw any value of an axis, so each choice and both ends of each range must be able to run
    beside some value of the other axes. Values that cannot run together are found when they are drawn.

    Raises `ConfigError` for a configuration that cannot run, an axis without effect, a wrong `study.enqueue`, and an
    objective or a constraint that some trial would not measure.
    """
    settings = list_settings(request.config, varied)
    is_listed = settings is not None
    keys = [axis.key for axis in varied]
    unconditional = [axis.key for axis in varied if not axis.when and decider(axis.key, keys) is None]
    planned = [(point, trial_config(request.overrides, point)) for point in settings or [{}]]
    for point, config in planned:
        refuse_idle(config, point if is_listed else unconditional, keys)
    values = [(axis, value) for axis in varied for value in _list_drawn(axis, is_listed)]
    drawn = [_compose_value(request, varied, axis, value) for axis, value in values]
    for config in [*(config for _, config in planned), *drawn]:
        _refuse_unmeasured(request.config, config)
    return planned


def _refuse_unmeasured(study_config: StudyConfig, config: TrialConfig) -> None:
    """Raises `ConfigError` for objectives and constraints that a trial with `config` would not measure."""
    for key, metrics in list_asked_metrics(study_config):
        check_measured(key, metrics, config.evaluation)
        solo = [metric for metric in metrics if metric.startswith("solo.")]
        why = why_exclusive(config)
        if solo and why is not None and study_config.executor.device != "cpu":
            rule = f"must be measured in all trials, and one that trains by itself ({why}) has no measurement before it"
            raise refuse(key, rule, solo[0], "use a metric of phases.train, or executor.device=cpu")


def _list_drawn(axis: Axis, is_listed: bool) -> Sequence[Scalar]:
    """Values that no point of the plan has: of a list those that join later, else what a sampler may draw."""
    if not is_listed:
        return _list_extremes(axis)
    return (axis.choices or ())[axis.begin :] if axis.begin is not None else ()


def _list_extremes(axis: Axis) -> Sequence[Scalar]:
    """Every choice, or both ends of a range."""
    if axis.choices is not None:
        return axis.choices
    assert axis.low is not None
    assert axis.high is not None
    return axis.low, axis.high if axis.step is None else axis.value(axis.last_place())


def _compose_value(request: Request, varied: list[Axis], axis: Axis, value: Scalar) -> TrialConfig:
    """A trial that has `value`, beside whichever values of other axes it can run with. Raises `ConfigError`: without
    any, what is wrong beside the configured ones."""
    first: ConfigError | None = None
    for point in _list_points(varied, axis, value):
        try:
            return trial_config(request.overrides, point)
        except ConfigError as error:
            first = first or error
    assert first is not None
    raise first


def _list_points(varied: list[Axis], axis: Axis, value: Scalar) -> Iterator[Params]:
    """Points with `value`: beside what is configured, then beside each value of each other axis, one at a time."""
    point = _fill_conditions(varied, {axis.key: value})
    yield point
    for other in varied:
        if other.key not in point and other.active(point):
            yield from ({**point, other.key: one} for one in _list_extremes(other))


def _fill_conditions(varied: list[Axis], point: Params) -> Params:
    """The point with the first values of earlier axes that those it has go with, in the axes' order."""
    needed = {key: values[0] for axis in varied if axis.key in point for key, values in axis.when if key not in point}
    if needed:
        return _fill_conditions(varied, {**needed, **point})
    return {axis.key: point[axis.key] for axis in varied if axis.key in point}
