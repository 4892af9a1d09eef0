"""Columns that say which setting a row is of."""

from collections.abc import Callable
from functools import partial
from typing import Any

from sweeplab.records.record import StudyFacts
from sweeplab.report.evidence.formatting import DASH, list_name_columns
from sweeplab.report.evidence.masks import Mask, find_masks
from sweeplab.report.evidence.settings import format_varied
from sweeplab.report.findings.table import Cell, Column


def build_name_columns(facts: StudyFacts, keys: list[str]) -> list[tuple[Column, Callable[[dict[str, Any]], Cell]]]:
    """What was varied, for tables: a column for each key, or for all keys of a mask, and its cell of a trial."""
    columns: list[tuple[Column, Callable[[dict[str, Any]], Cell]]] = []
    for title, named in list_name_columns(find_masks(facts.space, keys), keys).items():
        make = partial(_mask_cell, named) if isinstance(named, Mask) else partial(_param_cell, facts, named)
        columns.append((Column(title, numeric=False), make))
    return columns


def _mask_cell(mask: Mask, params: dict[str, Any]) -> Cell:
    return Cell(mask.name(params) if any(key in params for key in mask.keys) else DASH)


def _param_cell(facts: StudyFacts, key: str, params: dict[str, Any]) -> Cell:
    return Cell(format_varied(facts, key, params[key]) if key in params else DASH)
