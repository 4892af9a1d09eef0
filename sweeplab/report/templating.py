"""Jinja environments, one for HTML and SVG and one for Markdown; each escapes every value for its language."""

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from sweeplab.report.colors import DARK_PALETTE, DARK_RAMP, PALETTE, RAMP
from sweeplab.report.findings.table import Table

_TEMPLATES: Final = Path(__file__).parent / "templates"
_SPECIAL: Final = re.compile(r"([\\`*\[\]|~$])|(?<!\w)_|_(?!\w)")


def render_svg(template: str, values: dict[str, Any]) -> str:
    """An SVG picture from a template of this package."""
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


@cache  # a template is compiled once, not for each picture
def html_environment(folder: Path = _TEMPLATES) -> Environment:
    """The environment for HTML and SVG templates in `folder`. Values are escaped; an undefined name is an error."""
    environment = _build_environment(folder, autoescape=True)
    environment.filters |= {"breakable": _break_name, "anchor": _anchor_of}
    environment.globals |= {"palette": PALETTE, "dark_palette": DARK_PALETTE, "ramp": RAMP, "dark_ramp": DARK_RAMP}
    return environment


def _anchor_of(title: str) -> str:
    """The anchor of a heading, the part of a link after `#`."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def _break_name(text: str) -> Markup:
    """A name that a browser may wrap after underscores and dots."""
    return Markup(re.sub(r"([_.])(?=[^\W\d])", r"\1<wbr>", str(escape(text))))


@cache
def markdown_environment(folder: Path = _TEMPLATES) -> Environment:
    """The environment for Markdown templates in `folder`. Every value is escaped when it is written."""
    environment = _build_environment(folder, autoescape=False, finalize=escape_markdown)
    environment.filters |= {"fenced": fence_code, "table": format_markdown_table}
    return environment


def escape_markdown(value: Any) -> Any:
    """`value` as text on one line that GitHub shows literally; `Markup` stays as it is."""
    if isinstance(value, Markup):
        return value
    text = re.sub(r"\s+", " ", str(value)).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(lambda match: f"\\{match.group()}", text)


def fence_code(text: str) -> Markup:
    """`text` as a code block; its fence is longer than any run of backticks in it."""
    ticks = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return Markup(f"{ticks}\n{text}\n{ticks}")


def format_markdown_table(table: Table) -> Markup:
    """`table` in GitHub's Markdown, with the row of the best setting in bold."""

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
        small = [", ".join(filter(None, (cell.note, cell.aside))) for cell in row]
        notes = [f" ({escape_markdown(text)})" if text else "" for text in small]
        mark = "**" if index == table.marked or index in table.tied else ""
        lines.append(line(f"{mark}{text}{mark}{note}" for text, note in zip(texts, notes, strict=True)))
    return Markup("\n".join(lines))
