"""Sums of times against arithmetic by hand."""

from types import SimpleNamespace
from typing import Any

import pytest

from sweeplab.cli.plan_time import StudyTimes, describe_parts, describe_tasks, describe_time, sum_times
from sweeplab.planning.tasks import EvaluationWork
from sweeplab.records.plan import PlannedParts, PlannedTask
from tests.study_runs import ComposeStudy

WRITTEN = PlannedTask(task="sums", num_items=200, num_tokens=4928, num_steps=40, most_steps=64)
READ = PlannedTask(task="choices", num_items=100, num_tokens=1936, num_steps=0, most_steps=0)
PARTS = PlannedParts(
    start=7.0, load=5.0, prepare=3.0, bases=10.0, profile=0.0, training=600.0, heldout=80.0, tasks=40.0
)


def row(train: float | None, heldout: float | None, base: str = "a", num_seeds: int = 2, alone: bool = True) -> Any:
    forecast = SimpleNamespace(
        train_seconds=train,
        heldout_seconds=heldout,
        task_seconds=10.0,
        base_seconds=10.0,
        load_seconds=5.0,
        profile_seconds=9.0,
        num_total_params=1000,
        num_steps=200,
        extent=SimpleNamespace(mean=30.0),
        device=SimpleNamespace(kind="cpu"),
        evaluation=EvaluationWork((WRITTEN, READ), 64, 25, 3.0, 1.0),
    )
    training = SimpleNamespace(micro_batch_size=4)
    config = SimpleNamespace(model=base, quantization="", data="", training=training)
    why = "it is exclusive" if alone else None
    return SimpleNamespace(forecast=forecast, config=config, num_seeds=num_seeds, why_exclusive=why)


@pytest.mark.parametrize(
    ("rows", "num_trials", "listed", "num_workers", "expected"),
    [
        ([row(100.0, 20.0), row(200.0, 20.0)], 4, True, 1, (600.0, 15 + 10 + 2 * 130 + 2 * 230)),
        ([row(100.0, 20.0), row(200.0, 20.0)], 4, True, 2, (600.0, 15 + (10 + 2 * 130 + 2 * 230) / 2)),
        ([row(100.0, 20.0), row(200.0, 20.0)], 4, True, 9, (600.0, 15 + (10 + 2 * 130 + 2 * 230) / 4)),
        ([row(100.0, 20.0), row(200.0, 20.0, "b")], 4, True, 1, (600.0, 15 + 20 + 2 * 130 + 2 * 230)),
        ([row(100.0, 20.0, num_seeds=1)], 7, False, 1, (700.0, 15 + 10 + 7 * 130)),
        ([row(100.0, 20.0, alone=False)], 2, True, 1, (200.0, 15 + 9 + 10 + 2 * 130)),
        ([row(100.0, 0.0)], 2, True, 1, (200.0, 15 + 10 + 2 * 110)),
        ([row(100.0, None)], 2, True, 1, (200.0, None)),
        ([row(None, 20.0)], 2, True, 1, (None, None)),
    ],
)
def test_each_worker_starts_and_loads_and_the_rest_is_divided(
    compose_study: ComposeStudy,
    rows: list[Any],
    num_trials: int,
    listed: bool,
    num_workers: int,
    expected: tuple[float | None, float | None],
) -> None:
    """It starts for 7 seconds, loads for 5 and reads tasks for 3; a trial's tasks take 10, those of a base too."""
    config = compose_study(f"executor.num_workers={num_workers}", "executor.device=cpu")
    times = sum_times(config, rows, num_trials, listed, 7.0)
    assert (times.training, times.study) == expected


def test_where_others_do_the_work_its_time_is_not_known(compose_study: ComposeStudy) -> None:
    config = compose_study("executor=slurm", "executor.address=here", "executor.device=cpu")
    times = sum_times(config, [row(100.0, 20.0)], 2, True, 7.0)
    assert (times.training, times.study) == (200.0, None)


@pytest.mark.parametrize(
    ("override", "is_bound"),
    [
        ("training.heldout_interval=2", False),
        ("training.patience=1", True),
        ("pruner=median", True),
        ("executor.trial_seconds=9", True),
    ],
)
def test_what_may_end_early_takes_at_most_so_long(compose_study: ComposeStudy, override: str, is_bound: bool) -> None:
    config = compose_study("training.heldout_interval=2", override, "executor.num_workers=1", "executor.device=cpu")
    times = sum_times(config, [row(100.0, 20.0)], 2, True, 7.0)
    assert times.is_bound is is_bound
    assert ("the study at most " in describe_time(times, 1)) is is_bound


def test_times_are_said_as_far_as_they_are_known() -> None:
    assert describe_time(StudyTimes(None, None), 0) == "– in all"
    assert describe_time(StudyTimes(65.0, None), 1) == "1:05 in all"
    assert describe_time(StudyTimes(65.0, 90.0), 1) == "1:05 in all; the study 1:30 with 1 worker"
    assert describe_time(StudyTimes(65.0, 90.0), 2) == "1:05 in all; the study 1:30 with 2 workers"


def test_the_parts_of_a_study_are_named_where_they_take_time() -> None:
    assert describe_parts(StudyTimes(65.0, None))[0].startswith("The study's time is not known")
    told, early = describe_parts(StudyTimes(600.0, 745.0, PARTS, is_bound=True))
    assert told.startswith(
        "In each worker: starting Python 0:07, loading 0:05, reading tasks 0:03. Divided among the workers: the bases' "
        "scores 0:10, training 10:00, held-out losses 1:20, tasks 0:40."
    )
    assert "at most" in early


def test_tasks_are_told_by_items_and_tokens_once() -> None:
    assert describe_tasks([row(1.0, 1.0), row(1.0, 1.0)]) == [
        "Tasks of a trial: sums 200 items, 4,928 tokens read, 40 to 64 steps written; choices 100 items, 1,936 tokens "
        "read.",
        "Responses are taken to be as long as the right answers; longer ones take longer.",
    ]
