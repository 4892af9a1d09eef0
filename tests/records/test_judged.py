"""Sentences about a judge: its numbers are those of its verdicts."""

from sweeplab.records.judged import describe_judge


def test_a_place_is_warned_of_where_chance_does_not_explain_it() -> None:
    (fair,) = describe_judge([1.0, 0.0] * 10 + [0.5] * 20, [0.0] * 40)
    assert fair.startswith("the judge shows no preference for a place: it took the response shown first in 0.500 of 40")
    (first,) = describe_judge([1.0] * 10 + [0.5] * 30, [0.0] * 40)
    assert first.startswith("warning: the judge prefers the response that is shown first")
    assert "in 0.625 of 40 items [0.548, 0.625]" in first  # .5 + 10/40 (.692 - .5): Clopper and Pearson of 10 in 10
    (second,) = describe_judge([0.0] * 10 + [0.5] * 30, [0.0] * 40)
    assert second.startswith("warning: the judge prefers the response that is shown second")


def test_nothing_is_said_of_places_where_none_decided() -> None:
    assert describe_judge([0.5] * 3, [0.0] * 3) == [
        "no verdict of the judge depended on the order of the responses, in 3 items"
    ]


def test_verdicts_that_could_not_be_read_are_counted() -> None:
    assert describe_judge([0.5] * 4, [1.0, 0.5, 0.0, 0.0], num_trials=2)[1] == (
        "6 of at most 16 verdicts could not be read, and their items are ties"
    )
