"""Charts as plotly figures, in plain JSON values: tests hold them against plotly's schema."""

import html
import json
from typing import Any, Final

from markupsafe import Markup

from sweeplab.report.charts import PALETTE, Chart, Dot, Line

DASHES: Final = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SYMBOLS: Final = ("circle", "square", "diamond", "triangle-up", "cross", "x")


def label(text: str) -> str:
    """Plotly draws a subset of HTML in every text, so a name's own tags are escaped."""
    return html.escape(text, quote=False)


def figure(chart: Chart) -> dict[str, Any]:
    """`data` and `layout` of one chart. Colours of text and grid are the page's, set when it is drawn."""
    traces = [trace for line in chart.lines for trace in line_traces(chart, line)]
    return {"data": traces, "layout": layout(chart)}


def line_traces(chart: Chart, line: Line) -> list[dict[str, Any]]:
    """Dots and means as two traces of one legend entry."""
    color, dash = PALETTE[line.color % len(PALETTE)], line.dash % len(DASHES)
    common = {"type": "scatter", "name": label(line.label), "legendgroup": f"{line.color}-{line.dash}-{line.label}"}
    traces = []
    if line.path:
        style: dict[str, Any] = {"mode": "lines", "line": {"color": color, "dash": DASHES[dash], "width": 2.5}}
        if chart.axis is None:
            style["line"]["width"] = 1.3
        elif not chart.joined or len(line.path) == 1:
            marker = {"symbol": "line-ew-open", "size": 22, "color": color, "line": {"width": 3, "color": color}}
            style = {"mode": "markers", "marker": marker}
        bars = error_bars(line.path, color)
        traces.append(common | points(line.path) | style | bars | {"showlegend": line.listed})
    if line.dots:
        marker = {"color": color, "symbol": SYMBOLS[dash], "size": 8, "opacity": 0.6}
        only = {"mode": "markers", "marker": marker, "showlegend": line.listed and not line.path}
        traces.append(common | points(line.dots) | only)
    return traces


def error_bars(dots: list[Dot], color: str) -> dict[str, Any]:
    """Intervals of means as plotly's error bars; nothing where no mean has one."""
    if all(dot.high is None for dot in dots):
        return {}
    above = [0.0 if dot.high is None else dot.high - dot.y for dot in dots]
    below = [0.0 if dot.low is None else dot.y - dot.low for dot in dots]
    bars = {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "color": color, "thickness": 1.4}
    return {"error_y": bars}


def points(dots: list[Dot]) -> dict[str, Any]:
    return {
        "x": [dot.x for dot in dots],
        "y": [dot.y for dot in dots],
        "text": [label(dot.text) for dot in dots],
        "hovertemplate": "%{text}<extra></extra>",
    }


def layout(chart: Chart) -> dict[str, Any]:
    named = sum(line.listed for line in chart.lines) > 1
    return {
        "height": 330,
        "margin": {"l": 64, "r": 16, "t": 16, "b": 56},
        "font": {"family": "system-ui, sans-serif", "size": 13},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "hovermode": "closest",
        "showlegend": named,
        "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.03, "yanchor": "bottom"},
        "xaxis": x_axis(chart),
        "yaxis": y_axis(chart),
    }


def x_axis(chart: Chart) -> dict[str, Any]:
    axis = chart.axis
    if axis is None:
        return {"title": {"text": "optimizer steps"}, "rangemode": "tozero", "zeroline": False}
    made: dict[str, Any] = {
        "title": {"text": label(axis.title)},
        "tickmode": "array",
        "tickvals": [tick.place for tick in axis.ticks],
        "ticktext": [label(tick.text) for tick in axis.ticks],
        "zeroline": False,
    }
    if axis.scale == "category":
        made["range"] = [-0.6, len(axis.ticks) - 0.4]
    if axis.scale == "log":
        made["type"] = "log"
    return made


def y_axis(chart: Chart) -> dict[str, Any]:
    made: dict[str, Any] = {"title": {"text": label(chart.y_title)}, "zeroline": False}
    if chart.unit_range:
        made["range"] = [-0.03, 1.03]
    if chart.log_y:
        made["type"] = "log"
    return made


def embedded_json(value: Any) -> Markup:
    """Strict JSON that may stand inside a <script>: no character in it can end the element or the line."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))
