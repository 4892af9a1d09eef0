"""What a study found, for whoever shows it elsewhere than in the report."""

from pathlib import Path
from typing import NamedTuple

from sweeplab.records.items import Items
from sweeplab.records.record import StudyFacts, TrialRecord


class Findings(NamedTuple):
    """A study's facts and records, and the page that was made of them."""

    facts: StudyFacts
    records: list[TrialRecord]
    items: Items | None
    page: Path  # report.html, in the report's folder
