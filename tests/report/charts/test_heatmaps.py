"""Heatmaps: one cell for each known share, in its color and at its index."""

import re
from typing import Final
from xml.etree import ElementTree

import numpy as np
import pytest

from sweeplab.report.charts.heatmaps import Heatmap, Panel, draw_heatmap
from sweeplab.report.colors import _CIVIDIS

SVG: Final = "{http://www.w3.org/2000/svg}"


def cells_of(grid: list[list[float]]) -> dict[str, list[tuple[float, float]]]:
    """Corners by color."""
    root = ElementTree.fromstring(draw_heatmap(Heatmap("t", "s", [("row", [Panel("A", np.array(grid))])])))
    return {
        str(path.get("fill")): [(float(x), float(y)) for x, y in re.findall(r"M([\d.]+) ([\d.]+)", str(path.get("d")))]
        for path in root.iter(f"{SVG}path")
    }


def test_rows_go_down_and_columns_to_the_right() -> None:
    cells = cells_of([[0.0, 1.0], [0.5, np.nan]])
    assert set(cells) == {_CIVIDIS[0], _CIVIDIS[8], _CIVIDIS[4]}
    ((left, top),), ((right, same_top),), ((same_left, below),) = (cells[_CIVIDIS[k]] for k in (0, 8, 4))
    assert (right > left, same_top == top, same_left == left, below > top) == (True, True, True, True)
    assert right - left == pytest.approx(below - top)


def test_a_large_grid_is_drawn_with_at_most_32_cells_a_side() -> None:
    corners = [at for some in cells_of(np.linspace(0, 1, 100 * 64).reshape(100, 64).tolist()).values() for at in some]
    assert len(corners) == 32 * 32
    assert len(set(corners)) == 32 * 32


def test_text_stays_text() -> None:
    svg = draw_heatmap(Heatmap("<b>", "&", [("</svg>", [Panel("<i>", np.zeros((1, 1)))])]))
    texts = "".join(ElementTree.fromstring(svg).itertext())
    assert all(one in texts for one in ("<b>", "&", "</svg>", "<i>"))
