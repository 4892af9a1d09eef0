"""Pruners: the search tells when a trial should stop, the same before and after it was reopened."""

import math
from itertools import islice
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from sweeplab.config.trial_spec import TrialSpec
from sweeplab.records.record import Status, TrialRecord
from sweeplab.runtime.errors import ConfigError
from sweeplab.search.pruners import build_pruner
from sweeplab.search.search import Search
from tests.study_runs import ComposeStudy, Open, end, record_of

LR = "++space.optimizer.lr={low: 1e-5, high: 1e-2, log: true}"
RUNGS = ("training.heldout_interval=10", "training.max_steps=80")
EARLY = ("pruner=asha", "pruner.reduction_factor=2", "pruner.min_resource=10")
STUDY = (LR, "sampler=random", "study.num_trials=9", *RUNGS)


def curve(number: int, step: int) -> float:
    """Trials 0, 3 and 6 are good, the others worse the later they come."""
    return 3.0 - 0.01 * step + (0.0 if number % 3 == 0 else 0.1 * number)


def pruned(asked: TrialSpec, reason: str) -> TrialRecord:
    record = record_of(asked, None)
    record.status, record.reason = Status.PRUNED, reason
    return record


def train(search: Search, asked: TrialSpec, steps: range = range(10, 81, 10)) -> str | None:
    """Reports rung by rung; tells the end, or why it was pruned."""
    for step in steps:
        reason = search.report(asked.number, step, curve(asked.number, step))
        if reason is not None:
            end(search, pruned(asked, reason))
            return reason
    end(search, record_of(asked, curve(asked.number, 80)))
    return None


def optunas_own(search: Search, num_trials: int) -> list[int]:
    """Steps at which Optuna's own loop with this pruner and these curves prunes; 80 for trials that end."""
    study = optuna.create_study(study_name=search.config.study.name, pruner=build_pruner(search.config, search.varied))
    ended = []

    def objective(trial: optuna.Trial) -> float:
        trial.suggest_float("x", 0, 1)
        for step in range(10, 81, 10):
            trial.report(curve(trial.number, step), step)
            if trial.should_prune():
                ended.append(step)
                raise optuna.TrialPruned
        ended.append(80)
        return curve(trial.number, 80)

    study.optimize(objective, n_trials=num_trials)
    return ended


@pytest.mark.parametrize(
    "pruner",
    [
        # slow: test_resume.py kills a study of every pruner at every point; one by rungs and one by a test are enough
        pytest.param("asha", marks=pytest.mark.slow),
        "asha pruner.min_resource=10",
        pytest.param("hyperband", marks=pytest.mark.slow),
        pytest.param("median pruner.n_startup_trials=2", marks=pytest.mark.slow),
        "wilcoxon pruner.p_threshold=0.3",
    ],
)
def test_it_decides_as_optunas_own_loop_does_also_when_reopened(open_search: Open, pruner: str, tmp_path: Path) -> None:
    """Steps and states are those of `Study.optimize` with the same curves."""
    overrides = (*STUDY, *f"pruner={pruner}".split())
    at_once = open_search(*overrides, folder=tmp_path / "at_once")
    reasons = [train(at_once, asked) for asked in at_once.ask_all()]
    reopened: list[str | None] = []
    for _ in range(9):
        search = open_search(*overrides)
        reopened += [train(search, asked) for asked in islice(search.ask_all(), 1)]
    assert reopened == reasons
    assert any(reasons)
    steps = [80 if reason is None else int(reason.split("step ")[1].split(":")[0]) for reason in reasons]
    assert steps == optunas_own(at_once, 9)
    states = [TrialState.PRUNED if reason else TrialState.COMPLETE for reason in reasons]
    assert [trial.state for trial in at_once.study.trials] == states


def test_a_patient_pruner_looks_at_a_trial_alone(open_search: Open) -> None:
    search = open_search(*STUDY, "pruner=patient")
    (asked,) = islice(search.ask_all(), 1)
    losses = [3.0, 2.0, 2.5, 2.4, 2.3]
    said = [search.report(asked.number, 10 * (place + 1), loss) for place, loss in enumerate(losses)]
    assert said == [None] * 4 + ["pruner=patient at step 50: held-out loss 2.3"]


