"""The report's files, from templates."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from sweeplab.records.answer import StudyAnswer
from sweeplab.records.items import Items, items_to_dict
from sweeplab.records.record import BaseScore, Status, StudyFacts, TrialRecord
from sweeplab.records.store import make_folder, write_json, write_text
from sweeplab.report.charts.chart import Chart
from sweeplab.report.charts.figures import Figure, Lead, build_lead, build_study_charts, draw_figures
from sweeplab.report.evidence.estimates import Evidence, gather_comparable_evidence
from sweeplab.report.evidence.provenance import flatten_values, list_provenance
from sweeplab.report.evidence.settings import Setting, first_objective, group_by_setting, keep_allowed
from sweeplab.report.evidence.stored import StoredStudy
from sweeplab.report.findings.answer import state_answer
from sweeplab.report.findings.answer_file import build_answer
from sweeplab.report.findings.budgets import (
    EXPLAINED_FRONT,
    build_budget_tables,
    build_forgetting_table,
    build_pareto_table,
    describe_pareto,
)
from sweeplab.report.findings.certainty import EXPLAINED_CLAIMS, warn_of_averages
from sweeplab.report.findings.claims_table import build_claims_table, list_published_values
from sweeplab.report.findings.comparison import build_comparison_table
from sweeplab.report.findings.differences import build_differences_table
from sweeplab.report.findings.effects import EXPLAINED_EFFECTS, build_main_effects_table, build_pairs_table
from sweeplab.report.findings.failures import build_failures_table, build_notes_table
from sweeplab.report.findings.first_screen import build_first_screen
from sweeplab.report.findings.glossary import explain_terms
from sweeplab.report.findings.importance import (
    Importance,
    build_effects_table,
    build_importance_table,
    describe_importance,
    measure_importance,
)
from sweeplab.report.findings.race import summarize_race
from sweeplab.report.findings.settings_table import build_settings_table
from sweeplab.report.findings.setup import describe_setup
from sweeplab.report.findings.table import Table
from sweeplab.report.findings.trials_table import build_phases_table, build_trials_table, title_phases
from sweeplab.report.findings.verdicts import Verdict, judge_claims
from sweeplab.report.recipes.facts import NEEDED
from sweeplab.report.recipes.files import build_recipe_files
from sweeplab.report.templating import html_environment, markdown_environment

_CLAIMS_NOTE: Final = "Supported: the interval of our effect lies within what is claimed; contradicted: wholly outside."
_COMPARED: Final = (
    "Seeds and items needed: to find the difference as seen 80 % of the time, in a study of these two settings alone, "
    "seeds with as many items as here; the true difference may be smaller than the one seen, and would need more. A "
    "dash: no difference, not known, or more than 1,000 seeds, as where the items alone leave too much to chance."
)
_FORGETTING_NOTE: Final = "data.retained_tasks measure what should have been kept; every score is with its interval."
_EFFECTS_NOTE: Final = "p below 0.05: more than the seeds do."
_EFFECTS: Final = (
    "Analysis of variance with seeds as blocks. Each effect is tested against what the seeds do to effects of as many "
    "keys; p by F tests, Holm's correction over the effects, however often one looks."
)
_STUDIES_NOTE: Final = (
    "All values that the trials of a study have. Where something differs that has to be alike, a difference in scores "
    "may be due to it. Trial numbers: the second study's begin at 100, or at the next power of ten that leaves room."
)
_BUDGET: Final = (
    "Surely fits: the upper end of the cost's 95 % interval is within the budget (a counted size is exact); may fit: "
    "only the lower end is. A busy machine slows all settings down, and is not in these intervals."
)
_NOTES_NOTE: Final = (
    "What was read and left out, and where a slower way of computing was taken: a faster one is used only where it "
    "gives the same numbers for this model."
)
_MOST_ROWS: Final = 20  # of a table, that are shown before a reader asks for all


class _Section(NamedTuple):
    """A table with its heading and what it says."""

    title: str
    note: str
    table: Table | None
    minor: bool = False  # belongs to the section before it
    method: tuple[str, str] | None = None  # a term with what stands behind it, for the page's end


@dataclass(frozen=True)
class _ReportContent:
    """What both pages show; evidence and ranked are of the first objective, by group of `group_comparable`."""

    facts: StudyFacts
    records: list[TrialRecord]
    items: Items | None
    bases: Sequence[BaseScore]
    settings: list[Setting]
    judged: list[Verdict]
    evidence: dict[str, Evidence]  # of all settings
    ranked: dict[str, Evidence]  # of those that keep the study's constraints
    shares: list[Importance]


def _gather_content(stored: StoredStudy) -> _ReportContent:
    facts, records, items, bases = stored
    settings = group_by_setting(facts, records)
    judged = judge_claims(facts, settings, items)
    objective, allowed = first_objective(facts)[0], keep_allowed(facts, settings)
    evidence = gather_comparable_evidence(facts, settings, objective, items)
    ranked = evidence if allowed == settings else gather_comparable_evidence(facts, allowed, objective, items)
    shares = measure_importance(facts, records) if list(evidence) == [""] else []
    return _ReportContent(facts, records, items, bases, settings, judged, evidence, ranked, shares)


def _write_recipe(records: list[TrialRecord], answer: StudyAnswer, folder: Path) -> None:
    """The leading setting of a race as files for other trainers. Raises `StoreError`."""
    numbers = set(answer.leading.trials) if answer.leading is not None else set()
    trial = next((one for one in records if one.number in numbers and one.status is Status.FINISHED), None)
    if trial is None or not trial.config.keys() >= NEEDED:
        return
    words = " ".join(f"{answer.statement} (sweeplab, study {answer.study}, trial {trial.number})".split())
    make_folder(folder)
    for name, text in build_recipe_files(trial, words).items():
        write_text(folder / name, text)


def render_live_page(study: StoredStudy, version: str) -> str:
    """report.html of a study as it stands, with room for what runs now, and the script that fills it."""
    content = _gather_content(study._replace(records=sorted(study.records, key=lambda record: record.number)))
    values = _list_values(content) | {"version": version}
    return _render_html(content, values, _draw_charts(content), _build_lead(content), "live.html.j2")


def _draw_charts(content: _ReportContent) -> list[Chart]:
    if not content.records:
        return []
    published = list_published_values(content.judged)
    return build_study_charts(content.facts, content.settings, published, content.bases, content.ranked, content.items)


def _build_lead(content: _ReportContent) -> Lead | None:
    if not content.records:
        return None
    return build_lead(content.facts, content.settings, content.bases, content.ranked, content.items)


def write_pages(study: StoredStudy, folder: Path) -> Path:
    """Writes the files of `write_report`; returns the path of report.html. Raises `StoreError`."""
    facts, _, items, bases = study
    records = sorted(study.records, key=lambda record: record.number)
    content = _gather_content(study._replace(records=records))
    drawn, values = _draw_charts(content), _list_values(content)
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
    race = summarize_race(facts, content.settings)
    answer = build_answer(facts, content.settings, values["answer"], items, race)
    write_json(folder / "answer.json", answer.to_dict())
    if race is not None:
        _write_recipe(records, answer, folder / "recipe")
    lead = _build_lead(content)
    picture = None if lead is None else lead.draw_picture()
    if picture is None:
        (folder / "score.svg").unlink(missing_ok=True)
    else:
        write_text(folder / "score.svg", picture.svg)
    write_text(
        folder / "report.md", markdown_environment().get_template("report.md.j2").render(values, picture=picture)
    )
    write_text(folder / "report.html", _render_html(content, values, drawn, lead))
    return folder / "report.html"


def _render_html(
    content: _ReportContent,
    values: dict[str, Any],
    drawn: list[Chart],
    lead: Lead | None,
    name: str = "report.html.j2",
) -> str:
    """The HTML; figures are drawn before, so that the page's template only places them."""
    shown: list[Figure] = []
    if content.records:
        shown = list(draw_figures(content.facts, content.settings, drawn, content.ranked, content.shares, lead))
    screen = build_first_screen(content.facts, content.settings, content.bases, content.items)
    template = html_environment().get_template(name)
    drawing = None if lead is None else lead.draw()
    return template.render(values, figures=shown, lead=drawing, screen=screen, most_rows=_MOST_ROWS)


