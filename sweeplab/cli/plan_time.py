"""What a study takes: training of all its trials, and wall time with the workers that there are, part by part."""

from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from sweeplab.cli.plan_tables import PlanRow
from sweeplab.config.executor import LocalWorkers
from sweeplab.config.shared_base import can_gain_from_others, pays_to_measure
from sweeplab.config.study import StudyConfig
from sweeplab.execution.cohorts import choose_cohort_size
from sweeplab.execution.placement import Placement, choose_placements
from sweeplab.records.plan import PlannedParts
from sweeplab.report.evidence.formatting import DASH, count_noun
from sweeplab.runtime.errors import ConfigError
from sweeplab.tracking.pace import format_clock


class StudyTimes(NamedTuple):
    """Seconds; None where a part of them is unknown."""

    training: float | None  # of all trials one after another
    study: float | None  # on the wall
    parts: PlannedParts | None = None
    is_bound: bool = False  # trials may end early, so that it takes at most so long


def list_placements(config: StudyConfig) -> list[Placement]:
    """Workers of this machine; none where others do the work, or where it cannot measure what the study asks for."""
    if isinstance(config.executor, LocalWorkers):
        with suppress(ConfigError):
            return choose_placements(config)
    return []


def _may_share_pass(config: StudyConfig, row: PlanRow) -> bool:
    """True where a worker measures the trial before it trains, to see whether it should beside others."""
    forecast = row.forecast
    is_alone = row.why_exclusive is not None or choose_cohort_size(config) == 1
    tokens = row.config.training.micro_batch_size * forecast.extent.mean
    return not is_alone and can_gain_from_others(forecast.num_total_params, tokens, forecast.device.kind)


def find_parts(
    config: StudyConfig, rows: Sequence[PlanRow], counts: Sequence[int], start_seconds: float | None
) -> PlannedParts | None:
    """The parts of a study with so many trials of each row; None where one of them is unknown.

    `start_seconds`: of a worker's imports.
    """
    forecasts = [row.forecast for row in rows]
    bases = {
        str((row.config.model, row.config.quantization, row.config.data)): row.forecast.base_seconds for row in rows
    }
    num_steps = sum((one.num_steps or 0) * count for one, count in zip(forecasts, counts, strict=False))
    pays = pays_to_measure(num_steps * config.training.accumulation, forecasts[0].device.kind)
    profiled = {
        str(row.config.model): row.forecast.profile_seconds if pays and _may_share_pass(config, row) else 0.0
        for row in rows
    }
    loads = [one.load_seconds for one in forecasts]
    prepares = [None if one.evaluation is None else one.evaluation.prepare_seconds for one in forecasts]

    def add(seconds: Sequence[float | None]) -> float | None:
        """Of all trials."""
        if None in seconds:
            return None
        return sum((each or 0.0) * count for each, count in zip(seconds, counts, strict=False))

    parts = {
        "start": start_seconds,
        "load": None if None in loads else max(filter(None, loads), default=0.0),
        "prepare": None if None in prepares else max(filter(None, prepares), default=0.0),
        "profile": None if None in profiled.values() else sum(filter(None, profiled.values())),
        "bases": None if None in bases.values() else sum(filter(None, bases.values())),
        "training": add([one.train_seconds for one in forecasts]),
        "heldout": add([one.heldout_seconds for one in forecasts]),
        "tasks": add([one.task_seconds for one in forecasts]),
    }
    return None if None in parts.values() else PlannedParts(**{name: seconds or 0.0 for name, seconds in parts.items()})


def _find_wall_seconds(parts: PlannedParts, num_workers: int) -> float:
    """Each worker starts, loads, prepares and profiles for itself; the trials and the bases' scores are divided."""
    once = parts.start + parts.load + parts.prepare + parts.profile
    return once + (parts.bases + parts.training + parts.heldout + parts.tasks) / num_workers


def _may_end_early(config: StudyConfig) -> bool:
    """True where a trial may end before its last step."""
    is_limited = config.executor.trial_seconds is not None or config.training.patience is not None
    return is_limited or config.pruner.name != "none" or "training.patience" in config.space


def sum_times(
    config: StudyConfig, rows: Sequence[PlanRow], num_trials: int, listed: bool, start_seconds: float | None
) -> StudyTimes:
    """Of the settings with their seeds where they are `listed`, else of `num_trials` at the configured point.

    `start_seconds`: of a worker's imports.
    """
    counts = [row.num_seeds for row in rows] if listed else [num_trials]
    times = [row.forecast.train_seconds for row in rows]
    trained = None
    if None not in times:
        trained = sum((seconds or 0.0) * count for seconds, count in zip(times, counts, strict=False))
    num_workers = len(list_placements(config))
    parts = find_parts(config, rows, counts, start_seconds) if num_workers else None
    wall = None if parts is None else _find_wall_seconds(parts, min(num_workers, max(1, sum(counts))))
    return StudyTimes(trained, wall, parts, _may_end_early(config))


def describe_time(times: StudyTimes, num_workers: int) -> str:
    """Such as `1:02:03 in all; the study 0:34:12 with 2 workers`."""
    trained = f"{DASH if times.training is None else format_clock(times.training)} in all"
    if times.study is None:
        return trained
    most = "at most " if times.is_bound else ""
    return f"{trained}; the study {most}{format_clock(times.study)} with {count_noun(num_workers, 'worker')}"


def describe_parts(times: StudyTimes) -> list[str]:
    """What the study's time is made of, in sentences."""
    parts = times.parts
    if parts is None:
        return ["The study's time is not known: a part of it cannot be measured here."]
    shared = {"the bases' scores": parts.bases, "training": parts.training, "held-out losses": parts.heldout}
    shared |= {"tasks": parts.tasks}
    once = {"starting Python": parts.start, "loading": parts.load, "reading tasks": parts.prepare}
    once |= {"measuring trials at once": parts.profile}
    early = ["Trials may end early: the study takes at most so long."] if times.is_bound else []
    return [
        f"In each worker: {_join_clocks(once)}. Divided among the workers: {_join_clocks(shared)}. These are of this "
        "machine doing nothing else, from short measurements and counted tokens, without the report at the end.",
        *early,
    ]


def _join_clocks(seconds: dict[str, float]) -> str:
    return ", ".join(f"{name} {format_clock(each)}" for name, each in seconds.items() if each > 0)


def describe_tasks(rows: Sequence[PlanRow]) -> list[str]:
    """What each task asks of a trial, by items and tokens."""
    known = dict.fromkeys(task for row in rows if row.forecast.evaluation for task in row.forecast.evaluation.tasks)
    words = [
        f"{task.task} {task.num_items:,} items, {task.num_tokens:,} tokens read"
        + (f", {task.num_steps:,} to {task.most_steps:,} steps written" if task.most_steps else "")
        for task in known
    ]
    lines = [f"Tasks of a trial: {'; '.join(words)}."] if words else []
    if any(task.most_steps > task.num_steps for task in known):
        lines.append("Responses are taken to be as long as the right answers; longer ones take longer.")
    return lines
