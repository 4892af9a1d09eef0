"""Which of a cohort's trials train now, and what an error leaves of a trial."""

import logging
import traceback
from collections.abc import Sequence
from pathlib import Path

import torch

from sweeplab.records.record import Status, TrialRecord
from sweeplab.records.store import StoreError, write_text
from sweeplab.runtime.errors import ConfigError, describe_error, describe_error_with_kind
from sweeplab.training.running_trial import RunningTrial

_log = logging.getLogger(__name__)


def record_failure(record: TrialRecord, error: Exception, folder: Path) -> TrialRecord:
    """The record of a trial that an error ended. Raises `ConfigError` and `StoreError`: a mistake of the user's, and a
    disk that takes nothing more, stop the study."""
    if isinstance(error, ConfigError | StoreError):
        raise error
    if isinstance(error, torch.OutOfMemoryError):
        record.status, record.reason = Status.OUT_OF_MEMORY, describe_error(error)
        return record
    record.status, record.reason = Status.FAILED, describe_error_with_kind(error)
    write_text(folder / "traceback.txt", "".join(traceback.format_exception(error)))
    _log.error("trial %d failed", record.number, exc_info=error)
    return record


def choose_active(trials: Sequence[RunningTrial], capacity: int | None) -> list[RunningTrial]:
    """Which of the trials train now, at most `capacity` of them; None: all.

    Those that are as far in the same data as the first one come first: their batches are as wide as each one's own, so
    nothing is padded for another's sake, and a trial's sums are rounded as when it trains by itself. Others join only
    where fewer than half of `capacity` would train.
    """

    def is_alike(trial: RunningTrial) -> bool:
        return (trial.spec.seed, trial.step) == (trials[0].spec.seed, trials[0].step)

    most = len(trials) if capacity is None else capacity
    alike = [trial for trial in trials if is_alike(trial)][:most]
    others = [trial for trial in trials if not is_alike(trial)] if 2 * len(alike) < most else []
    return [*alike, *others][:most]
