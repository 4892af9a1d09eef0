"""What a person asks of a study, through a real driver and a worker without a model: done once, and never lost."""

import os
import random
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from sweeplab.cli.live_view import LiveView
from sweeplab.cli.steer import Steering
from sweeplab.config.space import identify_params
from sweeplab.records.asked import TRIAL_FILE
from sweeplab.records.record import Status, TrialRecord
from sweeplab.records.store import read_facts, read_records, record_path, trial_files
from sweeplab.records.wishes import AddSeed, StopStudy, StopTrial, read_wishes, write_wish
from sweeplab.tracking.status_file import read_status
from tests.study_runs import MOST_SECONDS, Standin, wait_until

RANKS: Final = "space.adapter.rank.choices=[1,2,3]"
MOST_REACTION_SECONDS: Final = 2.0  # of processor and clock; the study looks for wishes three times a second


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "single"


def statuses(folder: Path) -> list[str]:
    return [record.status.value for record in read_records(folder)]


def is_waiting(standin: Standin, number: int) -> bool:
    return number in standin.numbers()


def test_a_trial_that_is_stopped_while_it_runs_is_marked_and_the_others_go_on(
    standin: Standin, tmp_path: Path, folder: Path
) -> None:
    standin.plan(wait=[1])
    with standin.cli(tmp_path, RANKS) as study:
        wait_until(lambda: is_waiting(standin, 1))
        began = time.monotonic()
        assert Steering(folder).stop_trial(1) == "Trial 1 ends now, after its present step."
        wait_until(record_path(folder, 1).exists)
        took = time.monotonic() - began
        out, err = study.communicate(timeout=MOST_SECONDS)
    assert (study.returncode, err) == (0, "")
    assert statuses(folder) == ["finished", "stopped", "finished"]
    assert read_wishes(folder) == ([], {})
    assert "trial 1: rank=2 seed=0  stopped: by hand after 2 of 2 steps" in out
    assert "1 trial stopped by hand, counted neither for nor against their settings." in out
    assert took < 20 * MOST_REACTION_SECONDS  # a busy machine; `test_stopping` counts the steps


def test_a_trial_that_is_stopped_while_nobody_runs_is_not_trained_any_more(
    standin: Standin, tmp_path: Path, folder: Path
) -> None:
    standin.plan(wait=[1])
    with standin.cli(tmp_path, RANKS) as study:
        wait_until(lambda: is_waiting(standin, 1))
        study.kill()
        study.communicate()
    said = Steering(folder).stop_trial(1)
    assert said == "Trial 1 ends when the study goes on, and is not trained further."
    assert "was asked to end before" in Steering(folder).stop_trial(1)
    code, out, err = standin.run_cli(tmp_path, RANKS)
    assert (code, err) == (0, "")
    assert statuses(folder) == ["finished", "stopped", "finished"]
    assert standin.numbers() == [0, 1, 2]
    assert "stopped: by hand, while it did not train" in out
    assert read_wishes(folder) == ([], {})


def test_a_study_that_is_stopped_says_so_and_the_same_command_goes_on(
    standin: Standin, tmp_path: Path, folder: Path
) -> None:
    standin.plan(wait=[1])
    with standin.cli(tmp_path, RANKS) as study:
        wait_until(lambda: is_waiting(standin, 1))
        assert Steering(folder).stop_study().startswith("single stops now; trials that run go on")
        out, err = study.communicate(timeout=MOST_SECONDS)
    assert (study.returncode, err) == (0, "")  # one trial has finished
    assert "Stopped: by hand. The same command continues the study." in out
    assert statuses(folder) == ["finished"]
    seen = read_status(folder)
    assert seen is not None
    assert not seen.ended
    assert Steering(folder).stop_study() == "single is not running; there is nothing to stop."
    standin.plan()
    assert standin.run_cli(tmp_path, RANKS)[0] == 0
    assert statuses(folder) == ["finished"] * 3


def test_a_wish_for_an_earlier_driver_does_not_stop_this_one(standin: Standin, tmp_path: Path, folder: Path) -> None:
    write_wish(folder, StopStudy("0123456789abcdef"))
    code, out, err = standin.run_cli(tmp_path, RANKS)
    assert (code, err, len(read_records(folder))) == (0, "", 3)
    assert "Stopped" not in out
    assert read_wishes(folder) == ([], {})


