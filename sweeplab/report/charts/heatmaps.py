"""Grids of shares as colored cells, one row of panels under another, with a bar that says what the colors mean."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from sweeplab.report.colors import blend_color
from sweeplab.report.templating import render_svg
from sweeplab.statistics.intervals import Array
from sweeplab.statistics.selection import pick_evenly

_PANEL: Final = 196  # pixels
_GAP: Final = 40
_LEFT: Final = 64.0
_TOP: Final = 108.0
_ROW_GAP: Final = 84
_MAX_CELLS: Final = 32  # a side
_NUM_SHADES: Final = 100
_NUM_STEPS: Final = 50  # of the bar


class Panel(NamedTuple):
    """Shares from 0 to 1, i downwards and j to the right, both from 1; NaN is left out."""

    title: str
    grid_IJ: Array


@dataclass(frozen=True)
class Heatmap:
    title: str
    subtitle: str
    rows: Sequence[tuple[str, Sequence[Panel]]]  # each with its title


def draw_heatmap(chart: Heatmap) -> str:
    """The chart as SVG, on white."""
    panels = list(_lay_out_panels(chart))
    right = _LEFT + max(len(row) for _, row in chart.rows) * (_PANEL + _GAP)
    colors = [blend_color(1 - step / (_NUM_STEPS - 1)) for step in range(_NUM_STEPS)]
    values = {
        "standalone": True,
        "title": chart.title,
        "subtitle": chart.subtitle,
        "left": _LEFT,
        "width": right + 56,
        "height": round(_TOP + len(chart.rows) * (_PANEL + _ROW_GAP) - 50),
        "panel_size": _PANEL,
        "panels": panels,
        "bar": {"x": right, "top": _TOP, "step": _PANEL / _NUM_STEPS, "colors": colors},
    }
    return render_svg("heatmap.svg.j2", values)


def _lay_out_panels(chart: Heatmap) -> Iterator[dict[str, Any]]:
    for order, (title, row) in enumerate(chart.rows):
        top = _TOP + order * (_PANEL + _ROW_GAP)
        for column, panel in enumerate(row):
            left = _LEFT + column * (_PANEL + _GAP)
            yield {
                "left": left,
                "top": top,
                "title": panel.title,
                "row": "" if column else title,
                "last": panel.grid_IJ.shape,
                "cells": _lay_out_cells(panel.grid_IJ, left, top),
            }


def _lay_out_cells(grid_IJ: Array, left: float, top: float) -> dict[str, str]:
    """One rectangle for each (i, j) that is drawn, at most `_MAX_CELLS` a side: an SVG path for each color."""
    rows, columns = (pick_evenly(range(size), _MAX_CELLS) for size in grid_IJ.shape)
    height, width = _PANEL / len(rows), _PANEL / len(columns)
    paths: dict[str, str] = {}
    for y, i in enumerate(rows):
        for x, j in enumerate(columns):
            if not np.isnan(grid_IJ[i, j]):
                color = blend_color(round(grid_IJ[i, j] * _NUM_SHADES) / _NUM_SHADES)
                corner = f"M{left + x * width:.4g} {top + y * height:.4g}"
                paths[color] = f"{paths.get(color, '')}{corner}h{width:.4g}v{height:.4g}h-{width:.4g}z"
    return paths
