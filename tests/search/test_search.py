"""The search: every point once per seed, whatever interrupts it; told how trials end."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from itertools import islice, product
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from sweeplab.config.trial_spec import TrialSpec
from sweeplab.records.record import Score
from sweeplab.records.store import StoreError
from sweeplab.runtime.errors import ConfigError
from sweeplab.search.dashboard import _DATABASE, Dashboard
from sweeplab.search.search import Search
from sweeplab.search.settings import discard_search
from tests.study_runs import Open, asked_for, end, record_of, run

RANKS = (1, 2, 4, 8, 16, 32, 64)
LR = "++space.optimizer.lr={low: 1e-5, high: 1e-2, log: true}"


def settings_of(asked: list[TrialSpec]) -> list[tuple[Any, ...]]:
    return [(*one.params.values(), one.seed) for one in asked]


SMALL = ("++space.adapter.rank.choices=[4,8,16]", "study.seeds=[0,1]")  # six trials: every one costs SQLite's waits
SMALL_ORDER = [(rank, seed) for seed in (0, 1) for rank in (4, 8, 16)]


def test_the_published_grid_is_asked_once_each_seed_by_seed(open_search: Open) -> None:
    search = open_search("+experiment=rank_sweep")
    asked = run(search)
    assert [one.number for one in asked] == list(range(21))
    assert settings_of(asked) == [(rank, seed) for seed in (0, 1, 2) for rank in RANKS]
    assert (search.num_planned, search.num_ended()) == (21, 21)


def test_a_single_setting_is_one_trial_per_seed(open_search: Open) -> None:
    assert asked_for(run(open_search("study.seeds=[5,3]"))) == [(0, {}, 5), (1, {}, 3)]


def test_a_finished_grid_asks_nothing(open_search: Open) -> None:
    run(open_search(*SMALL))
    search = open_search(*SMALL)
    assert run(search) == []
    assert (search.num_planned, search.num_ended()) == (6, 6)


def test_values_of_every_kind_come_back_as_they_were(open_search: Open) -> None:
    overrides = (
        "++space.training.gradient_clip.choices=[null,1.0]",
        "++space.adapter.lora_key.choices=[true,false]",
        "++space.optimizer.choices=[adamw,sgd]",
        "++space.optimizer.lr.choices=[1e-05]",
        "++space.data.name.choices=['it\\'s, a,b']",
    )
    expected = product([None, 1.0], [True, False], ["adamw", "sgd"], [1e-05], ["it's, a,b"], [0])
    before = run(open_search(*overrides), most=3)
    assert [tuple(map(repr, one)) for one in settings_of([*before, *run(open_search(*overrides))])] == [
        tuple(map(repr, one)) for one in expected
    ]


# slow: moments between the first and the last
@pytest.mark.parametrize(
    "num_ended", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow), 5]
)
def test_an_interrupted_trial_comes_first_and_none_is_lost_or_doubled(open_search: Open, num_ended: int) -> None:
    search = open_search(*SMALL)
    asking = search.ask_all()
    ended = []
    for asked in islice(asking, num_ended):
        end(search, record_of(asked))
        ended.append(asked)
    running = next(asking)  # the driver is killed while this one runs
    again = run(open_search(*SMALL))
    assert again[0] == running
    everything = [*ended, *again]
    assert [one.number for one in everything] == list(range(6))
    assert settings_of(everything) == SMALL_ORDER


def test_a_study_can_be_interrupted_at_every_trial(open_search: Open) -> None:
    ended = []
    while True:
        search = open_search(*SMALL)
        asking = search.ask_all()
        asked = next(asking, None)
        if asked is None:
            break
        end(search, record_of(asked))
        ended.append(asked)
        next(asking, None)  # killed while the next one runs
    assert [one.number for one in ended] == list(range(6))
    assert settings_of(ended) == SMALL_ORDER


def test_num_trials_is_a_total_that_can_be_raised(open_search: Open) -> None:
    first = run(open_search(*SMALL, "study.num_trials=2"))
    more = run(open_search(*SMALL, "study.num_trials=5"))
    rest = run(open_search(*SMALL))
    assert [len(first), len(more), len(rest)] == [2, 3, 1]
    assert settings_of([*first, *more, *rest]) == SMALL_ORDER


def test_added_seeds_extend_a_finished_grid(open_search: Open) -> None:
    choices = "++space.adapter.rank.choices="
    first = run(open_search(f"{choices}[4,8]", "study.seeds=[0]"))
    more = run(open_search(f"{choices}[4,8]", "study.seeds=[0,7]"))
    assert settings_of(first) == [(4, 0), (8, 0)]
    assert asked_for(more) == [(2, {"adapter.rank": 4}, 7), (3, {"adapter.rank": 8}, 7)]


SAMPLERS = ["random", "tpe"]
DRAWN = (LR, "++space.adapter.rank={low: 1, high: 64, log: true}", "study.seeds=[0,1]")


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_drawn_point_is_asked_for_every_seed(open_search: Open, sampler: str) -> None:
    asked = run(open_search(*DRAWN, f"sampler={sampler}", "study.num_trials=14"))
    assert [one.number for one in asked] == list(range(14))
    points = [tuple(one.params.items()) for one in asked]
    assert [one.seed for one in asked] == [0, 1] * 7
    assert points[0::2] == points[1::2]
    assert len(set(points)) == 7
    assert all(1e-5 <= one.params["optimizer.lr"] <= 1e-2 and 1 <= one.params["adapter.rank"] <= 64 for one in asked)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_samplers_seed_decides_what_is_drawn(open_search: Open, sampler: str, tmp_path: Path) -> None:
    overrides = (*DRAWN, f"sampler={sampler}", "study.num_trials=14")
    one, same = (run(open_search(*overrides, folder=tmp_path / name)) for name in ("one", "same"))
    other = run(open_search(*overrides, "sampler.seed=1", folder=tmp_path / "other"))
    assert asked_for(one) == asked_for(same)
    assert {str(asked.params) for asked in one} & {str(asked.params) for asked in other} == set()


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_interrupted_study_draws_what_an_unbroken_one_would(open_search: Open, sampler: str, tmp_path: Path) -> None:
    """A sampler that started over with its seed would draw its first points again."""
    overrides = (*DRAWN, f"sampler={sampler}", "study.num_trials=14")
    unbroken = run(open_search(*overrides, folder=tmp_path / "unbroken"))
    broken = [asked for most in (3, 8, None) for asked in run(open_search(*overrides), most)]
    assert asked_for(broken) == asked_for(unbroken)


def test_seeds_that_a_total_cut_off_are_asked_when_it_is_raised(open_search: Open) -> None:
    overrides = (*DRAWN, "sampler=random")
    first = run(open_search(*overrides, "study.num_trials=3"))
    more = run(open_search(*overrides, "study.num_trials=6"))
    asked = [*first, *more]
    assert [one.seed for one in asked] == [0, 1] * 3
    assert [one.params for one in asked[0::2]] == [one.params for one in asked[1::2]]


def test_added_seeds_come_to_the_points_that_were_drawn(open_search: Open) -> None:
    overrides = (LR, "sampler=tpe")
    first = run(open_search(*overrides, "study.num_trials=2"))
    more = run(open_search(*overrides, "study.num_trials=4", "study.seeds=[0,9]"))
    assert [(one.params, one.seed) for one in more] == [(one.params, 9) for one in first]


def states(search: Search) -> list[TrialState]:
    return [trial.state for trial in search.study.get_trials()]


def test_trials_are_told_as_they_ended(open_search: Open) -> None:
    search = open_search("++space.adapter.rank.choices=[1,2,4]")
    asked = search.ask_all()
    end(search, record_of(next(asked), 2.5))
    end(search, record_of(next(asked), None))
    running = next(asked)
    assert states(search) == [TrialState.COMPLETE, TrialState.FAIL, TrialState.RUNNING]
    assert [trial.values for trial in search.study.get_trials()] == [[2.5], None, None]
    end(search, record_of(running, 2.0))
    assert search.study.best_trial.number == 2
    assert search.num_ended() == 3


def test_a_failed_trial_is_not_asked_again(open_search: Open) -> None:
    search = open_search("++space.adapter.rank.choices=[1,2]")
    for asked in search.ask_all():
        end(search, record_of(asked, None))
    assert run(open_search("++space.adapter.rank.choices=[1,2]")) == []


def test_telling_twice_changes_nothing(open_search: Open) -> None:
    search = open_search()
    (asked,) = search.ask_all()
    end(search, record_of(asked, 2.5))
    end(search, record_of(asked, 1.0))
    assert search.study.trials[0].values == [2.5]


def test_several_objectives_each_have_their_direction(open_search: Open) -> None:
    names = "heldout_loss_nats_per_token,tokens_per_second,scores.tiny_addition.exact_match"
    search = open_search(f"study.objectives=[{names}]", "evaluation.tasks=[tiny_addition]")
    (asked,) = search.ask_all()
    record = record_of(asked, 2.5)
    record.tokens_per_second = 100.0
    record.scores = {"tiny_addition": {"exact_match": Score(0.5, 0.1, 8)}}
    end(search, record)
    assert search.study.directions == [
        optuna.study.StudyDirection.MINIMIZE,
        optuna.study.StudyDirection.MAXIMIZE,
        optuna.study.StudyDirection.MAXIMIZE,
    ]
    assert search.study.trials[0].values == [2.5, 100.0, 0.5]


def test_an_objective_that_was_not_measured_is_named_with_what_was(open_search: Open) -> None:
    search = open_search("study.objectives=[scores.hellaswag.f1]", "evaluation.tasks=[hellaswag]")
    (asked,) = search.ask_all()
    record = record_of(asked, 2.5)
    record.scores = {"hellaswag": {"acc": Score(0.5, 0.1, 8)}}
    with pytest.raises(ConfigError, match=r"names scores\.hellaswag\.f1, .* trial 0 .*hellaswag\.acc$"):
        end(search, record)


def test_a_folder_that_cannot_be_made_is_named(open_search: Open, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file/study cannot be created"):
        open_search(folder=tmp_path / "file" / "study")


def test_a_discarded_search_starts_over(open_search: Open, tmp_path: Path) -> None:
    other = ("++space.adapter.rank.choices=[32,64]",)
    assert len(list(islice(open_search(*SMALL).ask_all(), 2))) == 2
    with pytest.raises(ConfigError, match=r"has lost 4"):
        open_search(*other)
    for _ in range(2):
        discard_search(tmp_path / "study")
    assert asked_for(run(open_search(*other), most=1)) == [(0, {"adapter.rank": 32}, 0)]


def test_what_is_read_from_memory_is_in_the_database(open_search: Open, tmp_path: Path) -> None:
    """Trials, states, values and attributes, of a study that was opened three times and stopped twice."""
    overrides = (
        "sampler=nsga2",
        "sampler.population_size=2",
        "++space.optimizer.lr={low: 1e-5, high: 1e-1, log: true}",
        "study.num_trials=9",
        "study.seeds=[0,1]",
        "++study.constraints.num_trainable_params.max=100",
        "study.enqueue=[{optimizer.lr: 0.01}]",
    )

    def go_on(search: Search, most: int) -> None:
        """The last trial is left running."""
        for place, asked in enumerate(islice(search.ask_all(), most)):
            if place < most - 1:
                end(search, replace(record_of(asked), num_trainable_params=50 * asked.number))

    for most in (3, 4):
        go_on(open_search(*overrides), most)
    search = open_search(*overrides)
    stored = optuna.load_study(study_name="single", storage=f"sqlite:///{tmp_path / 'study' / _DATABASE}")
    for _ in range(2):
        assert [plain(trial) for trial in search.study.trials] == [plain(trial) for trial in stored.trials]
        assert search.study.user_attrs == stored.user_attrs
        go_on(search, 2)


def plain(trial: FrozenTrial) -> dict[str, Any]:
    """Everything of a trial but its place in a database, and its times."""
    odd = ("_trial_id", "_datetime_start", "datetime_complete")
    return {name: value for name, value in vars(trial).items() if name not in odd}


def test_a_number_is_the_same_value_however_it_is_written(open_search: Open) -> None:
    axis = "++space.adapter.alpha_ratio.choices"
    run(open_search(f"{axis}=[1,2]"))
    (added,) = run(open_search(f"{axis}=[1.0,2.0,4.0]"))
    assert added.params == {"adapter.alpha_ratio": 4.0}
    assert run(open_search(f"{axis}=[1,2,4]")) == []


def test_an_enqueued_number_is_the_same_value_however_it_is_written(open_search: Open) -> None:
    drawn = ("sampler=random", "study.num_trials=2", "++space.adapter.alpha_ratio={low: 0.5, high: 8.0}")
    (first, _) = run(open_search(*drawn, "study.enqueue=[{adapter.alpha_ratio: 4.0}]"))
    again = run(open_search(*drawn, "study.num_trials=3", "study.enqueue=[{adapter.alpha_ratio: 4}]"))
    assert first.params == {"adapter.alpha_ratio": 4}
    assert [one.params == first.params for one in again] == [False]


@pytest.mark.parametrize("name", ["a%20b", "{x}", "a?b=c", "a#b", "a b", "é:@"])
def test_the_dashboard_lies_in_the_folder_whatever_it_is_called(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    folder.mkdir()
    study = optuna.create_study(study_name="s")
    study.add_trial(optuna.trial.create_trial(value=0.5))
    said: list[str] = []
    with closing(Dashboard(folder, said.append)) as dashboard:
        dashboard.rebuild(study)
    assert said == []
    with closing(sqlite3.connect(folder / _DATABASE)) as database:
        assert database.execute("SELECT value FROM trial_values").fetchall() == [(0.5,)]
    assert [path.name for path in tmp_path.iterdir()] == [name]
