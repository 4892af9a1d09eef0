"""What samplers are told: constraints by their exact violation, and memory that ran out without a made-up value."""

import math
from pathlib import Path

import numpy as np
import pytest
from optuna.trial import TrialState

from sweeplab.config.trial import TrialConfig
from sweeplab.config.trial_spec import TrialSpec
from sweeplab.records.record import Solo, Status
from sweeplab.runtime.errors import ConfigError
from sweeplab.search.outcome import compute_violations
from sweeplab.search.search import Search
from tests.study_runs import LOSS, ComposeStudy, Open, end, record_of

DROPOUT = "++space.adapter.dropout={low: 0.0, high: 0.9}"


def test_violations_are_relative_to_their_bound(compose_study: ComposeStudy) -> None:
    bounds = "{num_trainable_params: {max: 1000}, solo.peak_allocated_bytes: {max: 8e9}, tokens_per_second: {min: 50}}"
    tpe = ("sampler=tpe", "study.num_trials=3", f"++study.constraints={bounds}")
    config = compose_study("evaluation=none", LOSS, *tpe)
    record = record_of(TrialSpec(0, 0, {}, TrialConfig.model_construct(), Path()))
    record.num_trainable_params, record.tokens_per_second = 1500, 100.0
    record.solo = Solo(1.0, 3, 8, None, 2_000_000_000)
    names = ("num_trainable_params max", "solo.peak_allocated_bytes max", "tokens_per_second min")
    assert compute_violations(record, config) == dict(zip(names, (0.5, -0.75, -1.0), strict=True))
    record.solo = None
    assert compute_violations(record, config)["solo.peak_allocated_bytes max"] is None


def test_a_constraint_that_was_not_measured_is_named(open_search: Open) -> None:
    search = open_search(DROPOUT, "sampler=tpe", "study.num_trials=1", "++study.constraints.solo.step_seconds.max=1")
    (asked,) = search.ask_all()
    with pytest.raises(ConfigError, match=r"^study\.constraints names solo\.step_seconds, which trial 0 did not"):
        end(search, record_of(asked))


def share_beyond(search: Search) -> float:
    """Share of the last half of a study that is drawn above the bound, though the loss falls with dropout."""
    drawn = []
    for asked in search.ask_all():
        record = record_of(asked, 2.0 - asked.params["adapter.dropout"])
        record.num_trainable_params = round(1000 * asked.params["adapter.dropout"])
        end(search, record)
        drawn.append(asked.params["adapter.dropout"])
    return float(np.mean(np.array(drawn[len(drawn) // 2 :]) > 0.46))


# slow: a Gaussian process is fitted before every trial; a sampler that models and one that breeds run by default
@pytest.mark.parametrize("sampler", ["tpe", pytest.param("gp", marks=pytest.mark.slow), "nsga2"])
def test_samplers_keep_constraints(open_search: Open, sampler: str, tmp_path: Path) -> None:
    """Parameters grow with dropout here, and more than 450 are not wanted."""
    begin = {"nsga2": ("sampler.population_size=5", "sampler.mutation_prob=0.1")}  # of one axis it mutates all else
    options = begin.get(sampler, ("sampler.n_startup_trials=6",))
    overrides = (DROPOUT, f"sampler={sampler}", *options, "study.num_trials=20")
    bound = "++study.constraints.num_trainable_params.max=450"
    bounded, free = open_search(*overrides, bound), open_search(*overrides, folder=tmp_path / "free")
    assert share_beyond(bounded) < 0.6 * share_beyond(free)
    assert bounded.study.best_trial.params["adapter.dropout"] <= 0.451


def share_without_memory(search: Search, status: Status) -> float:
    """Share of the last half of a study that lies in the half of the space that ends with `status`."""
    drawn = []
    for asked in search.ask_all():
        dropout, rate = asked.params["adapter.dropout"], math.log10(asked.params["optimizer.lr"])
        record = record_of(asked, (rate + 3) ** 2)
        if dropout > 0.45:
            record.status, record.heldout_loss_nats_per_token = status, None
        end(search, record)
        drawn.append(dropout)
    return float(np.mean(np.array(drawn[len(drawn) // 2 :]) > 0.45))


def test_tpe_learns_to_avoid_what_has_no_memory(open_search: Open, tmp_path: Path) -> None:
    """Told as a failure, which Optuna's samplers ignore, the half without memory draws it in."""
    rate = "++space.optimizer.lr={low: 1e-5, high: 1e-2, log: true}"
    overrides = (DROPOUT, rate, "sampler=tpe", "study.num_trials=32")
    avoided = share_without_memory(open_search(*overrides), Status.OUT_OF_MEMORY)
    ignored = share_without_memory(open_search(*overrides, folder=tmp_path / "failed"), Status.FAILED)
    assert avoided <= 0.3
    assert avoided < 0.6 * ignored


def test_a_trial_without_memory_has_a_state_and_a_constraint_but_no_value(open_search: Open) -> None:
    search = open_search(DROPOUT, "sampler=tpe", "study.num_trials=4")
    statuses = (Status.OUT_OF_MEMORY, Status.SKIPPED, Status.DIVERGED, Status.FAILED)
    for asked, status in zip(search.ask_all(), statuses, strict=True):
        record = record_of(asked, None)
        record.status, record.reason = status, "why"
        end(search, record)
    trials = search.study.trials
    assert [trial.state for trial in trials] == [TrialState.PRUNED] * 3 + [TrialState.FAIL]
    assert [trial.values for trial in trials] == [None] * 4
    assert [trial.constraints for trial in trials] == [{"out_of_memory": 1.0}] * 2 + [{}] * 2
    assert [trial.user_attrs["status"] for trial in trials] == [str(one) for one in statuses]
    assert {trial.user_attrs["reason"] for trial in trials} == {"why"}


def test_constraints_cannot_change_within_a_study(open_search: Open) -> None:
    overrides = (DROPOUT, "sampler=tpe", "study.num_trials=2")
    search = open_search(*overrides)
    end(search, record_of(next(search.ask_all())))
    with pytest.raises(
        ConfigError,
        match=r"^study\.constraints\.num_trainable_params\.max was null when the study began, now 450; choose another",
    ):
        open_search(*overrides, "++study.constraints.num_trainable_params.max=450")