def test_seeds_are_added_while_a_study_runs_and_counted_as_planned(
    standin: Standin, tmp_path: Path, folder: Path
) -> None:
    standin.plan(wait=[0])
    with standin.cli(tmp_path, RANKS) as study:
        wait_until(lambda: is_waiting(standin, 0))
        assert Steering(folder).add_seeds(0, []) == "Noted in the study: seed 1 of rank=1. This comes next."
        assert Steering(folder).add_seeds(0, [1]) == "Asked for before: seed 1 of rank=1. This comes next."
        wait_until(lambda: (seen := read_status(folder)) is not None and seen.num_planned == 4)
        standin.let_go()
        study.communicate(timeout=MOST_SECONDS)
    assert study.returncode == 0
    found = [(record.params["adapter.rank"], record.seed) for record in read_records(folder)]
    assert sorted(found) == [(1, 0), (1, 1), (2, 0), (3, 0)]
    assert found[1] == (1, 1)
    facts = read_facts(folder)
    assert facts is not None
    assert facts.num_planned == 4
    assert read_wishes(folder) == ([], {})


def test_seeds_are_added_to_a_study_that_has_ended(standin: Standin, tmp_path: Path, folder: Path) -> None:
    assert standin.run_cli(tmp_path, RANKS)[0] == 0
    steering = Steering(folder)
    said = steering.add_seeds(None, [])
    later = f"Not trained yet; the study's command trains this next: {steering.facts.command}"
    assert said == f"Noted in the study: seed 1 of the 3 settings so far. {later}"
    assert Steering(folder).add_seeds(2, [5, 6]) == f"Noted in the study: seeds 5, 6 of rank=3. {later}"
    code, out, err = standin.run_cli(tmp_path, RANKS)
    assert (code, err) == (0, "")
    found = [(record.params["adapter.rank"], record.seed) for record in read_records(folder)]
    assert sorted(found) == [(1, 0), (1, 1), (2, 0), (2, 1), (3, 0), (3, 1), (3, 5), (3, 6)]
    assert out.startswith("8 trials, 3 done, 1 worker\n")
    assert "nothing is left to train" not in out
    assert "[8/8]" in out
    assert standin.run_cli(tmp_path, RANKS)[0] == 0
    assert len(read_records(folder)) == 8
    assert len(standin.numbers()) == 8


def test_a_wish_for_nothing_that_is_there_and_a_damaged_one_do_no_harm(
    standin: Standin, tmp_path: Path, folder: Path
) -> None:
    for wish in (StopTrial(99), AddSeed(99, 1), AddSeed(0, -1)):
        write_wish(folder, wish)
    (folder / "wishes" / "stop-trial-1.json").write_text("{")
    code, out, err = standin.run_cli(tmp_path, RANKS)
    assert (code, err, statuses(folder)) == (0, "", ["finished"] * 3)
    assert re.search(r"stop-trial-1\.json is no wish \(.*\), and is kept as stop-trial-1\.json\.set-aside", out)
    assert read_wishes(folder) == ([], {})


class Clicks:
    """Random presses of buttons, and what was answered to them."""

    def __init__(self, folder: Path, dice: random.Random, waiting: set[int]) -> None:
        self.folder = folder
        self.dice = dice
        self.waiting = waiting  # trials that end only when they are stopped
        self.view: LiveView | None = None
        self.num_clicks = 0
        self.stopped: set[int] = set()  # trials that were promised to end
        self.added: set[tuple[str, int]] = set()  # setting and seed that were promised
        self.study_stops = 0

    def numbers(self) -> list[int]:
        return [int(path.parent.name) for path in trial_files(self.folder, TRIAL_FILE)]

    def ask(self, values: dict[str, Any]) -> str:
        """A press on a page; now and then the page is another one, as after a kill."""
        if self.view is None or self.dice.random() < 0.05:
            self.view = LiveView(self.folder)
        self.num_clicks += 1
        return self.view.ask(values)

    def click(self) -> None:
        numbers = self.numbers()
        if not numbers:
            return
        number = self.dice.choice(numbers[-2:] if self.dice.random() < 0.5 else numbers)
        chance = self.dice.random()
        if chance < 0.01:
            self.study_stops += "stops now" in self.ask({"ask": "stop_study"})
        elif chance < 0.5:
            if "ends" in self.ask({"ask": "stop_trial", "trial": number}):
                self.stopped.add(number)
        else:
            seed = self.dice.randrange(6)
            self.ask({"ask": "add_seed", "trial": number, "seed": seed})  # there already, or promised
            self.added.add((identify_params(Steering(self.folder).setting_of[number].params), seed))

    def release(self) -> None:
        """Stops the trials that would wait for ever, but for those of which that was promised."""
        for number in self.waiting.intersection(self.numbers()) - self.stopped:
            if not record_path(self.folder, number).exists():
                self.ask({"ask": "stop_trial", "trial": number})


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in folder.glob("trials/*/record.json")}


