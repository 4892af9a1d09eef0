"""Chooses the trials of a cohort that train next, and records a trial that failed."""

import logging
import traceback
from collections.abc import Sequence
from pathlib import Path

from sweeplab.records.record import Status, TrialRecord
from sweeplab.records.store import StoreError, write_text
from sweeplab.runtime.errors import ConfigError, StudyRefused, describe_error, describe_error_with_kind
from sweeplab.runtime.out_of_memory import is_out_of_memory
from sweeplab.training.running_trial import RunningTrial

_log = logging.getLogger(__name__)


def record_failure(record: TrialRecord, error: Exception, folder: Path) -> TrialRecord:
    """Completes the record of a trial that ended with `error`, and writes the traceback into its folder.

    A `ConfigError` makes it a refused trial, without a traceback. A `StudyRefused` or `StoreError` is raised again: a
    mistake in every trial or a full disk stops the whole study.
    """
    if isinstance(error, StudyRefused | StoreError):
        raise error
    if isinstance(error, ConfigError):
        record.status, record.reason = Status.REFUSED, describe_error(error)
        return record
    if is_out_of_memory(error):
        record.status, record.reason = Status.OUT_OF_MEMORY, describe_error(error)
        return record
    record.status, record.reason = Status.FAILED, describe_error_with_kind(error)
    text = "".join(traceback.format_exception(error))
    write_text(folder / "traceback.txt", text)
    _log.error("trial %d failed\n%s", record.number, text)  # not the error: who keeps log records would keep tensors
    return record


def choose_active(trials: Sequence[RunningTrial], capacity: int | None) -> list[RunningTrial]:
    """The trials that train next, at most `capacity` of them (None: all).

    Trials with the seed and step of the first one are preferred. They read the same rows, so no row is padded to the
    length of another trial's row, and sums are rounded as in a trial that trains by itself. Other trials are added
    only where these fill less than half of `capacity`.
    """

    def is_alike(trial: RunningTrial) -> bool:
        return (trial.spec.seed, trial.step) == (trials[0].spec.seed, trials[0].step)

    most = len(trials) if capacity is None else capacity
    alike = [trial for trial in trials if is_alike(trial)][:most]
    others = [trial for trial in trials if not is_alike(trial)] if 2 * len(alike) < most else []
    return [*alike, *others][:most]