def _list_values(content: _ReportContent) -> dict[str, Any]:
    """What both pages say."""
    facts, records = content.facts, content.records
    settings = build_settings_table(facts, content.settings, bases=content.bases, items=content.items)
    sections = [section for section in _list_sections(content) if section.table is not None]
    methods = dict.fromkeys(section.method for section in sections if section.method is not None)
    return {
        "facts": facts,
        "setup": describe_setup(records),
        "answer": state_answer(facts, content.settings, content.items, content.bases),
        "settings": settings,
        "has_wide": any("own spread" in cell.note for row in settings.rows for cell in row),
        "sections": sections,
        "failures": build_failures_table(records),
        "trials": build_trials_table(facts, records),
        "phases": build_phases_table(records),
        "phases_title": title_phases(records),
        "provenance": list_provenance(records),
        "config": flatten_values(facts.config),
        "reading": [*explain_terms(facts, records, content.items), *methods],
        "has_items": content.items is not None,
    }


def _list_sections(content: _ReportContent) -> Iterator[_Section]:
    """The findings between the settings and the trials; a table of None is not shown."""
    facts = content.facts
    yield _Section("What differs between the studies", _STUDIES_NOTE, build_differences_table(facts, content.records))
    note = _CLAIMS_NOTE + warn_of_averages(content.evidence.values())
    claims = build_claims_table(content.judged)
    yield _Section("Claims", note, claims, method=("supported, contradicted", EXPLAINED_CLAIMS))
    yield _Section("Notes on data and computing", _NOTES_NOTE, build_notes_table(content.records))
    if not content.evidence:
        return
    for label, evidence in content.ranked.items():
        compared = evidence.compared()
        if compared is not None:
            differences = build_comparison_table(evidence, compared)
            yield _Section(_join_title("Against the best", label), "", differences, method=("seeds needed", _COMPARED))
    yield _Section(
        "Forgetting beside learning", _FORGETTING_NOTE, build_forgetting_table(facts, content.settings, content.items)
    )
    shares = describe_importance(facts, content.records)
    importance = build_importance_table(content.shares)
    yield _Section("Importance of what was varied", "", importance, method=("importance", shares))
    if "" in content.evidence:
        effects = build_main_effects_table(facts, content.evidence[""])
        yield _Section("What each value does", "", effects, method=("what each value does", EXPLAINED_EFFECTS))
        pairs = build_pairs_table(facts, content.evidence[""])
        yield _Section("Keys that act together", "", pairs, minor=True)
        variance = build_effects_table(facts, content.evidence[""])
        yield _Section("Main effects and interactions", _EFFECTS_NOTE, variance, method=("main effects", _EFFECTS))
    for label, evidence in content.ranked.items():
        front = build_pareto_table(facts, evidence)
        title, note = _join_title("Best trade-offs", label), describe_pareto(facts, evidence)
        yield _Section(title, note, front, method=("dominated", EXPLAINED_FRONT))
        for title, table in build_budget_tables(evidence):
            yield _Section(_join_title(title, label), "", table, minor=True, method=("surely fits", _BUDGET))


def _join_title(title: str, label: str) -> str:
    return f"{title}, {label}" if label else title
