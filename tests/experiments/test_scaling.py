"""The scaling model against closed forms: plain arithmetic, and the machine-repair queue."""

import math
from pathlib import Path
from typing import Any, Final

import pytest

from experiments.scaling import report
from experiments.scaling.__main__ import ASSUMED, RECORDS, relative_times, row, scaled
from experiments.scaling.model import Plan, Service, Simulation, exponential, fixed, promoted

FREE: Final = Service(0.0, 0.0, 0.0)


def exponential_trial(mean: float) -> Any:
    return lambda numbers: numbers.expovariate(1 / mean)


@pytest.mark.parametrize(("num_trials", "num_gpus"), [(100, 8), (64, 64), (7, 3), (5, 1)])
def test_equal_trials_end_when_arithmetic_says(num_trials: int, num_gpus: int) -> None:
    plan = Plan(num_trials, num_gpus, lambda _: 60.0, fixed, FREE)
    outcome = Simulation(plan, 0).run()
    assert outcome.makespan == math.ceil(num_trials / num_gpus) * 60.0
    assert (outcome.num_finished, outcome.gpu_seconds) == (num_trials, 60.0 * num_trials)


def test_a_driver_that_is_the_limit_takes_its_time_for_every_trial() -> None:
    plan = Plan(1000, 64, lambda _: 0.5, fixed, Service(ask=0.03, observe=0.0, record=0.02))
    outcome = Simulation(plan, 0).run()
    assert outcome.driver_seconds == pytest.approx(50.0)
    assert 50.0 <= outcome.makespan < 51.0
    assert row(plan, 0.5, outcome)["driver_load"] > 0.98


@pytest.mark.parametrize(("num_gpus", "load"), [(4, 0.1), (8, 0.125), (8, 0.5), (32, 0.02)])
def test_driver_load_is_the_machine_repair_queues(num_gpus: int, load: float) -> None:
    """N machines, exponential times to failure and one repairman: busy 1 - p0, p0 = 1 / sum N!/(N-k)! (s/t)^k."""
    plan = Plan(15_000, num_gpus, exponential_trial(1.0), exponential, Service(load, 0.0, 0.0))
    outcome = Simulation(plan, 1).run()
    busy = 1 - 1 / sum(math.perm(num_gpus, k) * load**k for k in range(num_gpus + 1))
    assert outcome.driver_seconds / outcome.makespan == pytest.approx(busy, rel=0.03)
    assert outcome.num_finished / outcome.makespan == pytest.approx(busy / load, rel=0.03)


def test_failures_cost_what_exponential_lives_cost() -> None:
    """A trial of T seconds fails for good where two lives in a row are shorter: (1 - exp(-r T))^2."""
    rate, seconds = 0.5 / 100, 100.0
    plan = Plan(20_000, 10, lambda _: seconds, fixed, FREE, failures_per_gpu_second=rate)
    outcome = Simulation(plan, 2).run()
    short = 1 - math.exp(-rate * seconds)
    assert outcome.num_failed / plan.num_trials == pytest.approx(short**2, rel=0.03)
    assert outcome.num_retries / plan.num_trials == pytest.approx(short, rel=0.03)
    assert outcome.num_failed + outcome.num_finished == plan.num_trials


def test_halving_keeps_about_one_in_four_at_every_rung() -> None:
    plan = Plan(4000, 16, lambda _: 60.0, fixed, FREE, rungs=(1 / 16, 1 / 4, 1.0), reduction=4)
    outcome = Simulation(plan, 3).run()
    reached = [len(losses) for losses in outcome.at_rungs[:2]]
    assert reached[0] == 4000
    assert reached[1] / 4000 == pytest.approx(0.25, abs=0.03)
    assert outcome.num_finished + outcome.num_stopped == 4000
    assert promoted(1.0, [1.0, 2.0, 3.0], 4)
    assert not promoted(2.0, [1.0, 2.0, 3.0, 4.0], 4)


def test_the_report_says_what_was_simulated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "FOLDER", tmp_path)
    times = relative_times(RECORDS)
    assert sum(times) / len(times) == pytest.approx(1.0)
    rows = []
    for num_gpus in (8, 16):
        plan = Plan(200, num_gpus, scaled(times, 60.0), fixed, Service(0.01, 0.001, 0.01), **ASSUMED)
        outcomes = [Simulation(plan, seed).run() for seed in (5, 5, 6)]
        assert outcomes[0] == outcomes[1] != outcomes[2]
        rows.append(row(plan, 60.0, outcomes[0]))
    report.write_report(rows, 5, Service(0.01, 0.001, 0.01), ASSUMED)
    page = (tmp_path / "report.md").read_text()
    assert "Seed 5." in page
    assert page.count("| 60.0 |") == 2
    assert f"| {rows[1]['efficiency']:.3f} |" in page
    assert (tmp_path / "scaling.svg").read_text().count("<polyline") == 1
