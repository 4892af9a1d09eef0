"""A scale holds intervals of the values' own order, and what it cuts off is said."""

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from sweeplab.report.charts.axes import Axis
from sweeplab.report.charts.chart import Chart, Dot, Line
from sweeplab.report.charts.drawing import draw_chart
from sweeplab.report.charts.reach import CUT_NOTE, find_reach, find_y_reach, say_cut
from sweeplab.report.charts.ticks import Tick

AXIS = Axis("adapter.rank", "rank", "linear", [Tick(1.0, "1"), Tick(2.0, "2")])
BAR = "{http://www.w3.org/2000/svg}path"


def draw(low: float, high: float) -> Chart:
    means = [Dot(1.0, 10.0, "a", low, high), Dot(2.0, 12.0, "b", 9.0, 13.0)]
    return Chart("c", "Loss", "note", "loss", AXIS, [Line("rank", 0, 0, [], means)])


@pytest.mark.parametrize(
    ("values", "ends", "reach"),
    [
        ([10.0, 12.0], [9.0, 13.0], (9.0, 13.0)),
        ([10.0, 12.0], [9.0, 3.7e17], (9.0, 52.0)),
        ([10.0, 12.0], [-1e9, None], (-30.0, 12.0)),
        ([10.0, 10.0], [1.0, 1e9], (1.0, 1e9)),
    ],
)
def test_a_scale_holds_the_values_and_intervals_of_their_order(
    values: list[float], ends: list[float | None], reach: tuple[float, float]
) -> None:
    assert find_reach(values, ends) == reach


def test_an_interval_that_goes_on_has_no_bar_at_its_end() -> None:
    whole, cut = draw(8.0, 14.0), draw(8.0, 3.7e17)
    assert (say_cut(whole), say_cut(cut)) == ("", CUT_NOTE)
    assert find_y_reach(cut) == (8.0, 52.0)
    bars = {}
    for name, chart in (("whole", whole), ("cut", cut)):
        root = ElementTree.fromstring(draw_chart(chart))
        bars[name] = [str(one.get("d")).count("h8") for one in root.iter(BAR) if one.get("class") == "bar"]
        assert all("," not in str(text.text) for text in root.iter(BAR.replace("path", "text")))
    assert bars == {"whole": [2, 2], "cut": [1, 2]}
    sideways = [dot._replace(low=None, high=None, left=0.5, right=1e6) for dot in cut.lines[0].path]
    assert say_cut(replace(cut, lines=[replace(cut.lines[0], path=sideways)])) == CUT_NOTE
