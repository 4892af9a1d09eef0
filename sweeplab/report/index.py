"""The page of all studies in a folder of reports: each with its question, its answer and a link to its report."""

from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import quote

from sweeplab.records.answer import StudyAnswer
from sweeplab.records.store import StoreError, read_json, write_text
from sweeplab.report.evidence.formatting import DASH, format_estimate, label_metric
from sweeplab.report.templating import html_environment
from sweeplab.statistics.intervals import Estimate

_PAGE: Final = "index.html"


class _Entry(NamedTuple):
    """One study of the page."""

    name: str
    link: str  # relative to the page
    question: str
    answer: str
    metric: str
    value: str  # of the leading setting, with its interval
    num_trials: int


def write_index(folder: Path) -> Path:
    """Writes index.html into a folder of reports; gives its path.

    A study is a folder in it with an answer.json and a records.json; those that cannot be read are named. The same
    reports give the same bytes. Raises `StoreError` that names the file which cannot be written.
    """
    found = {path.parent.name: _read_entry(path.parent) for path in sorted(folder.glob("*/answer.json"))}
    entries = [entry for entry in found.values() if entry is not None]
    unread = [name for name, entry in found.items() if entry is None]
    page = html_environment().get_template("index.html.j2").render(entries=entries, unread=unread)
    write_text(folder / _PAGE, page)
    return folder / _PAGE


def _read_entry(folder: Path) -> _Entry | None:
    """None where a file cannot be read: one damaged report does not take the page away."""
    try:
        answer = StudyAnswer.model_validate(read_json(folder / "answer.json"))
        stored = read_json(folder / "records.json")
        question, num_trials = str(stored["study"].get("question") or DASH), len(stored["records"])
    except (StoreError, ValueError, KeyError, TypeError, AttributeError):
        return None
    metric, value = answer.objective.metric, DASH
    if answer.leading is not None:
        one = answer.leading.value
        value = format_estimate(metric, Estimate(one.value, None, None, one.low, one.high, one.covers))
    link = f"{quote(folder.name)}/report.html"
    return _Entry(folder.name, link, question, answer.statement, label_metric(metric), value, num_trials)
