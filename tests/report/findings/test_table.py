"""Rows that are equal as printed are one."""

from sweeplab.report.findings.table import Cell, merge_equal_rows


def rows(*pairs: tuple[str, str]) -> list[list[Cell]]:
    return [[Cell(name), Cell(value)] for name, value in pairs]


def test_rows_that_follow_each_other_and_print_alike_are_one() -> None:
    merged = merge_equal_rows(rows(("a", "1"), ("b", "1"), ("c", "2"), ("d", "1")))
    assert [[cell.text for cell in row] for row in merged] == [["a; b", "1"], ["c", "2"], ["d", "1"]]


def test_of_many_names_three_stand_there_and_their_number() -> None:
    ((name, value),) = merge_equal_rows(rows(*((letter, "1") for letter in "abcde")))
    assert (name.text, value.text) == ("a; b; c; and 2 more", "1")


def test_another_note_is_another_row() -> None:
    apart = [[Cell("a"), Cell("1", "[0, 2]")], [Cell("b"), Cell("1", "[0, 3]")]]
    assert merge_equal_rows(apart) == apart
