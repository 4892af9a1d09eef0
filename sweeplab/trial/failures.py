"""Records a trial that failed, or ends the study where no trial is at fault."""

import logging
import traceback
from pathlib import Path

from sweeplab.records.record import Status, TrialRecord
from sweeplab.records.store import StoreError, write_text
from sweeplab.runtime.errors import (
    ConfigError,
    StudyRefused,
    describe_error,
    describe_error_with_kind,
    find_full_disk,
)
from sweeplab.runtime.out_of_memory import is_out_of_memory

_log = logging.getLogger(__name__)


def raise_what_ends_the_study(error: Exception, folder: Path) -> None:
    """Raises `StudyRefused` and `StoreError` again: a mistake in every trial or a full disk stops the whole study.

    Also where a library met the full disk: no setting is at fault, and the same command runs the trial again.
    """
    if isinstance(error, StudyRefused | StoreError):
        raise error
    full = find_full_disk(error)
    if full is not None:
        where = full.filename or folder
        raise StoreError(f"{where} cannot be written: {full.strerror}; free space or choose another folder") from error


def record_failure(record: TrialRecord, error: Exception, folder: Path) -> TrialRecord:
    """Completes the record of a trial that ended with `error`, and writes the traceback into its folder.

    A `ConfigError` makes it a refused trial, without a traceback. Raises as `raise_what_ends_the_study`.
    """
    raise_what_ends_the_study(error, folder)
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