def kill_now_and_then(
    standin: Standin, tmp_path: Path, clicks: Clicks, num_kills: int, num_clicks: int
) -> Iterator[int]:
    """Drivers that are killed while somebody clicks; yields the signal or exit code of each."""
    for number in range(num_kills):
        with standin.cli(tmp_path, *WILD) as study:
            goal = (number + 1) * num_clicks // num_kills
            while clicks.num_clicks < goal and study.poll() is None:
                time.sleep(clicks.dice.uniform(0, 0.02))
                clicks.click()
                if clicks.dice.random() < 0.05:
                    clicks.release()
            while clicks.num_clicks < goal:  # it has ended, or a click has stopped it: the page is still there
                clicks.click()
            if study.poll() is None:
                os.kill(study.pid, signal.SIGKILL)
            study.communicate(timeout=MOST_SECONDS)
        yield study.returncode


WILD: Final = ("space.adapter.rank.choices=[1,2,3,4,5,6,7,8]", "study.seeds=[0,1,2]", "executor.num_workers=2")


@pytest.mark.parametrize(
    ("num_clicks", "num_kills"),
    [
        (100, 3),
        # slow: twenty starts of a driver take minutes; the same with three runs by default
        pytest.param(1000, 20, marks=[pytest.mark.slow, pytest.mark.timeout(3000)]),
    ],
)
def test_no_click_is_lost_while_drivers_are_killed(
    num_clicks: int, num_kills: int, standin: Standin, tmp_path: Path, folder: Path
) -> None:
    waiting = {number for number in range(60) if number % 5 == 3}
    standin.plan(wait=sorted(waiting), seconds=0.2)
    clicks = Clicks(folder, random.Random(int(os.environ.get("CHAOS_SEED", "0"))), waiting)
    before: dict[str, bytes] = {}
    codes = []
    for code in kill_now_and_then(standin, tmp_path, clicks, num_kills, num_clicks):
        codes.append(code)
        after = bytes_of(folder)
        assert {name: after.get(name) for name in before} == before  # a record never changes
        before = after
    assert set(codes) <= {-signal.SIGKILL, 0, 1}
    assert codes.count(-signal.SIGKILL) > num_kills // 2
    with standin.cli(tmp_path, *WILD) as study:
        while study.poll() is None:
            clicks.release()
            time.sleep(0.1)
        out, err = study.communicate(timeout=MOST_SECONDS)
    assert (study.returncode, err) == (0, ""), out
    records = read_records(folder)
    check_promises(records, clicks)
    assert read_wishes(folder) == ([], {})
    assert not [path for path in (folder / "wishes").iterdir() if path.suffix != ".json"]


def check_promises(records: list[TrialRecord], clicks: Clicks) -> None:
    by_number = {record.number: record for record in records}
    found = [(identify_params(record.params), record.seed) for record in records]
    assert len(set(found)) == len(found) == len(by_number)
    assert clicks.added
    assert clicks.added <= set(found)
    assert clicks.stopped
    assert clicks.stopped <= by_number.keys()
    assert {by_number[number].status for number in clicks.waiting & by_number.keys()} == {Status.STOPPED}
    assert {record.status for record in records} <= {Status.STOPPED, Status.FINISHED}
    ranks = range(1, 9)
    planned = {(identify_params({"adapter.rank": rank}), seed) for rank in ranks for seed in (0, 1, 2)}
    assert planned <= set(found)
