"""Records to a report: tables, figures and one honest sentence, as Markdown and as one HTML file.

The imports are inside the functions, so that the driver gets the terminal table without jinja2 and plotly.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from sweeplab.records import StudyFacts, TrialRecord

if TYPE_CHECKING:
    from sweeplab.report.tables import Table

__all__ = ["summary_answer", "summary_table", "write_report"]


def write_report(facts: StudyFacts, records: list[TrialRecord], folder: Path) -> Path:
    """Writes report.html, report.md, score.svg and records.json into `folder`; gives the path of report.html.

    The same facts and records give the same bytes. Raises `StoreError` naming the file that cannot be written.
    """
    from sweeplab.report.pages import write_pages

    return write_pages(facts, records, folder)


def summary_table(facts: StudyFacts, records: list[TrialRecord]) -> "Table":
    """The settings as a narrow table for a terminal: one line per setting, the objectives only."""
    from sweeplab.report.settings import group
    from sweeplab.report.tables import settings_table

    return settings_table(facts, group(facts, records), brief=True)


def summary_answer(facts: StudyFacts, records: list[TrialRecord]) -> list[str]:
    """What was found, in sentences: the first one answers, the others say how far to trust it."""
    from sweeplab.report.answer import answer
    from sweeplab.report.settings import group

    return answer(facts, group(facts, records))
