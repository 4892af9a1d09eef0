"""Tables of plain text cells; terminal, Markdown and HTML each draw them in their own way."""

from dataclasses import dataclass
from typing import Final, NamedTuple

_MOST_NAMED: Final = 3  # rows that one row names


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


def merge_equal_rows(rows: list[list[Cell]]) -> list[list[Cell]]:
    """The rows with those that follow each other and are equal as printed, but for their names, as one; a name is the
    first cell."""
    groups: list[list[list[Cell]]] = []
    for row in rows:
        if groups and _print_values(groups[-1][0]) == _print_values(row):
            groups[-1].append(row)
        else:
            groups.append([row])
    return [[_join_names([row[0] for row in same]), *same[0][1:]] for same in groups]


def _print_values(row: list[Cell]) -> list[tuple[str, str]]:
    return [(cell.text, cell.note) for cell in row[1:]]


def _join_names(cells: list[Cell]) -> Cell:
    if len(cells) == 1:
        return cells[0]
    named = "; ".join(cell.text for cell in cells[:_MOST_NAMED])
    more = len(cells) - _MOST_NAMED
    return cells[0]._replace(text=f"{named}; and {more} more" if more > 0 else named)
