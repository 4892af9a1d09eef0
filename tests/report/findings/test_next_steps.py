"""What is proposed after a study can be typed as it stands, and is what the study left open."""

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from sweeplab.records.record import RaceGoal, Score, StudyFacts, TrialRecord
from sweeplab.report.evidence.settings import group_by_setting
from sweeplab.report.findings.next_steps import NextStep, change_command, list_next_steps

RecordFactory = Callable[..., TrialRecord]
FactsFactory = Callable[..., StudyFacts]
COMMAND = "python -m sweeplab +experiment=rank_sweep"
EXPORT = f"{COMMAND} action=export trial=best export.path=best"


def steps(facts: StudyFacts, records: list[TrialRecord]) -> list[NextStep]:
    return list_next_steps(facts, group_by_setting(facts, records), None)


@pytest.fixture
def trials(make_record: RecordFactory) -> Callable[[dict[int, tuple[float, ...]]], list[TrialRecord]]:
    def make(losses: dict[int, tuple[float, ...]]) -> list[TrialRecord]:
        pairs = [(rank, seed, loss) for rank, of_seeds in losses.items() for seed, loss in enumerate(of_seeds)]
        return [make_record(n, {"adapter.rank": rank}, seed, loss) for n, (rank, seed, loss) in enumerate(pairs)]

    return make


Trials = Callable[[dict[int, tuple[float, ...]]], list[TrialRecord]]


def test_a_tie_asks_for_seeds_and_a_clear_answer_does_not(make_facts: FactsFactory, trials: Trials) -> None:
    facts = make_facts(seeds=[0, 1, 2])
    tied = steps(facts, trials({4: (1.0, 1.2, 1.1), 8: (1.1, 1.0, 1.15), 16: (1.2, 1.1, 1.0)}))
    assert tied[0].advice.startswith("take the cheapest of those that may be as good")
    assert tied[0].advice.endswith("; to tell all apart would need too many seeds")
    assert tied[0].command is None
    near = steps(facts, trials({4: (1.1, 1.25, 1.2), 8: (1.0, 1.1, 1.15), 16: (8.0, 8.1, 8.2)}))[0]
    needed = int(near.advice.removeprefix("about ").partition(" seeds would tell rank=4 apart")[0])
    assert 3 < needed <= 20
    assert near.command == f"{COMMAND} 'study.seeds=[{','.join(map(str, range(needed)))}]'"
    clear = steps(facts, trials({4: (9.0, 9.1, 9.2), 8: (1.0, 1.01, 1.02), 16: (5.0, 5.1, 5.2)}))
    assert [one.command for one in clear] == [EXPORT]


