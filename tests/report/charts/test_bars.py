"""Bars: lengths in proportion to values, names and values as text."""

from typing import Final
from xml.etree import ElementTree

import pytest

from sweeplab.report.charts.bars import Bar, BarChart, BarGroup, draw_bars

SVG: Final = "{http://www.w3.org/2000/svg}"
CHART: Final = BarChart("a <b> title", "seconds", [BarGroup("short & long", [Bar(1.0, 0, "1 s"), Bar(4.0, 1, "4 s")])])


@pytest.mark.parametrize("alone", [True, False])
def test_lengths_are_in_proportion_and_start_at_the_frame(alone: bool) -> None:
    root = ElementTree.fromstring(draw_bars(CHART, alone))
    bars = [one for one in root.iter(f"{SVG}rect") if one.get("class") == "block"]
    short, long = (float(str(one.get("width"))) for one in bars)
    assert long == pytest.approx(4 * short, abs=0.05)
    (frame,) = (one for one in root.iter(f"{SVG}line") if one.get("class") == "frame")
    assert {one.get("x") for one in bars} == {frame.get("x1")}
    ticks = {str(one.text): float(str(one.get("x"))) for one in root.iter(f"{SVG}text") if one.get("text-anchor")}
    zero, one, four = ticks["0"], ticks["1"], ticks["4"]
    assert one - zero == pytest.approx(short, abs=0.05)
    assert four - zero == pytest.approx(long, abs=0.05)
    assert "short & long" in "".join(root.itertext())


def test_only_a_picture_of_its_own_has_title_and_colors() -> None:
    assert "a &lt;b&gt; title</text>" in draw_bars(CHART, standalone=True)
    assert "<style>" in draw_bars(CHART, standalone=True)
    assert "<style>" not in draw_bars(CHART, standalone=False)
