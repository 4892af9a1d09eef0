"""Every point and every value of a study, composed and checked before anything runs."""

from collections.abc import Iterator, Sequence
from typing import Any

from sweeplab.config.compose import Request, trial_config
from sweeplab.config.idle_axes import decider, refuse_idle
from sweeplab.config.search_rules import LISTING, constraint_bounds
from sweeplab.config.shared_base import why_exclusive
from sweeplab.config.space import Axis, Params, Scalar, grid
from sweeplab.config.tasks import check_measured
from sweeplab.config.trial import TrialConfig
from sweeplab.runtime.errors import ConfigError, refuse
from sweeplab.search.presets import enqueued_points


def planned_configs(request: Request, varied: list[Axis]) -> list[tuple[dict[str, Any], TrialConfig]]:
    """Every point of a grid, composed and checked before anything runs; the configured point for other samplers.

    A sampler that draws may draw any value of an axis: each choice, and both ends of each range, must be able to run
    beside some value of the others. What cannot run together is found where it is drawn. Raises `ConfigError`.
    """
    listed = request.config.sampler.name in LISTING
    keys = [axis.key for axis in varied]
    always = [axis.key for axis in varied if not axis.when and decider(axis.key, keys) is None]
    enqueued_points(request.config.study.enqueue, varied)
    points = grid(varied) if listed else [{}]
    planned = [(point, trial_config(request.overrides, point)) for point in points]
    for point, config in planned:
        refuse_idle(config, point if listed else always, keys)
    values = [] if listed else [_compose_value(request, varied, axis, one) for axis in varied for one in _ends(axis)]
    for config in [*(config for _, config in planned), *values]:
        _check_objectives(request, config)
    return planned


def _check_objectives(request: Request, config: TrialConfig) -> None:
    """Raises `ConfigError` for objectives and constraints that a trial with these values would not measure."""
    study = request.config.study
    constrained = [metric for metric, _ in constraint_bounds(study.constraints)]
    for key, metrics in (("study.objectives", study.objectives), ("study.constraints", constrained)):
        check_measured(key, metrics, config.evaluation.tasks)
        solo = [metric for metric in metrics if metric.startswith("solo.")]
        why = why_exclusive(config)
        if solo and why is not None:
            rule = f"must be measured in all trials, and one that trains by itself ({why}) has no measurement before it"
            raise refuse(key, rule, solo[0], "use a metric of phases.train")


def _ends(axis: Axis) -> Sequence[Scalar]:
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
            yield from ({**point, other.key: one} for one in _ends(other))


def _fill_conditions(varied: list[Axis], point: Params) -> Params:
    """The point with the first values of earlier axes that those it has go with, in the axes' order."""
    needed = {key: values[0] for axis in varied if axis.key in point for key, values in axis.when if key not in point}
    if needed:
        return _fill_conditions(varied, {**needed, **point})
    return {axis.key: point[axis.key] for axis in varied if axis.key in point}
