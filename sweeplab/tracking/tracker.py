"""The interface of trackers, which mirror a study elsewhere, and the tracker that does nothing."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from sweeplab.config.trial import TrialConfig
from sweeplab.records.items import Items
from sweeplab.records.record import BaseScore, StudyFacts, TrialRecord


class ReportedStudy(NamedTuple):
    """The facts, records and report of a study that has ended."""

    facts: StudyFacts
    records: list[TrialRecord]
    items: Items | None
    bases: list[BaseScore]
    page: Path  # report.html, in the report's folder


class Tracker(Protocol):
    """Is called with the events of a study's trials, and with its report."""

    def started(self, number: int, params: dict[str, Any], seed: int, config: TrialConfig) -> None: ...
    def observed(self, number: int, step: int, values: dict[str, float]) -> None: ...
    def ended(self, record: TrialRecord) -> None: ...
    def reported(self, study: ReportedStudy) -> None: ...
    def interrupted(self, numbers: Iterable[int] | None = None) -> None: ...


class NoTracker:
    """`tracking=none`."""

    def started(self, number: int, params: dict[str, Any], seed: int, config: TrialConfig) -> None:
        pass

    def observed(self, number: int, step: int, values: dict[str, float]) -> None:
        pass

    def ended(self, record: TrialRecord) -> None:
        pass

    def reported(self, study: ReportedStudy) -> None:
        pass

    def interrupted(self, numbers: Iterable[int] | None = None) -> None:
        pass
