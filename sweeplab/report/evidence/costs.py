"""Costs of settings: which time and which memory are reported for a study."""

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
    """True where a trial trained together with others, so that only short measurements of single trials compare."""
    return any(record.trained_among_others for record in records)


def choose_time_metric(records: list[TrialRecord]) -> str:
    """The time that is reported for the study: of the training or, where trials trained together, of one step."""
    return STEP_SECONDS if has_shared_training(records) else TRAIN_SECONDS


def choose_memory_metric(records: list[TrialRecord]) -> str | None:
    """The memory that is reported for the study: of GPU tensors where measured, else of the process."""
    measured = {name for record in records for name in read_numbers(record)}
    names = _SOLO_MEMORY_METRICS if has_shared_training(records) else _MEMORY_METRICS
    return next((name for name in names if name in measured), None)


def mean_by_setting(settings: list[Setting], metric: str | None) -> Array:
    """The mean of the metric for each setting; NaN where it was not measured."""
    spreads = [None if metric is None else setting.spreads.get(metric) for setting in settings]
    return np.array([math.nan if spread is None else spread.mean for spread in spreads])


def list_cost_metrics(settings: list[Setting]) -> list[str]:
    """The memory and the time that are reported for the study; one that was not measured is left out."""
    records = collect_records(settings)
    names = [choose_memory_metric(records), choose_time_metric(records)]
    return [name for name in names if name is not None and not np.isnan(mean_by_setting(settings, name)).all()]
