"""What may be asked of a study is written down and answered in a line; what may not be is refused in one."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from sweeplab.cli.steer import Steering
from sweeplab.records.lock import only_writer, read_driver
from sweeplab.records.record import RaceGoal
from sweeplab.records.store import read_facts, write_facts
from sweeplab.records.wishes import AddSeed, StopStudy, StopTrial, read_wishes
from sweeplab.runtime.errors import ConfigError
from tests.cli.studies import make_study
from tests.study_runs import ComposeStudy, run_cli

LATER: Final = "Not trained yet; the study's command trains this next: run it"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_study(tmp_path / "runs" / "single")


def test_a_press_is_written_down_once_and_a_second_one_says_so(folder: Path) -> None:
    with only_writer(folder):
        assert Steering(folder).stop_trial(2) == "Trial 2 ends now, after its present step."
        again = Steering(folder).stop_trial(2)
        assert again == "Trial 2 was asked to end before; it ends now, after its present step."
        assert Steering(folder).add_seeds(2, [7]) == "Noted in the study: seed 7 of rank=4. This comes next."
        assert Steering(folder).add_seeds(0, [7]) == "Asked for before: seed 7 of rank=4. This comes next."
    assert read_wishes(folder)[0] == [AddSeed(0, 7), StopTrial(2)]


def test_the_wish_to_stop_a_study_names_the_driver_that_is_at_work(folder: Path) -> None:
    assert Steering(folder).stop_study() == "single is not running; there is nothing to stop."
    with only_writer(folder) as token:
        assert Steering(folder).stop_study() == (
            "single stops now; trials that run go on from their checkpoints with: run it"
        )
        assert read_driver(folder) == token
    assert read_wishes(folder)[0] == [StopStudy(token)]


def test_a_trial_that_has_ended_is_left_alone(folder: Path) -> None:
    assert Steering(folder).stop_trial(0) == "Trial 0 has ended: finished. There is nothing to stop."
    assert read_wishes(folder)[0] == []


def test_the_next_seed_is_one_that_the_study_does_not_plan_and_goes_on_from_what_was_asked(folder: Path) -> None:
    assert Steering(folder).add_seeds(1, []) == f"Noted in the study: seed 2 of rank=8. {LATER}"
    assert Steering(folder).add_seeds(1, []) == f"Noted in the study: seed 3 of rank=8. {LATER}"
    assert Steering(folder).add_seeds(None, []) == f"Noted in the study: seed 4 of the 2 settings so far. {LATER}"
    assert Steering(folder).add_seeds(None, [3, 4]) == (
        "Noted in the study: seed 3 of the 2 settings so far. "  # one of them has been asked for
        f"Asked for before: seed 4 of the 2 settings so far. {LATER}"
    )
    wanted = [(0, 3), (0, 4), (1, 2), (1, 3), (1, 4)]
    assert sorted((one.trial, one.seed) for one in read_wishes(folder)[0] if isinstance(one, AddSeed)) == wanted


def test_a_seed_that_has_a_trial_and_one_that_was_asked_for_are_told_apart(folder: Path) -> None:
    assert Steering(folder).add_seeds(0, [1]) == "There already, with a trial: seed 1 of rank=4."
    Steering(folder).add_seeds(0, [5])
    assert Steering(folder).add_seeds(0, [5]) == f"Asked for before: seed 5 of rank=4. {LATER}"
    assert Steering(folder).add_seeds(None, [0, 5]) == (
        "Noted in the study: seed 5 of the 2 settings so far. "
        f"There already, with a trial: seed 0 of the 2 settings so far. {LATER}"
    )


def test_a_study_without_a_trial_has_nothing_to_extend(folder: Path) -> None:
    shutil.rmtree(folder / "trials")
    with pytest.raises(ConfigError, match="no trial was begun; run the study first"):
        Steering(folder).add_seeds(None, [5])
    assert read_wishes(folder)[0] == []


@pytest.mark.parametrize("number", [4, -1])
def test_an_unknown_trial_is_refused_in_a_line(number: int, folder: Path) -> None:
    said = f"trial={number} is not there; trials that were begun: 0 to 3; give one of them"
    for ask in (Steering(folder).stop_trial, lambda one: Steering(folder).add_seeds(one, [])):
        with pytest.raises(ConfigError) as refused:
            ask(number)
        assert str(refused.value) == said


def test_a_race_gives_seeds_by_itself(folder: Path) -> None:
    facts = read_facts(folder)
    assert facts is not None
    write_facts(folder, replace(facts, race=RaceGoal(0.02, 0.95)))
    with pytest.raises(ConfigError, match=r"does not go with a race.*raise study\.budget"):
        Steering(folder).add_seeds(0, [])


def test_a_driver_of_a_strange_name_leads_nowhere(folder: Path) -> None:
    """The token becomes a part of a file's name."""
    with only_writer(folder):
        path = folder / ".lock-owner"
        path.write_text(path.read_text().replace(str(read_driver(folder)), "../../x"))
        assert read_driver(folder) is None
        assert Steering(folder).stop_study() == "single is not running; there is nothing to stop."


def test_the_command_line_asks_the_same(folder: Path, tmp_path: Path) -> None:
    done = run_cli(tmp_path, "study.name=single", "action=stop", "trial=2")
    said = "Trial 2 ends when the study goes on, and is not trained further.\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, said, "")
    done = run_cli(tmp_path, "study.name=single", "action=extend", "trial=0", "extend.seeds=[5]")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"Noted in the study: seed 5 of rank=4. {LATER}\n", "")
    done = run_cli(tmp_path, "study.name=other", "action=stop")
    said = "sweeplab: runs/other holds no study; give study.name=NAME, or +experiment=NAME\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", said)
    assert read_wishes(folder)[0] == [AddSeed(0, 5), StopTrial(2)]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["action=stop", "trial=best"],
            "trial must be a number with action=stop, got best; see action=watch",
        ),
        (["action=extend", "extend.seeds=[1,1]"], r"extend\.seeds must be distinct whole numbers"),
        (["action=extend", "extend.seeds=[-1]"], r"extend\.seeds must be from 0 to"),
        (["extend.seeds=[1]"], r"extend\.seeds has no effect with action=run"),
        (["action=watch", "watch.page=true", "watch.once=true"], r"watch\.once shows a study in the terminal"),
    ],
)
def test_what_has_no_sense_is_refused(overrides: list[str], said: str, compose_study: ComposeStudy) -> None:
    with pytest.raises(ConfigError, match=said):
        compose_study(*overrides)
