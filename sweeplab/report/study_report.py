"""A study's report from its records: the files, and the table and the answer that a terminal shows.

The pages are imported where they are written, so that the driver gets the terminal's table without jinja2.
"""

from collections.abc import Sequence
from pathlib import Path

from sweeplab.records.items import Items
from sweeplab.records.record import BaseScore, StudyFacts, TrialRecord
from sweeplab.report.evidence.settings import group_by_setting
from sweeplab.report.evidence.stored import read_stored_study
from sweeplab.report.findings.answer import state_answer
from sweeplab.report.findings.settings_table import build_settings_table
from sweeplab.report.findings.table import Table


def write_report(
    facts: StudyFacts,
    records: list[TrialRecord],
    folder: Path,
    items: Items | None = None,
    bases: Sequence[BaseScore] = (),
) -> Path:
    """Writes report.html, report.md, score.svg, records.json and items.json into `folder`; the path of report.html.

    `items` are the trials' results item by item, as `read_items` gives them; without them differences are judged
    by seeds alone, and no items.json is written. `bases` are what the base models score without an adapter. The same
    arguments give the same bytes. Raises `StoreError` naming the file that cannot be written.
    """
    from sweeplab.report.pages import write_pages

    return write_pages(facts, records, folder, items, bases)


def rebuild_report(folder: Path, into: Path | None = None) -> Path:
    """Writes the report again from a study's folder of runs, or from an earlier report's own records.

    `into`: where to; None: into `folder`. Raises `StoreError` naming the file where `folder` holds neither.
    """
    stored = read_stored_study(folder)
    return write_report(*stored[:2], folder if into is None else into, stored.items, stored.bases)


def summarize_settings(facts: StudyFacts, records: list[TrialRecord]) -> Table:
    """The settings as a narrow table for a terminal: one line per setting, the objectives only."""
    return build_settings_table(facts, group_by_setting(facts, records), brief=True)


def summarize_answer(facts: StudyFacts, records: list[TrialRecord], items: Items | None = None) -> list[str]:
    """What was found, in sentences: the first one answers, the others say how far to trust it."""
    return state_answer(facts, group_by_setting(facts, records), items)
