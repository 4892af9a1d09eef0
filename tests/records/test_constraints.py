"""Bounds of a study: by how much a trial lies beyond them, and what several studies allow together."""

import pytest

from sweeplab.records.constraints import Bound, combine_constraints, measure_excess
from sweeplab.records.record import Status, TrialRecord


@pytest.mark.parametrize(
    ("bound", "excess"),
    [
        (Bound("num_trainable_params", "max", 10.0), 2.0),
        (Bound("num_trainable_params", "max", 12.0), 0.0),
        (Bound("num_trainable_params", "min", 15.0), 3.0),
        (Bound("adapter_bytes", "max", 1.0), None),
    ],
)
def test_an_excess_is_in_the_unit_of_the_metric(bound: Bound, excess: float | None) -> None:
    record = TrialRecord(0, Status.FINISHED, 0, {}, {}, num_trainable_params=12)
    assert measure_excess(record, bound) == excess


def test_several_studies_allow_what_each_of_them_allows() -> None:
    one = {"num_trainable_params": {"max": 10.0, "min": 1.0}}
    other = {"num_trainable_params": {"max": 20.0, "min": 2.0}, "adapter_bytes": {"max": 5.0}}
    expected = {"num_trainable_params": {"max": 10.0, "min": 2.0}, "adapter_bytes": {"max": 5.0}}
    assert combine_constraints([one, {}, other]) == expected
    assert combine_constraints([{}, {}]) == {}
