"""Some of many."""

from sweeplab.statistics.selection import pick_evenly


def test_even_choices_keep_both_ends() -> None:
    assert pick_evenly(range(10), 4) == [0, 3, 6, 9]
    assert pick_evenly(range(3), 4) == [0, 1, 2]
    assert pick_evenly(range(9), 1) == [0]
