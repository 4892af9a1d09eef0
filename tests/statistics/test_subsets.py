"""Some of many."""

from sweeplab.statistics.subsets import evenly


def test_even_choices_keep_both_ends() -> None:
    assert evenly(range(10), 4) == [0, 3, 6, 9]
    assert evenly(range(3), 4) == [0, 1, 2]
    assert evenly(range(9), 1) == [0]
