"""What a setting costs: the time and the memory that are reported for the whole study."""

import math

import numpy as np

from sweeplab.records.record import TrialRecord
from sweeplab.report.evidence.settings import Setting, collect_records, read_numbers
from sweeplab.statistics.intervals import Array

TRAIN_SECONDS = "phases.train.seconds"
STEP_SECONDS = "solo.step_seconds"
_MEMORY_METRICS = (
    "phases.train.peak_allocated_bytes",
    "phases.train.peak_resident_bytes",
    "phases.train.peak_reserved_bytes",
)
_SOLO_MEMORY_METRICS = ("solo.peak_allocated_bytes", "solo.peak_resident_bytes")


def has_shared_training(records: list[TrialRecord]) -> bool:
    """True where trials trained among others, so that only their probes compare them with the rest."""
    return any(record.trained_among_others for record in records)


def choose_time_metric(records: list[TrialRecord]) -> str:
    """The time that is reported for the whole study: of the training, or of a step alone."""
    return STEP_SECONDS if has_shared_training(records) else TRAIN_SECONDS


def choose_memory_metric(records: list[TrialRecord]) -> str | None:
    """The memory that is reported for the whole study: GPU tensors where measured, else the process's memory."""
    measured = {name for record in records for name in read_numbers(record)}
    names = _SOLO_MEMORY_METRICS if has_shared_training(records) else _MEMORY_METRICS
    return next((name for name in names if name in measured), None)


def mean_by_setting(settings: list[Setting], metric: str | None) -> Array:
    """The metric's mean by setting; NaN where it has none."""
    spreads = [None if metric is None else setting.spreads.get(metric) for setting in settings]
    return np.array([math.nan if spread is None else spread.mean for spread in spreads])


def list_cost_metrics(settings: list[Setting]) -> list[str]:
    """Memory and time as they are reported for the study, as far as they were measured."""
    records = collect_records(settings)
    names = [choose_memory_metric(records), choose_time_metric(records)]
    return [name for name in names if name is not None and not np.isnan(mean_by_setting(settings, name)).all()]
