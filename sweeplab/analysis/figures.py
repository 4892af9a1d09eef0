"""The analysis as static SVGs: places in pixels and colours, which the templates draw, on light and on dark pages."""

import math
from typing import Any, Final

import numpy as np

from sweeplab.analysis.adapters import Array
from sweeplab.analysis.findings import Findings, base_spectra, mean_sizes, of_setting
from sweeplab.analysis.sharing import Shared
from sweeplab.analysis.trials import KINDS
from sweeplab.records.metrics import METRICS
from sweeplab.report.charts.axes import Tick, round_ticks
from sweeplab.report.charts.charts import PALETTE
from sweeplab.report.charts.drawing import Scale, padded, shorten
from sweeplab.report.evidence.wording import memory_scale
from sweeplab.report.findings.tables import all_records, memory_metric
from sweeplab.statistics.subsets import evenly

# Cividis at 0, 1/8, ..., 1: even in lightness, alike to readers with and without colour blindness. Nunez et al. 2018.
RAMP: Final = ("#00224e", "#123570", "#3b496c", "#575d6d", "#707173", "#8a8678", "#a59c74", "#c3b369", "#fee838")
PANEL: Final = 196  # pixels
GAP: Final = 40
MOST_CELLS: Final = 32  # a side
SHADES: Final = 100
MOST_LINES: Final = 6
WIDTH: Final = 760
LEFT, RIGHT, TOP, HEIGHT = 76, 24, 76, 300
KIND_WORDS: Final = {
    "ranks": "ranks {0} and {1}, same seed",
    "seeds": "rank {0}, two seeds",
    "both": "ranks {0} and {1}, two seeds",
}


def color_of(phi: float) -> str:
    """A place on the ramp for 0 to 1."""
    place = min(max(phi, 0.0), 1.0) * (len(RAMP) - 1)
    low = min(int(place), len(RAMP) - 2)
    ends = [[int(RAMP[at][k : k + 2], 16) for k in (1, 3, 5)] for at in (low, low + 1)]
    return "#" + "".join(f"{round(a + (b - a) * (place - low)):02x}" for a, b in zip(*ends, strict=True))


def cells(grid_IJ: Array, left: float, top: float) -> dict[str, str]:
    """One rectangle for each (i, j) that is drawn, at most `MOST_CELLS` a side: an SVG path for each colour."""
    rows, columns = (evenly(range(size), MOST_CELLS) for size in grid_IJ.shape)
    height, width = PANEL / len(rows), PANEL / len(columns)
    paths: dict[str, str] = {}
    for y, i in enumerate(rows):
        for x, j in enumerate(columns):
            if not np.isnan(grid_IJ[i, j]):
                color = color_of(round(grid_IJ[i, j] * SHADES) / SHADES)
                corner = f"M{left + x * width:.4g} {top + y * height:.4g}"
                paths[color] = f"{paths.get(color, '')}{corner}h{width:.4g}v{height:.4g}h-{width:.4g}z"
    return paths


def chosen_rows(shared: list[Shared]) -> list[tuple[str, tuple[int, int]]]:
    """For each kind its two largest ranks, as the paper chose 8 and 64."""
    rows = []
    for kind in KINDS:
        ranks = [one.ranks for one in shared if one.kind == kind]
        if ranks:
            rows.append((kind, max(ranks)))
    return rows


def similarity_drawing(findings: Findings) -> dict[str, Any] | None:
    """A row of panels for each kind of pair: phi of A, of B, and what a random pair gives. None without pairs."""
    by_key = {(one.kind, one.ranks, one.part): one for one in findings.shared}
    panels, top = [], 108.0
    for kind, ranks in chosen_rows(findings.shared):
        found = [by_key.get((kind, ranks, part)) for part in ("A", "B")]
        if found[0] is None or found[1] is None:
            continue
        grids = {
            "A": found[0].mean(found[0].phi_IJ),
            "B": found[1].mean(found[1].phi_IJ),
            "random pair in A's space": found[0].mean(found[0].chance_IJ),
        }
        for place, (name, grid_IJ) in enumerate(grids.items()):
            left = 64.0 + place * (PANEL + GAP)
            panels.append(
                {
                    "left": left,
                    "top": top,
                    "title": name,
                    "row": KIND_WORDS[kind].format(*ranks) if place == 0 else "",
                    "last": ranks,
                    "cells": cells(grid_IJ, left, top),
                }
            )
        top += PANEL + 84
    if not panels:
        return None
    right = 64 + 3 * (PANEL + GAP)
    return {
        "width": right + 56,
        "height": round(top - 50),
        "panel_size": PANEL,
        "panels": panels,
        "bar": {"x": right, "top": 108, "step": PANEL / 50, "colors": [color_of(1 - k / 49) for k in range(50)]},
    }


def decades(low: float, high: float) -> list[Tick]:
    """Powers of ten inside [low, high], or the ends where there is none."""
    inside = [10.0**power for power in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)]
    return [Tick(one, f"{one:g}") for one in inside or [low, high]]