def test_a_step_reported_again_changes_nothing_and_a_decision_stays(open_search: Open) -> None:
    overrides = (*STUDY, *EARLY)
    search = open_search(*overrides)
    asking = search.ask_all()
    good, bad = next(asking), next(asking)
    assert search.report(good.number, 10, 1.0) is None
    reason = search.report(bad.number, 10, 2.0)
    assert reason == "pruner=asha at step 10: held-out loss 2"
    again = open_search(*overrides)  # killed before either was told
    assert [one.number for one in islice(again.ask_all(), 2)] == [good.number, bad.number]
    assert again.report(good.number, 10, 9.0) is None
    assert again.study.trials[good.number].intermediate_values == {10: 1.0}
    assert again.report(bad.number, 10, 0.0) == reason
    end(again, pruned(bad, reason))
    told = again.study.trials[bad.number]
    assert (told.state, told.user_attrs["status"], told.user_attrs["reason"]) == (TrialState.PRUNED, "pruned", reason)


@pytest.mark.parametrize(
    ("overrides", "rung"),
    [
        (("training.max_steps=80",), 20),
        (("training.max_steps=20",), 10),  # held-out losses come no sooner
        (("training.max_steps=null",), 10),
        (("++space.training.max_steps.choices=[40,160]",), 40),
        (("training.max_steps=80", "pruner.min_resource=10"), 10),
    ],
)
def test_asha_prunes_at_a_quarter_of_the_longest_trial_at_first(
    open_search: Open, overrides: tuple[str, ...], rung: int
) -> None:
    axis = () if "space" in overrides[0] else (LR,)
    study = ("sampler=random", "study.num_trials=9", "training.heldout_interval=10", "pruner=asha")
    search = open_search(*axis, *study, *overrides)
    good, bad = islice(search.ask_all(), 2)
    for step in range(10, rung, 10):
        assert search.report(good.number, step, 1.0) is search.report(bad.number, step, 2.0) is None
    assert search.report(good.number, rung, 1.0) is None
    assert search.report(bad.number, rung, 2.0) == f"pruner=asha at step {rung}: held-out loss 2"


def test_a_lower_loss_is_better_where_the_objective_is_maximized(open_search: Open) -> None:
    score = ("evaluation.tasks=[tiny_addition]", "study.objectives=[scores.tiny_addition.exact_match]")
    search = open_search(*STUDY, *score, *EARLY)
    good, bad = islice(search.ask_all(), 2)
    assert search.report(good.number, 10, 1.0) is None
    assert search.report(bad.number, 10, 2.0) is not None
    assert search.report(bad.number, 20, math.nan) is None  # for training to judge


def test_further_seeds_of_a_pruned_setting_are_left_out(open_search: Open) -> None:
    overrides = ("++space.adapter.rank.choices=[4,8]", "study.seeds=[0,1,2]", "pruner=asha", *RUNGS)
    search = open_search(*overrides)
    told = []
    for asked in search.ask_all():
        told.append((asked.params["adapter.rank"], asked.seed))
        end(search, pruned(asked, "behind") if told[-1] == (8, 0) else record_of(asked))
    assert told == [(4, 0), (8, 0), (4, 1), (4, 2)]
    assert search.queue.num_left_out == 2
    assert list(open_search(*overrides).ask_all()) == []


def test_without_a_pruner_nothing_is_kept(open_search: Open) -> None:
    search = open_search(LR, "sampler=random", "study.num_trials=1")
    (asked,) = search.ask_all()
    assert search.report(asked.number, 10, 1.0) is None
    assert search.study.trials[0].intermediate_values == {}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            "study.objectives=[heldout_loss_nats_per_token,num_trainable_params]",
            r"study\.objectives must be one metric for pruner=asha, since .*; use pruner=none",
        ),
        (
            "training.heldout_interval=null",
            r"training\.heldout_interval is needed by pruner=asha, got null; give",
        ),
        (
            "training.heldout_interval=80",
            r"training\.heldout_interval must be below training\.max_steps=80 .*, got 80; try 20, or use pruner=none",
        ),
        ("pruner=hyperband training.max_steps=null", r"training\.max_steps is needed by pruner=hyperband"),
        (
            "pruner.patience=3",
            r"pruner\.patience has no effect with pruner=asha, got 3; choose pruner=patient, or leave",
        ),
        ("pruner.min_resource=80", r"pruner\.min_resource must be below training\.max_steps=80, .*, got 80; leave it"),
        ("pruner.reduction_factor=1", r"pruner\.reduction_factor must be at least 2, got 1"),
    ],
)
def test_a_pruner_that_could_not_work_is_refused(compose_study: ComposeStudy, overrides: str, message: str) -> None:
    loss = "study.objectives=[heldout_loss_nats_per_token]"
    with pytest.raises(ConfigError, match=message):
        compose_study("evaluation=none", loss, "pruner=asha", *RUNGS, *overrides.split())
