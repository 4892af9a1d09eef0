"""Tables as plain text cells, which the terminal, the Markdown and the HTML each draw in their own way."""

from dataclasses import dataclass
from typing import NamedTuple


class Cell(NamedTuple):
    """What a cell says, and what it adds in small print."""

    text: str
    note: str = ""
    size: float | None = None  # what the row is sorted by, where the text begins with no number or changes its unit


class Column(NamedTuple):
    title: str
    unit: str = ""
    numeric: bool = True


@dataclass(frozen=True)
class Table:
    """Rows as long as `columns`; `marked` is the row of the best setting, if any."""

    columns: list[Column]
    rows: list[list[Cell]]
    marked: int | None = None
    num_bases: int = 0  # rows at the top that are no settings, and stay there when the others are sorted
