"""Scales and ticks of an axis."""

from typing import Any

import pytest

from sweeplab.report.charts.ticks import choose_scale, list_number_ticks, list_round_ticks


@pytest.mark.parametrize(
    ("values", "log", "scale"),
    [
        ([1, 2, 4, 8], False, "log"),
        ([4, 8, 16, 32, 64], False, "log"),
        ([1e-4, 3e-4, 1e-3, 3e-3], False, "log"),
        ([1, 2, 3, 4], False, "linear"),
        ([0.0, 0.05, 0.1], False, "linear"),
        ([4, 8], False, "linear"),
        ([4, 8], True, "log"),
        ([True, False], False, "category"),
        (["a", 1], False, "category"),
        ([None, 1.0], False, "category"),
    ],
)
def test_scale_of_an_axis(values: list[Any], log: bool, scale: str) -> None:
    assert choose_scale(values, log) == scale


@pytest.mark.parametrize(
    ("low", "high", "texts"),
    [
        (0.0, 1.0, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (37.0, 52.0, ["38", "40", "42", "44", "46", "48", "50", "52"]),
        (0.31, 0.34, ["0.310", "0.315", "0.320", "0.325", "0.330", "0.335", "0.340"]),
        (5.0, 5.0, ["5"]),
    ],
)
def test_round_ticks(low: float, high: float, texts: list[str]) -> None:
    assert [tick.text for tick in list_round_ticks(low, high)] == texts
    assert all(low - 1e-9 <= tick.position <= high + 1e-9 for tick in list_round_ticks(low, high))


def test_powers_of_ten_or_the_ends() -> None:
    assert [tick.position for tick in list_number_ticks([0.05, 20], "log", 0)] == [0.1, 1, 10]
    assert [tick.text for tick in list_number_ticks([2, 5], "log", 0)] == ["2", "5"]