def frame(title: str, note: str, x_title: str, y_title: str) -> dict[str, Any]:
    edges = {"left": LEFT, "right": WIDTH - RIGHT, "top": TOP, "bottom": TOP + HEIGHT}
    words = {"title": title, "note": note, "x_title": x_title, "y_title": y_title}
    return {"width": WIDTH, **edges, **words, "lines": [], "dots": [], "legend": []}


def spectra_drawing(findings: Findings) -> dict[str, Any] | None:
    """The mean k-th singular value of W and of every setting's dW, both axes logarithmic. None without updates."""
    curves = [("W, the base", mean_sizes(base_spectra(findings)), "#7F7F7F", "7 4")]
    for place, setting in enumerate(evenly(findings.settings, MOST_LINES)):
        sizes = mean_sizes([one.update_K for one in of_setting(findings, setting)])
        curves.append((f"dW, {setting.label}", sizes, PALETTE[place], "none"))
    curves = [curve for curve in curves if len(curve[1])]
    if not curves:
        return None
    largest = max(float(sizes.max()) for _, sizes, _, _ in curves)
    low = max(min(float(sizes.min()) for _, sizes, _, _ in curves), largest * 1e-5)  # below it the rest is flat
    count = max(len(sizes) for _, sizes, _, _ in curves)
    x_scale = Scale(1, max(count, 2), LEFT + 12, WIDTH - RIGHT - 12, log=True)
    y_scale = Scale(low * 0.8, largest * 1.25, TOP + HEIGHT, TOP, log=True)
    note = "Mean over matrices and seeds; k counts directions from the strongest."
    drawn = frame("Singular values of the base and of its updates", note, "k (log scale)", "singular value (log scale)")
    powers = [2**power for power in range(int(math.log2(max(count, 2))) + 1)]
    drawn["x_ticks"] = [(x_scale(one), str(one)) for one in powers]
    drawn["y_ticks"] = [(y_scale(tick.place), tick.text) for tick in decades(low * 0.8, largest * 1.25)]
    for name, sizes, color, dash in curves:
        points = [(x_scale(k), y_scale(float(size))) for k, size in enumerate(sizes, 1) if size >= low]
        drawn["lines"].append({"label": name, "color": color, "dash": dash, "points": points})
    drawn["legend"] = [
        {"x": LEFT + 14, "y": TOP + HEIGHT - 16 - 20 * (len(curves) - 1 - place), **line}
        for place, line in enumerate(drawn["lines"])
    ]
    return drawn | {"height": TOP + HEIGHT + 56}


def elo_drawing(findings: Findings) -> dict[str, Any] | None:
    """Elo of each setting against its peak memory. None without ratings or memory."""
    records = all_records(findings.settings)
    name = memory_metric(records)
    standings = [] if findings.ratings is None else findings.ratings.standings
    placed = [(one, one.setting.spreads[name].mean) for one in standings if name in one.setting.spreads]
    if name is None or findings.ratings is None or not placed:
        return None
    divisor, unit = memory_scale(max(size for _, size in placed))
    sizes = [size / divisor for _, size in placed]
    x_low, x_high = padded(min(sizes), max(sizes))
    y_low, y_high = padded(min(one.elo.low for one, _ in placed), max(one.elo.high for one, _ in placed))
    x_scale = Scale(x_low, x_high, LEFT, WIDTH - RIGHT)
    y_scale = Scale(y_low, y_high, TOP + HEIGHT, TOP)
    title = f"Elo on {', '.join(findings.ratings.tasks)} against memory"
    note = "Bars: 95 % of random orders of the same matches; 1000: as good as the others on average."
    drawn = frame(shorten_title(title), note, f"{METRICS[name].label} ({unit})", "Elo")
    drawn["x_ticks"] = [(x_scale(tick.place), tick.text) for tick in round_ticks(x_low, x_high)]
    drawn["y_ticks"] = [(y_scale(tick.place), tick.text) for tick in round_ticks(y_low, y_high)]
    last = -math.inf
    for one, size in sorted(placed, key=lambda pair: -pair[0].elo.mean):
        x, y = x_scale(size / divisor), y_scale(one.elo.mean)
        last = max(y + 4.5, last + 15)  # labels of neighbours stand below each other
        near_end = x > WIDTH * 0.7
        ends = (y_scale(one.elo.low), y_scale(one.elo.high))
        text = {"text": shorten(one.setting.label), "text_x": x - 10 if near_end else x + 10, "text_y": round(last, 1)}
        drawn["dots"].append({"x": x, "y": y, "ends": ends, "anchor": "end" if near_end else "start", **text})
    return drawn | {"height": TOP + HEIGHT + 56, "color": PALETTE[0]}


def shorten_title(text: str) -> str:
    return text if len(text) <= 80 else text[:79] + "…"
