"""Finals in a study: settings are drawn with one seed, and the best of them race with the others."""

import random
from itertools import islice
from pathlib import Path
from typing import Final

import pytest

from sweeplab.config.trial_spec import TrialSpec
from sweeplab.records.record import RaceGoal, StudyFacts, TrialRecord
from sweeplab.report import summarize_answer
from sweeplab.runtime.errors import ConfigError
from sweeplab.search.search import Search
from tests.study_runs import ComposeStudy, Open, end, record_of

RATES: Final = "++space.optimizer.lr={low: 1e-4, high: 1e-2, log: true}"
FINALS: Final = (
    RATES,
    "sampler=finals",
    "sampler.num_drawn=8",
    "sampler.num_finalists=3",
    "study.within=0.1",
    "study.seeds=[0,1,2,3,4,5]",
)
Asked = list[tuple[float, int]]


def loss_of(spec: TrialSpec) -> float:
    rate: float = spec.params["optimizer.lr"]
    return 1 + 100 * rate + random.Random(f"{rate} {spec.seed}").gauss(0, 0.02)


def run_all(search: Search, most: int | None = None) -> tuple[Asked, list[TrialRecord]]:
    asked: Asked = []
    records = []
    for spec in islice(search.ask_all(), most):
        records.append(record_of(spec, loss_of(spec)))
        end(search, records[-1])
        asked.append((spec.params["optimizer.lr"], spec.seed))
    return asked, records


def test_the_best_of_those_drawn_race_with_other_seeds(open_search: Open) -> None:
    search = open_search(*FINALS)
    asked, records = run_all(search)
    assert [seed for _, seed in asked[:8]] == [0] * 8
    losses = {record.params["optimizer.lr"]: record.heldout_loss_nats_per_token for record in records[:8]}
    best = sorted(losses, key=lambda rate: losses[rate] or 0)[:3]
    assert {rate for rate, _ in asked[8:]} == set(best)
    assert {seed for _, seed in asked[8:11]} == {1}
    assert 0 not in {seed for _, seed in asked[8:]}
    assert len(asked) < search.num_planned == 8 + 3 * 5
    assert search.is_over()


def test_a_study_that_goes_on_asks_for_the_same(open_search: Open, tmp_path: Path) -> None:
    whole, _ = run_all(open_search(*FINALS, folder=tmp_path / "whole"))
    for most in (3, 8, 9):
        folder = tmp_path / str(most)
        search = open_search(*FINALS, folder=folder)
        first, _ = run_all(search, most)
        search.close()
        later, _ = run_all(open_search(*FINALS, folder=folder))
        assert [*first, *later] == whole


def test_the_race_waits_for_every_setting_that_is_drawn(open_search: Open) -> None:
    search = open_search(*FINALS)
    running = list(islice(search.ask_all(), 8))
    assert search.ask() is None
    for spec in running[:7]:
        end(search, record_of(spec, loss_of(spec)))
        assert search.ask() is None
    end(search, record_of(running[7], loss_of(running[7])))
    second = search.ask()
    assert second is not None
    assert second.seed == 1


def test_a_setting_that_failed_is_no_finalist(open_search: Open) -> None:
    search = open_search(*FINALS)
    asked: Asked = []
    lowest = 0.0
    for spec in search.ask_all():
        if len(asked) == 0:
            lowest = spec.params["optimizer.lr"]
        loss = None if spec.params["optimizer.lr"] == lowest else loss_of(spec)
        end(search, record_of(spec, loss))
        asked.append((spec.params["optimizer.lr"], spec.seed))
    assert lowest not in {rate for rate, _ in asked[8:]}


def test_the_answer_is_of_the_finalists_and_leaves_the_seed_that_chose_them_out(open_search: Open) -> None:
    search = open_search(*FINALS)
    _, records = run_all(search)
    loss = "heldout_loss_nats_per_token"
    space = {"optimizer.lr": {"low": 1e-4, "high": 1e-2, "log": True}}
    race = RaceGoal(0.1, 0.95, [], 3)
    facts = StudyFacts("f", None, "", {loss: "minimize"}, [0, 1, 2, 3, 4, 5], space, None, {}, race=race)
    best = min((one for one in records if one.seed == 1), key=lambda one: one.heldout_loss_nats_per_token or 0)
    sentences = " ".join(summarize_answer(facts, records))
    assert f"Use lr={best.params['optimizer.lr']:.3g}" in sentences
    assert "No other finalist is better" in sentences
    assert "The 3 finalists were the best with one seed, which has no part in their values here" in sentences
    values = [one.heldout_loss_nats_per_token or 0 for one in records if one.params == best.params and one.seed > 0]
    assert f"held-out loss {sum(values) / len(values):.3f}" in sentences


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("sampler.num_finalists=9", "sampler.num_finalists must be at most sampler.num_drawn=8, got 9; try 5"),
        ("study.seeds=[0,1]", "study.seeds must be three or more for sampler=finals: the first draws, the others race"),
        ("sampler.drawn_by=qmc", "sampler.drawn_by is unknown, got 'qmc'; choose one of tpe, gp"),
    ],
)
def test_what_finals_cannot_be_is_refused(compose_study: ComposeStudy, override: str, words: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        compose_study("evaluation=none", "study.objectives=[heldout_loss_nats_per_token]", *FINALS, override)
    assert words in str(refusal.value)


def test_a_gaussian_process_draws_too(open_search: Open) -> None:
    asked, _ = run_all(open_search(*FINALS, "sampler.drawn_by=gp", "sampler.num_drawn=4"))
    assert [seed for _, seed in asked[:5]] == [0, 0, 0, 0, 1]
