"""Tables of plain text cells; terminal, Markdown and HTML each draw them in their own way."""

from dataclasses import dataclass
from typing import NamedTuple


class Cell(NamedTuple):
    """The text of a cell, and a note in small print."""

    text: str
    note: str = ""
    size: float | None = None  # the sort key, where the text does not begin with a number or has a changing unit
    aside: str = ""  # more small print, shown with the columns that few ask for


class Column(NamedTuple):
    """The heading of a column; `numeric` columns are aligned to the right."""

    title: str
    unit: str = ""
    numeric: bool = True
    is_minor: bool = False  # few ask for it: the page folds it away


@dataclass(frozen=True)
class Table:
    """Rows with one cell for each column; `marked` is the index of the best setting's row, if any.

    Where several may be the best none is marked, and `tied` has the indices of their rows.
    """

    columns: list[Column]
    rows: list[list[Cell]]
    marked: int | None = None
    num_bases: int = 0  # rows of base models; they stay at the top when a reader sorts the others
    tied: tuple[int, ...] = ()
