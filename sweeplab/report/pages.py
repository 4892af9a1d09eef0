"""The report's files, from templates: every value is escaped for the language it lands in."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from plotly.offline import get_plotlyjs

from sweeplab.records import StudyFacts, TrialRecord
from sweeplab.report.answer import answer, reading
from sweeplab.report.charts import Chart, charts
from sweeplab.report.drawing import drawing
from sweeplab.report.figures import embedded_json, figure
from sweeplab.report.settings import group
from sweeplab.report.sources import flatten, provenance
from sweeplab.report.tables import Table, phases_table, phases_title, settings_table, trials_table
from sweeplab.store import write_json, write_text

TEMPLATES: Final = Path(__file__).parent / "templates"
SPECIAL: Final = re.compile(r"([\\`*\[\]|~$])|(?<!\w)_|_(?!\w)")


def write_pages(facts: StudyFacts, records: list[TrialRecord], folder: Path) -> Path:
    """Writes the four files; gives the path of report.html. Raises `StoreError`."""
    records = sorted(records, key=lambda record: record.number)
    values, drawn = contents(facts, records)
    picture = next((chart for chart in drawn if chart.axis is not None), None)
    write_json(folder / "records.json", {"study": facts.to_dict(), "records": [one.to_dict() for one in records]})
    if picture is None:
        (folder / "score.svg").unlink(missing_ok=True)
    else:
        write_text(folder / "score.svg", marked_up().get_template("score.svg.j2").render(drawing(picture)))
    write_text(folder / "report.md", markdown().get_template("report.md.j2").render(values, picture=picture))
    page = marked_up().get_template("report.html.j2")
    figures = embedded_json({chart.ident: figure(chart) for chart in drawn})
    write_text(
        folder / "report.html",
        page.render(values, charts=drawn, figures=figures, plotlyjs=Markup(get_plotlyjs()) if drawn else None),
    )
    return folder / "report.html"


def contents(facts: StudyFacts, records: list[TrialRecord]) -> tuple[dict[str, Any], list[Chart]]:
    """What both pages say, and the charts."""
    settings = group(facts, records)
    values = {
        "facts": facts,
        "answer": answer(facts, settings),
        "settings": settings_table(facts, settings),
        "trials": trials_table(facts, records),
        "phases": phases_table(records),
        "phases_title": phases_title(records),
        "provenance": provenance(records),
        "config": flatten(facts.config),
        "reading": reading(facts, records),
    }
    return values, charts(facts, settings) if settings else []


def environment(**settings: Any) -> Environment:
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        **settings,
    )


def marked_up() -> Environment:
    made = environment(autoescape=True)
    made.filters["breakable"] = breakable
    return made


def breakable(text: str) -> Markup:
    """A name that may wrap after its underscores and dots."""
    return Markup(re.sub(r"([_.])(?=\w)", r"\1<wbr>", str(escape(text))))


def markdown() -> Environment:
    """Every value is escaped as it is written, so that no template can forget to."""
    made = environment(autoescape=False, finalize=escape_markdown)
    made.filters |= {"fenced": fenced, "table": markdown_table}
    return made


def escape_markdown(value: Any) -> Any:
    """`value` as text on one line that GitHub shows as it is; `Markup` passes."""
    if isinstance(value, Markup):
        return value
    text = re.sub(r"\s+", " ", str(value)).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return SPECIAL.sub(lambda found: f"\\{found.group()}", text)


def fenced(text: str) -> Markup:
    """`text` as a code block whose fence is longer than any in it."""
    ticks = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return Markup(f"{ticks}\n{text}\n{ticks}")


def markdown_table(table: Table) -> Markup:
    """A GitHub table; the best setting's row is bold."""

    def line(cells: Iterable[str]) -> str:
        return f"| {' | '.join(cells)} |"

    titles = [
        " ".join(part for part in (column.title, f"({column.unit})" if column.unit else "") if part)
        for column in table.columns
    ]
    lines = [
        line(escape_markdown(title) for title in titles),
        line("---:" if column.numeric else "---" for column in table.columns),
    ]
    for index, row in enumerate(table.rows):
        texts = [escape_markdown(cell.text) for cell in row]
        notes = [f" ({escape_markdown(cell.note)})" if cell.note else "" for cell in row]
        mark = "**" if index == table.marked else ""
        lines.append(line(f"{mark}{text}{mark}{note}" for text, note in zip(texts, notes, strict=True)))
    return Markup("\n".join(lines))
