"""The report's files, from templates."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from sweeplab.records.items import Items, items_to_dict
from sweeplab.records.record import BaseScore, StudyFacts, TrialRecord
from sweeplab.records.store import write_json, write_text
from sweeplab.report.charts.chart import Chart
from sweeplab.report.charts.drawing import draw_chart
from sweeplab.report.charts.figures import build_study_charts, draw_figures
from sweeplab.report.evidence.estimates import Evidence, gather_comparable_evidence
from sweeplab.report.evidence.provenance import flatten_values, list_provenance
from sweeplab.report.evidence.settings import Setting, first_objective, group_by_setting, keep_allowed
from sweeplab.report.findings.answer import state_answer
from sweeplab.report.findings.budgets import build_budget_tables, build_forgetting_table, build_pareto_table
from sweeplab.report.findings.claims_table import build_claims_table, list_published_values
from sweeplab.report.findings.comparison import build_comparison_table
from sweeplab.report.findings.differences import build_differences_table
from sweeplab.report.findings.failures import build_failures_table
from sweeplab.report.findings.glossary import explain_terms
from sweeplab.report.findings.importance import (
    Importance,
    build_effects_table,
    build_importance_table,
    describe_importance,
    measure_importance,
)
from sweeplab.report.findings.settings_table import build_settings_table
from sweeplab.report.findings.setup import describe_setup
from sweeplab.report.findings.table import Table
from sweeplab.report.findings.trials_table import build_phases_table, build_trials_table, title_phases
from sweeplab.report.findings.verdicts import Verdict, judge_claims
from sweeplab.report.templating import html_environment, markdown_environment

CLAIMS_NOTE: Final = (
    "The 95 % interval of our effect lies within what is claimed: supported; wholly outside: contradicted; else "
    "inconclusive. That two settings are the same within a margin is judged by the 90 % interval, which is two "
    "one-sided tests at 5 %. Each claim is judged for itself."
)
COMPARED_NOTE: Final = (
    "Seeds and items needed: to find the difference as seen 80 % of the time, in a study of these two settings alone, "
    "seeds with as many items as here; the true difference may be smaller than the one seen, and would need more. A "
    "dash: no difference, not known, or more than 1,000 seeds, as where the items alone leave too much to chance."
)
FORGETTING_NOTE: Final = "data.retained_tasks measure what should have been kept; every score is with its interval."
EFFECTS_NOTE: Final = "Analysis of variance with seeds as blocks; p by F tests, Holm's correction over the effects."
UNEQUAL_NOTE: Final = (
    " Some settings spread more than the others here (own spread), for which F tests are not made: read p with care."
)
STUDIES_NOTE: Final = (
    "All values that the trials of a study have. Where something differs that has to be alike, a difference in scores "
    "may be due to it. Trial numbers: the second study's begin at 100, or at the next power of ten that leaves room."
)
PARETO_NOTE: Final = (
    "No other setting is at least as good in all columns and better in one, by the means, noise included."
)
BUDGET_NOTE: Final = "By the means of the settings that were run; the intervals say how certain the order is."
MANY_SETTINGS: Final = 20  # whose table fills more than a screen, and comes after the figures


class _Section(NamedTuple):
    """A table with its heading and what it means."""

    title: str
    note: str
    table: Table | None
    minor: bool = False  # belongs to the section before it


@dataclass(frozen=True)
class _ReportContent:
    """What both pages are made of; evidence on the first objective is by `group_comparable`'s families."""

    facts: StudyFacts
    records: list[TrialRecord]
    items: Items | None
    bases: Sequence[BaseScore]
    settings: list[Setting]
    judged: list[Verdict]
    evidence: dict[str, Evidence]  # of all settings
    ranked: dict[str, Evidence]  # of those that keep the study's constraints
    shares: list[Importance]


def _gather_content(
    facts: StudyFacts, records: list[TrialRecord], items: Items | None, bases: Sequence[BaseScore]
) -> _ReportContent:
    settings = group_by_setting(facts, records)
    judged = judge_claims(facts, settings, items)
    objective, allowed = first_objective(facts)[0], keep_allowed(facts, settings)
    evidence = gather_comparable_evidence(facts, settings, objective, items)
    ranked = evidence if allowed == settings else gather_comparable_evidence(facts, allowed, objective, items)
    shares = measure_importance(facts, records) if list(evidence) == [""] else []
    return _ReportContent(facts, records, items, bases, settings, judged, evidence, ranked, shares)


