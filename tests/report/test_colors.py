"""The ramp of a heatmap."""

from sweeplab.report.colors import _CIVIDIS, blend_color


def test_colors_are_the_ramps_and_between() -> None:
    assert [blend_color(place / 8) for place in range(9)] == list(_CIVIDIS)
    assert blend_color(1 / 16) == "#092c5f"
    assert blend_color(-1.0) == _CIVIDIS[0]
    assert blend_color(2.0) == _CIVIDIS[-1]
    lightness = [sum(w * int(c[k : k + 2], 16) for w, k in ((0.2126, 1), (0.7152, 3), (0.0722, 5))) for c in _CIVIDIS]
    assert lightness == sorted(lightness)
