"""What a study plans before anything runs: the number of its trials, and its points, composed and checked."""

from typing import Any

from sweeplab.config.compose import Request, trial_config
from sweeplab.config.idle_axes import decider, refuse_idle
from sweeplab.config.search_rules import LISTING
from sweeplab.config.space import Axis, grid
from sweeplab.config.study import StudyConfig
from sweeplab.config.trial import TrialConfig
from sweeplab.search.enqueue import read_enqueued_points


def count_planned_trials(config: StudyConfig, varied: list[Axis]) -> int:
    """Trials of the whole study, all seeds included."""
    most = config.study.num_trials
    if config.sampler.name not in LISTING:
        assert most is not None
        return most
    num_trials = len(grid(varied)) * len(config.study.seeds)
    return num_trials if most is None else min(most, num_trials)


def compose_planned_points(request: Request, varied: list[Axis]) -> list[tuple[dict[str, Any], TrialConfig]]:
    """Every point of a grid with its configuration; for samplers that draw, the configuration without any values.

    Raises `ConfigError` for a configuration that cannot run, an axis without effect, or a wrong `study.enqueue`.
    """
    is_listed = request.config.sampler.name in LISTING
    keys = [axis.key for axis in varied]
    unconditional = [axis.key for axis in varied if not axis.when and decider(axis.key, keys) is None]
    read_enqueued_points(request.config.study.enqueue, varied)
    points = grid(varied) if is_listed else [{}]
    planned = [(point, trial_config(request.overrides, point)) for point in points]
    for point, config in planned:
        refuse_idle(config, point if is_listed else unconditional, keys)
    return planned
