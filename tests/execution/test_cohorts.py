"""Who trains with whom, on trials that are composed and never run."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from sweeplab.config.compose import trial_config
from sweeplab.config.trial import TrialConfig
from sweeplab.config.trial_spec import TrialSpec
from sweeplab.execution.cohorts import CohortBuilder, choose_cohort_size
from tests.study_runs import LOSS, ComposeStudy

RANDOM = ("sampler=random", "study.num_trials=40", "++space.adapter.rank={low: 1, high: 64}")
TPE = ("sampler=tpe", *RANDOM[1:])


@cache
def composed(override: str) -> TrialConfig:
    """Composed once: it takes its time, and nobody changes it."""
    return trial_config(["quantization=none", override], {})


class Source:
    """Trials of these overrides, counted as they are asked for."""

    def __init__(self, *each: str) -> None:
        self.each, self.num_asked = each, 0

    def ask(self) -> TrialSpec | None:
        number = self.num_asked
        if number == len(self.each):
            return None
        self.num_asked += 1
        return TrialSpec(number, 0, {}, composed(self.each[number]), Path(str(number)))


def numbers(cohort: list[TrialSpec]) -> list[int]:
    return [one.number for one in cohort]


def all_cohorts(builder: CohortBuilder) -> list[list[int]]:
    cohorts = []
    while cohort := builder.build_cohort():
        cohorts.append(numbers(cohort))
    return cohorts


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([LOSS, *RANDOM], 16),
        ([LOSS, *TPE], 4),
        ([LOSS], 16),
        (["study.objectives=[phases.train.seconds]", *RANDOM], 1),
        (["study.objectives=[heldout_loss_nats_per_token,tokens_per_second]", *TPE], 1),
        ([LOSS, *TPE, "executor.cohort_size=7"], 7),
        (["study.objectives=[tokens_per_second]", "executor.cohort_size=1"], 1),
        ([LOSS, *RANDOM, "training.strategy=ddp", "training.num_devices=2"], 1),
        ([LOSS, *RANDOM, "training.strategy=ddp", "training.num_devices=2", "executor.cohort_size=3"], 3),
    ],
)
def test_auto_suits_the_sampler_and_the_objectives(
    compose_study: ComposeStudy, overrides: list[str], expected: int
) -> None:
    assert choose_cohort_size(compose_study("evaluation=none", *overrides)) == expected


def test_geometries_and_trials_that_must_be_alone_are_not_mixed(compose_study: ComposeStudy) -> None:
    short, long = "adapter.rank=2", "training.max_length=99"  # dora is of the short ones' geometry
    each = [short, long, short, "adapter=dora", short, long, "adapter=norms", short, short, long]
    builder = CohortBuilder(Source(*each).ask, compose_study(LOSS, "executor.cohort_size=4"))
    assert all_cohorts(builder) == [[0, 2, 4, 7], [1, 5, 9], [3], [6], [8]]


def test_a_refill_is_of_the_geometry_and_none_joins_a_trial_that_is_alone(compose_study: ComposeStudy) -> None:
    short, long = "adapter.rank=2", "training.max_length=99"  # dora is of the short ones' geometry
    each = [short, short, long, "adapter=dora", short, "adapter=dora"]
    builder = CohortBuilder(Source(*each).ask, compose_study(LOSS, "executor.cohort_size=2"))
    first = builder.build_cohort()
    assert numbers(first) == [0, 1]
    assert numbers(builder.find_refill(first[0])) == [4]
    assert numbers(builder.find_refill(first[1])) == []
    second = builder.build_cohort()
    assert numbers(second) == [2]
    assert numbers(builder.find_refill(second[0])) == []
    alone = builder.build_cohort()
    assert numbers(alone) == [3]
    assert numbers(builder.find_refill(alone[0])) == []  # 5 is of its geometry, but must be alone too
    assert all_cohorts(builder) == [[5]]


def test_a_sampler_that_learns_is_not_asked_for_more_than_a_cohort(compose_study: ComposeStudy) -> None:
    for sampler, num_asked in ((TPE, 5), (RANDOM, 17)):
        source = Source(*["adapter.rank=2"] * 20)
        builder = CohortBuilder(source.ask, compose_study(LOSS, *sampler, "executor.cohort_size=4"))
        assert len(builder.build_cohort()) == 4
        assert source.num_asked == num_asked


def test_one_at_a_time_asks_for_the_next_only_when_it_is_its_turn(compose_study: ComposeStudy) -> None:
    source = Source(*["adapter.rank=2"] * 3)
    builder = CohortBuilder(source.ask, compose_study(LOSS, "executor.cohort_size=1"))
    (first,) = builder.build_cohort()
    assert builder.find_refill(first) == []
    assert source.num_asked == 1
    assert all_cohorts(builder) == [[1], [2]]


def test_settings_are_dealt_to_idle_workers_in_turn(compose_study: ComposeStudy) -> None:
    builder = CohortBuilder(Source(*["adapter.rank=2"] * 7).ask, compose_study(LOSS, *RANDOM))
    assert numbers(builder.build_cohort(2)) == [0, 2, 4, 6]
    assert numbers(builder.build_cohort(1)) == [1, 3, 5]


def test_trials_of_one_seed_stay_together(compose_study: ComposeStudy) -> None:
    """They read the same rows."""
    seeds = iter((0, 0, 1, 1))
    source = Source(*["adapter.rank=2"] * 4)

    def ask() -> TrialSpec | None:
        spec = source.ask()
        return None if spec is None else replace(spec, seed=next(seeds))

    builder = CohortBuilder(ask, compose_study(LOSS, *RANDOM))
    assert numbers(builder.build_cohort(2)) == [0, 1]
