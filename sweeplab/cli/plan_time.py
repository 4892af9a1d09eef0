"""What a study takes: training of all its trials, and wall time with the workers that there are."""

from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from sweeplab.cli.plan_tables import PlanRow
from sweeplab.config.executor import LocalWorkers
from sweeplab.config.study import StudyConfig
from sweeplab.execution.placement import Placement, choose_placements
from sweeplab.report.evidence.formatting import DASH, count_noun
from sweeplab.runtime.errors import ConfigError
from sweeplab.tracking.pace import format_clock


class StudyTimes(NamedTuple):
    """Seconds; None where a part of them is unknown."""

    training: float | None  # of all trials one after another
    study: float | None  # on the wall


def _sum_seconds(rows: Sequence[PlanRow], num_trials: int, listed: bool) -> float | None:
    """Training time of all trials; of `num_trials` at the configured point where the settings are not listed."""
    times = [row.forecast.train_seconds for row in rows if row.forecast.train_seconds is not None]
    if len(times) < len(rows):
        return None
    if not listed:
        return num_trials * times[0]
    return sum(seconds * row.num_seeds for seconds, row in zip(times, rows, strict=True))


def list_placements(config: StudyConfig) -> list[Placement]:
    """Workers of this machine; none where others do the work, or where it cannot measure what the study asks for."""
    if isinstance(config.executor, LocalWorkers):
        with suppress(ConfigError):
            return choose_placements(config)
    return []


def _sum_study_seconds(rows: Sequence[PlanRow], num_trials: int, listed: bool, num_workers: int) -> float | None:
    """Wall seconds of the study: each worker loads the base, one scores its held-out loss, and the trials train and
    measure theirs, in equal parts. None where a part is unknown."""
    parts = [(row.forecast.train_seconds, row.forecast.heldout_seconds) for row in rows]
    loads = [row.forecast.load_seconds for row in rows]
    bases = {
        str((row.config.model, row.config.quantization, row.config.data)): row.forecast.base_seconds for row in rows
    }
    if num_workers == 0 or None in loads or any(None in pair for pair in parts) or None in bases.values():
        return None
    trials = [sum(filter(None, pair)) for pair in parts]
    counts = [row.num_seeds for row in rows] if listed else [num_trials]
    busy = sum(seconds * count for seconds, count in zip(trials, counts, strict=False))
    return max(filter(None, loads), default=0.0) + sum(filter(None, bases.values())) + busy / num_workers


def sum_times(rows: Sequence[PlanRow], num_trials: int, listed: bool, num_workers: int) -> StudyTimes:
    """Of the settings with their seeds where they are `listed`, else of `num_trials` at the configured point."""
    trained = _sum_seconds(rows, num_trials, listed)
    return StudyTimes(trained, _sum_study_seconds(rows, num_trials, listed, num_workers))


def describe_time(times: StudyTimes, num_workers: int) -> str:
    """Such as `1:02:03 in all; the study 0:34:12 with 2 workers`."""
    trained = f"{DASH if times.training is None else format_clock(times.training)} in all"
    if times.study is None:
        return trained
    return f"{trained}; the study {format_clock(times.study)} with {count_noun(num_workers, 'worker')}"
