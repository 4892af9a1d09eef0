"""Every point of a study, composed and checked before anything runs."""

from typing import Any

from sweeplab.config.compose import Request, trial_config
from sweeplab.config.idle_axes import decider, refuse_idle
from sweeplab.config.search_rules import LISTING
from sweeplab.config.space import Axis, grid
from sweeplab.config.trial import TrialConfig
from sweeplab.search.presets import enqueued_points


def planned_configs(request: Request, varied: list[Axis]) -> list[tuple[dict[str, Any], TrialConfig]]:
    """Every point of a grid, composed and checked before anything runs; the configured point for other samplers."""
    listed = request.config.sampler.name in LISTING
    keys = [axis.key for axis in varied]
    always = [axis.key for axis in varied if not axis.when and decider(axis.key, keys) is None]
    enqueued_points(request.config.study.enqueue, varied)
    points = grid(varied) if listed else [{}]
    planned = [(point, trial_config(request.overrides, point)) for point in points]
    for point, config in planned:
        refuse_idle(config, point if listed else always, keys)
    return planned
