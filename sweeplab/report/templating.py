"""The one Jinja environment for HTML and SVG and the one for Markdown: each escapes for the language it writes."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from sweeplab.report.colors import DARK_PALETTE, DARK_RAMP, PALETTE, RAMP
from sweeplab.report.findings.table import Table

TEMPLATES: Final = Path(__file__).parent / "templates"
_SPECIAL: Final = re.compile(r"([\\`*\[\]|~$])|(?<!\w)_|_(?!\w)")


def render_svg(template: str, values: dict[str, Any]) -> str:
    """A picture from one of the package's own templates."""
    return html_environment().get_template(template).render(values)


def _build_environment(folder: Path, **settings: Any) -> Environment:
    return Environment(
        loader=FileSystemLoader(folder),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        **settings,
    )


def html_environment(folder: Path = TEMPLATES) -> Environment:
    """For HTML and SVG: every value is escaped; a name that is not defined is an error. Templates lie in `folder`."""
    environment = _build_environment(folder, autoescape=True)
    environment.filters |= {"breakable": _break_name, "anchor": _anchor_of}
    environment.globals |= {"palette": PALETTE, "dark_palette": DARK_PALETTE, "ramp": RAMP, "dark_ramp": DARK_RAMP}
    return environment


def _anchor_of(title: str) -> str:
    """The part of a link's address that leads to a heading."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def _break_name(text: str) -> Markup:
    """A name that may wrap after its underscores and dots."""
    return Markup(re.sub(r"([_.])(?=[^\W\d])", r"\1<wbr>", str(escape(text))))


def markdown_environment(folder: Path = TEMPLATES) -> Environment:
    """Every value is escaped as it is written, so that no template can forget to. Templates lie in `folder`."""
    environment = _build_environment(folder, autoescape=False, finalize=escape_markdown)
    environment.filters |= {"fenced": fence_code, "table": format_markdown_table}
    return environment


def escape_markdown(value: Any) -> Any:
    """`value` as text on one line that GitHub shows as it is; `Markup` passes."""
    if isinstance(value, Markup):
        return value
    text = re.sub(r"\s+", " ", str(value)).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(lambda found: f"\\{found.group()}", text)


def fence_code(text: str) -> Markup:
    """`text` as a code block whose fence is longer than any in it."""
    ticks = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return Markup(f"{ticks}\n{text}\n{ticks}")


def format_markdown_table(table: Table) -> Markup:
    """`table` as GitHub shows tables; the best setting's row is bold."""

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