def test_equal_scores_do_not_say_how_many_seeds_they_need(make_facts: FactsFactory, make_record: RecordFactory) -> None:
    none = {"new": {"acc": Score(0.0, 0.0, 10)}}
    records = [make_record(n, {"adapter.rank": 4 << n // 2}, n % 2, 1.0, scores=none) for n in range(4)]
    advice = steps(make_facts(seeds=[0, 1], objectives={"scores.new.acc": "maximize"}), records)[0].advice
    assert advice.endswith("; how many seeds would tell them apart is not known")


def test_the_best_at_an_end_asks_for_the_next_value(make_facts: FactsFactory, trials: Trials) -> None:
    facts = make_facts(seeds=[0, 1, 2])
    larger = steps(facts, trials({4: (9.0, 9.1, 9.2), 8: (5.0, 5.1, 5.2), 16: (1.0, 1.01, 1.02)}))
    assert larger[0].command == f"{COMMAND} 'space.adapter.rank.choices=[4,8,16,32]'"
    smaller = steps(facts, trials({4: (1.0, 1.01, 1.02), 8: (5.0, 5.1, 5.2), 16: (9.0, 9.1, 9.2)}))
    assert smaller[0].command == f"{COMMAND} 'space.adapter.rank.choices=[2,4,8,16]'"
    one = make_facts(seeds=[0, 1, 2], space={"adapter.rank": {"choices": [1, 2, 3]}})
    none = steps(one, trials({1: (1.0, 1.01, 1.02), 2: (5.0, 5.1, 5.2), 3: (9.0, 9.1, 9.2)}))
    assert [step.command for step in none] == [None, EXPORT]  # half a rank is none


def test_failed_trials_come_first_and_without_a_value_nothing_else(make_facts: FactsFactory, trials: Trials) -> None:
    (only,) = steps(make_facts(), trials({4: (None,), 8: (None,)}))  # type: ignore[dict-item]
    assert only == NextStep("run 2 failed trials again", f"{COMMAND} study.retry=failed")


def test_own_questions_that_did_not_decide_are_named_with_what_would_let_them(
    make_facts: FactsFactory, make_record: RecordFactory
) -> None:
    records = [
        make_record(n, {"adapter.rank": rank}, 0, 1.0 + n, {"own": {"acc": Score(0.5, 0.1, 10)}})
        for n, rank in enumerate((4, 8, 16))
    ]
    found = [one for one in steps(make_facts(), records) if "own questions" in one.advice]
    assert [one.command for one in found] == [
        f"{COMMAND} 'study.objectives=[scores.own.acc]' study.name=rank_sweep_own"
    ]
    assert found[0].advice.startswith("your own questions were scored, but held-out loss")
    by_own = make_facts(objectives={"scores.own.acc": "maximize"})
    assert not [one for one in steps(by_own, records) if "own questions" in one.advice]
    without = [make_record(n, {"adapter.rank": rank}, 0, 1.0 + n) for n, rank in enumerate((4, 8, 16))]
    assert not [one for one in steps(make_facts(), without) if "own questions" in one.advice]


def test_a_race_asks_for_its_seeds_itself(make_facts: FactsFactory, trials: Trials) -> None:
    facts = make_facts(seeds=[0, 1], race=RaceGoal(0.1, 0.95))
    found = steps(facts, trials({4: (1.0, 1.2), 8: (1.1, 1.0), 16: (1.2, 1.1)}))
    assert [one.command for one in found] == [None, EXPORT]


def test_one_seed_asks_for_three(make_facts: FactsFactory, trials: Trials) -> None:
    found = steps(make_facts(seeds=[0]), trials({4: (1.5,), 8: (1.0,), 16: (3.0,)}))
    assert found[0] == NextStep("more seeds, study.seeds=[0,1,2]", f"{COMMAND} 'study.seeds=[0,1,2]'")


def test_a_key_that_is_there_is_changed_and_quotes_and_home_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: Path("/home/somebody"))
    monkeypatch.setenv("HOME", "/home/somebody")
    typed = """python -m sweeplab 'data.path='"$HOME"'/my data.json' 'study.seeds=[0]' action=run"""
    changed = change_command(typed, "study.seeds", "[0,1]")
    assert changed.count("study.seeds") == 1
    words = shlex.split(changed.replace("$HOME", "/home/somebody"))
    assert words[3:] == ["data.path=/home/somebody/my data.json", "action=run", "study.seeds=[0,1]"]
    assert "/home/somebody" not in changed


@pytest.mark.parametrize(
    ("typed", "name", "left"),
    [
        ("model=DIR 'data.path=a b.json' study.name=mine 'study.seeds=[0,1]'", "mine", "study.name=mine"),
        ("study.name=mine 'study.runs_dir=r s'", "mine", "'study.runs_dir=r s' study.name=mine"),
        ("--config-dir .. +experiment=own optimizer.lr=1", "own", "--config-dir .. +experiment=own"),
        ("--config-dir=.. +experiment=own -m", "own-1", "--config-dir=.. +experiment=own study.name=own-1"),
        ("action=recommend model=DIR study.budget=20min", "recommend", "+experiment=recommend"),
        ("adapter.rank=4 executor.device=cpu", "single", "executor.device=cpu study.name=single"),
        ("study.name=a,b -m", "b", "study.name=b"),
    ],
)
def test_an_export_names_the_study_and_leaves_out_what_its_records_say(
    make_facts: FactsFactory, trials: Trials, typed: str, name: str, left: str
) -> None:
    facts = make_facts(command=f"python -m sweeplab {typed}", name=name)
    last = steps(facts, trials({4: (1.5, 1.6), 8: (1.0, 1.1)}))[-1]
    assert last.command == f"python -m sweeplab {left} action=export trial=best export.path=best"


@pytest.mark.parametrize(
    ("typed", "added"),
    [
        ("python -m sweeplab action=recommend study.budget=20min", " +experiment=recommend"),
        ("python -m sweeplab +experiment=mine action=recommend study.budget=20min", ""),
    ],
)
def test_another_action_on_a_recommendation_names_its_experiment(typed: str, added: str) -> None:
    without = typed.replace("action=recommend ", "")
    assert change_command(typed, "action", "export") == f"{without}{added} action=export"
    assert change_command(typed, "study.budget", "1h") == typed.replace("20min", "1h")