def write_pages(
    facts: StudyFacts,
    records: list[TrialRecord],
    folder: Path,
    items: Items | None = None,
    bases: Sequence[BaseScore] = (),
) -> Path:
    """Writes the files; gives the path of report.html. Raises `StoreError`."""
    records = sorted(records, key=lambda record: record.number)
    made = _gather_content(facts, records, items, bases)
    drawn = build_study_charts(facts, made.settings, list_published_values(made.judged), bases) if records else []
    values = _list_values(made)
    stored = {
        "study": facts.to_dict(),
        "bases": [one.to_dict() for one in bases],
        "records": [one.to_dict() for one in records],
    }
    write_json(folder / "records.json", stored)
    if items is None:
        (folder / "items.json").unlink(missing_ok=True)
    else:
        write_json(folder / "items.json", items_to_dict(items))
    picture = drawn[0] if drawn else None
    if picture is None:
        (folder / "score.svg").unlink(missing_ok=True)
    else:
        write_text(folder / "score.svg", draw_chart(picture))
    write_text(
        folder / "report.md", markdown_environment().get_template("report.md.j2").render(values, picture=picture)
    )
    write_text(folder / "report.html", _render_html(made, values, drawn))
    return folder / "report.html"


def _render_html(made: _ReportContent, values: dict[str, Any], drawn: list[Chart]) -> str:
    """The HTML; figures are drawn before, so that the page's template only places them."""
    shown = list(draw_figures(made.facts, made.settings, drawn, made.ranked, made.shares)) if drawn else []
    figures_first = len(made.settings) > MANY_SETTINGS and bool(shown)
    template = html_environment().get_template("report.html.j2")
    return template.render(values, figures=shown, figures_first=figures_first)


def _list_values(made: _ReportContent) -> dict[str, Any]:
    """What both pages say."""
    facts, records = made.facts, made.records
    settings = build_settings_table(facts, made.settings, bases=made.bases)
    return {
        "facts": facts,
        "setup": describe_setup(records),
        "answer": state_answer(facts, made.settings, made.items),
        "settings": settings,
        "has_wide": any("own spread" in cell.note for row in settings.rows for cell in row),
        "sections": [section for section in _list_sections(made) if section.table is not None],
        "failures": build_failures_table(records),
        "trials": build_trials_table(facts, records),
        "phases": build_phases_table(records),
        "phases_title": title_phases(records),
        "provenance": list_provenance(records),
        "config": flatten_values(facts.config),
        "reading": explain_terms(facts, records),
        "has_items": made.items is not None,
    }


def _list_sections(made: _ReportContent) -> Iterator[_Section]:
    """The findings between the settings and the trials; a table of None is not shown."""
    facts = made.facts
    yield _Section("What differs between the studies", STUDIES_NOTE, build_differences_table(facts, made.records))
    yield _Section("Claims", CLAIMS_NOTE, build_claims_table(made.judged))
    if not made.evidence:
        return
    for label, found in made.ranked.items():
        compared = found.compared()
        if compared is not None:
            yield _Section(
                _join_title("Against the best", label), COMPARED_NOTE, build_comparison_table(found, compared)
            )
    yield _Section(
        "Forgetting beside learning", FORGETTING_NOTE, build_forgetting_table(facts, made.settings, made.items)
    )
    yield _Section(
        "Importance of what was varied", describe_importance(facts, made.records), build_importance_table(made.shares)
    )
    if "" in made.evidence:
        note = EFFECTS_NOTE + (UNEQUAL_NOTE if _has_unequal_spreads(made.evidence[""]) else "")
        yield _Section("Main effects and interactions", note, build_effects_table(facts, made.evidence[""]))
    for label, found in made.ranked.items():
        yield _Section(_join_title("Pareto front", label), PARETO_NOTE, build_pareto_table(facts, found))
        for title, table in build_budget_tables(found):
            yield _Section(_join_title(title, label), BUDGET_NOTE, table, minor=True)


def _join_title(title: str, label: str) -> str:
    return f"{title}, {label}" if label else title


def _has_unequal_spreads(evidence: Evidence) -> bool:
    return any(one.is_wide for one in evidence.estimates)
