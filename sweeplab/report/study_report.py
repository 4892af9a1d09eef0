"""Writes the report of a study; gives the table and the answer that the terminal shows.

Pages are imported only when they are written, so that the driver can show the table without importing jinja2.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from sweeplab.records.answer import StudyAnswer
from sweeplab.records.items import Items
from sweeplab.records.record import BaseScore, StudyFacts, TrialRecord
from sweeplab.report.evidence.settings import group_by_setting
from sweeplab.report.evidence.stored import StoredStudy, read_stored_study
from sweeplab.report.findings.answer import Answer, state_answer
from sweeplab.report.findings.answer_file import build_answer
from sweeplab.report.findings.next_steps import NextStep, list_next_steps
from sweeplab.report.findings.race import summarize_race
from sweeplab.report.findings.ranked import Ranking, rank_settings
from sweeplab.report.findings.settings_table import build_settings_table
from sweeplab.report.findings.table import Table


class Ending(NamedTuple):
    """The end of a study, for a terminal."""

    answer: Answer
    ranking: Ranking
    steps: list[NextStep]


def write_report(
    facts: StudyFacts,
    records: list[TrialRecord],
    folder: Path,
    items: Items | None = None,
    bases: Sequence[BaseScore] = (),
) -> Path:
    """Writes report.html, report.md, score.svg, records.json and items.json into `folder`; returns the path of
    report.html.

    Args:
        items: results by item, as `read_items` returns them. Without them, intervals cover seeds only, and items.json
            is not written.
        bases: scores of the base models without an adapter.

    The same arguments give the same bytes. Raises `StoreError` that names the file which cannot be written.
    """
    from sweeplab.report.pages import write_pages

    return write_pages(StoredStudy(facts, records, items, list(bases)), folder)


def render_live_report(study: StoredStudy | None, version: str) -> str:
    """The page of a report while its study runs, or before there is one, for `action=watch watch.page=true`.

    Its scripts are `report.js` and `live.js` beside it; `version` is what they compare with the present one.
    """
    if study is None:
        return render_live_file("waiting.html.j2", version)
    from sweeplab.report.pages import render_live_page

    return render_live_page(study, version)


def render_live_file(name: str, version: str = "") -> str:
    """A file of the live page: a script, or the page before there is a study."""
    from sweeplab.report.templating import html_environment

    return html_environment().get_template(name).render(version=version)


def write_index(folder: Path) -> Path:
    """Writes index.html, the page of all studies in a folder of reports; returns its path. Raises `StoreError`."""
    from sweeplab.report import index

    return index.write_index(folder)


def rebuild_report(folder: Path, into: Path | None = None) -> Path:
    """Writes the report again from a study's folder of runs, or from the records in an earlier report.

    `into` is the folder for it; None: `folder`. Raises `StoreError` where `folder` is neither.
    """
    stored = read_stored_study(folder)
    return write_report(stored.facts, stored.records, into or folder, stored.items, stored.bases)


def end_study(study: StoredStudy, most_settings: int) -> Ending:
    """What a terminal shows at the end: the answer, the best settings, and what to type next."""
    settings = group_by_setting(study.facts, study.records)
    return Ending(
        state_answer(study.facts, settings, study.items, study.bases),
        rank_settings(study.facts, settings, study.items, study.bases, most_settings),
        list_next_steps(study.facts, settings, study.items),
    )


def find_answer(study: StoredStudy) -> StudyAnswer:
    """The answer of a study for programs, as `answer.json` has it."""
    facts, settings = study.facts, group_by_setting(study.facts, study.records)
    stated = state_answer(facts, settings, study.items, study.bases)
    return build_answer(facts, settings, stated, study.items, summarize_race(facts, settings))


def summarize_settings(facts: StudyFacts, records: list[TrialRecord], items: Items | None = None) -> Table:
    """The settings as a narrow table for a terminal: one line for each setting, with the objectives only."""
    return build_settings_table(facts, group_by_setting(facts, records), brief=True, items=items)


def summarize_answer(
    facts: StudyFacts, records: list[TrialRecord], items: Items | None = None, bases: Sequence[BaseScore] = ()
) -> list[str]:
    """The result in sentences: the first one is the answer, the others say how certain it is."""
    return state_answer(facts, group_by_setting(facts, records), items, bases).sentences
