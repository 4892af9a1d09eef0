"""Costs of settings: which time and which memory are reported for a study."""

import math
import statistics

import numpy as np

from sweeplab.records.record import TrialRecord
from sweeplab.report.evidence.settings import Setting, collect_records, read_number, read_numbers
from sweeplab.statistics.intervals import Array

TRAIN_SECONDS = "phases.train.seconds"
STEP_SECONDS = "solo.step_seconds"
STEP_PROCESSOR_SECONDS = "solo.step_processor_seconds"
TENSOR_BYTES = "solo.peak_allocated_bytes"
_MEMORY_METRICS = (
    "phases.train.peak_allocated_bytes",
    TENSOR_BYTES,
    "phases.train.peak_resident_bytes",
    "phases.train.peak_reserved_bytes",
)
_SOLO_MEMORY_METRICS = (TENSOR_BYTES, "solo.peak_resident_bytes")
WHOLE_TRAINING = "over its whole training"  # said of what `read_stand_in` gives
_OF_TRAINING = {
    "solo.peak_resident_bytes": "phases.train.peak_resident_bytes",
    TENSOR_BYTES: "phases.train.peak_allocated_bytes",
}
_RESIDENT = "peak_resident_bytes"  # moves by tens of MB from run to run, so that it ranks nothing


def has_shared_training(records: list[TrialRecord]) -> bool:
    """True where a trial trained together with others, so that only short measurements of single trials compare."""
    return any(record.trained_among_others for record in records)


def choose_time_metric(records: list[TrialRecord]) -> str:
    """The time that is reported for the study: of the training or, where trials trained together, of one step."""
    return STEP_SECONDS if has_shared_training(records) else TRAIN_SECONDS


def choose_memory_metric(records: list[TrialRecord]) -> str | None:
    """The memory that is reported for the study: of tensors where measured, else of the process."""
    return next(iter(_list_memory_metrics(records)), None)


def choose_resident_metric(records: list[TrialRecord]) -> str | None:
    """The resident set that is reported beside what tensors held; None where it is the memory itself, or unknown."""
    first, *others = _list_memory_metrics(records) or [""]
    return next((name for name in others if first == TENSOR_BYTES and name.endswith(_RESIDENT)), None)


def _list_memory_metrics(records: list[TrialRecord]) -> list[str]:
    """Those that were measured, the one to report first."""
    measured = {name for record in records for name in read_numbers(record)}
    names = _SOLO_MEMORY_METRICS if has_shared_training(records) else _MEMORY_METRICS
    return [name for name in names if name in measured]


def read_stand_in(record: TrialRecord, metric: str) -> float | None:
    """Of a trial that had the base for itself, and was not measured for a few steps alone: its training's own memory,
    and for a step's seconds those of its training by its steps. Shown beside the others, and ranks nothing."""
    if record.solo is not None or record.trained_among_others:
        return None
    if metric == STEP_SECONDS:
        seconds = read_number(record, TRAIN_SECONDS)
        return seconds / record.step if seconds is not None and record.step else None
    return read_number(record, _OF_TRAINING[metric]) if metric in _OF_TRAINING else None


def stand_in_mean(setting: Setting, metric: str) -> float | None:
    """The mean of `read_stand_in` over the finished trials of the setting; None where it has none."""
    values = [value for record in setting.finished if (value := read_stand_in(record, metric)) is not None]
    return statistics.fmean(values) if values else None


def mean_by_setting(settings: list[Setting], metric: str | None) -> Array:
    """The mean of the metric for each setting; NaN where it was not measured."""
    spreads = [None if metric is None else setting.spreads.get(metric) for setting in settings]
    return np.array([math.nan if spread is None else spread.mean for spread in spreads])


def list_cost_metrics(settings: list[Setting]) -> list[str]:
    """The memory and the time by which settings are compared; one that was not measured is left out, and a resident
    set is none of them. Of a step it is the processor's time where that is known: other work hardly adds to it."""
    records = collect_records(settings)
    time = choose_time_metric(records)
    if time == STEP_SECONDS and not np.isnan(mean_by_setting(settings, STEP_PROCESSOR_SECONDS)).any():
        time = STEP_PROCESSOR_SECONDS
    names = [choose_memory_metric(records), time]
    ranking = [name for name in names if name is not None and not name.endswith(_RESIDENT)]
    return [name for name in ranking if not np.isnan(mean_by_setting(settings, name)).all()]
