"""Sums of times against arithmetic by hand."""

from types import SimpleNamespace
from typing import Any

import pytest

from sweeplab.cli.plan_time import StudyTimes, describe_time, sum_times


def row(train: float | None, heldout: float | None, base: str = "a", num_seeds: int = 2) -> Any:
    forecast = SimpleNamespace(train_seconds=train, heldout_seconds=heldout, base_seconds=10.0, load_seconds=5.0)
    config = SimpleNamespace(model=base, quantization="", data="")
    return SimpleNamespace(forecast=forecast, config=config, num_seeds=num_seeds)


@pytest.mark.parametrize(
    ("rows", "num_trials", "listed", "num_workers", "expected"),
    [
        ([row(100.0, 20.0), row(200.0, 20.0)], 4, True, 1, (600.0, 5 + 10 + 2 * 120 + 2 * 220)),
        ([row(100.0, 20.0), row(200.0, 20.0)], 4, True, 2, (600.0, 5 + 10 + (2 * 120 + 2 * 220) / 2)),
        ([row(100.0, 20.0), row(200.0, 20.0, "b")], 4, True, 1, (600.0, 5 + 20 + 2 * 120 + 2 * 220)),
        ([row(100.0, 20.0, num_seeds=1)], 7, False, 1, (700.0, 5 + 10 + 7 * 120)),
        ([row(100.0, None)], 2, True, 1, (200.0, None)),
        ([row(None, 20.0)], 2, True, 1, (None, None)),
        ([row(100.0, 20.0)], 2, True, 0, (200.0, None)),
    ],
)
def test_a_study_loads_scores_its_bases_once_and_divides_its_trials(
    rows: list[Any], num_trials: int, listed: bool, num_workers: int, expected: tuple[float | None, float | None]
) -> None:
    assert sum_times(rows, num_trials, listed, num_workers) == expected


def test_times_are_said_as_far_as_they_are_known() -> None:
    assert describe_time(StudyTimes(None, None), 0) == "– in all"
    assert describe_time(StudyTimes(65.0, None), 1) == "1:05 in all"
    assert describe_time(StudyTimes(65.0, 90.0), 1) == "1:05 in all; the study 1:30 with 1 worker"
    assert describe_time(StudyTimes(65.0, 90.0), 2) == "1:05 in all; the study 1:30 with 2 workers"
