"""Following a study from elsewhere: what is shown is what its files say, and nothing of them is touched."""

import io
import json
import math
import os
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from scipy import stats

from sweeplab.cli import watch
from sweeplab.cli.watch import Watcher, draw_study, has_driver, has_ended, watch_study
from sweeplab.records.lock import only_writer
from sweeplab.records.record import RaceGoal, Status, StudyFacts, TrialRecord
from sweeplab.records.store import StoreError, read_record, write_facts, write_record
from sweeplab.tracking import progress as progress_module
from sweeplab.tracking.progress import StudyProgress
from sweeplab.tracking.status_file import _FILE, StudyStatus, TrialProgress, read_status, write_status
from tests.study_runs import MOST_SECONDS, ComposeStudy, Standin, run_cli, wait_until

LOSS = "heldout_loss_nats_per_token"


def trial(number: int, rank: int, seed: int, loss: float | None = None, **other: object) -> TrialRecord:
    status = Status.FAILED if loss is None else Status.FINISHED
    made = TrialRecord(number, status, seed, {"adapter.rank": rank}, {}, heldout_loss_nats_per_token=loss)
    return replace(made, **other)  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A study of two ranks and two seeds that has begun."""
    made = tmp_path / "runs" / "single"
    space = {"adapter.rank": {"choices": [4, 8]}}
    write_facts(made, StudyFacts("single", None, "run it", {LOSS: "minimize"}, [0, 1], space, 4, {}))
    return made


def shown(folder: Path, now: float = 100.0) -> str:
    seen = Watcher(folder).look()
    assert seen is not None
    out = io.StringIO()
    Console(file=out, width=160).print(draw_study(seen, now))
    return out.getvalue()


def test_the_best_has_its_interval_once_a_setting_has_two_seeds(folder: Path) -> None:
    assert "best" not in shown(folder)
    write_record(folder, trial(0, 4, 0, 2.0))
    write_record(folder, trial(1, 8, 0, 1.0))
    assert "rank=8  1.000 nats/target  (one seed so far, no interval)" in shown(folder)
    write_record(folder, trial(2, 4, 1, 2.2))
    level = 0.975**0.5  # of the first look at two seeds, for two settings
    reach = stats.t.ppf((1 + level) / 2, 1) * math.log(2.2 / 2.0) / 2  # the standard error of two logarithms
    ends = f"[{2.1 * math.exp(-reach):.3f}, {2.1 * math.exp(reach):.3f}]"
    assert f"rank=4  2.100 nats/target {ends}  (95 % interval over seeds)" in shown(folder)


def test_a_race_says_where_it_stands(tmp_path: Path) -> None:
    made = tmp_path / "runs" / "single"
    space = {"adapter.rank": {"choices": [4, 8, 16], "begin": 2}}
    facts = StudyFacts("single", None, "run it", {LOSS: "minimize"}, [0, 1, 2], space, None, {})
    write_facts(made, replace(facts, race=RaceGoal(0.5, 0.95)))
    assert "Now" not in shown(made)
    for number, (rank, seed, loss) in enumerate([(4, 0, 2.0), (8, 0, 1.0), (4, 1, 2.001), (8, 1, 1.001)]):
        write_record(made, trial(number, rank, seed, loss))
        if number == 1:
            assert "Now: rank=8 leads after 2 runs; another seed will tell" in shown(made)
    assert "leads after 4 runs, and nothing tried is better by more than 0.5. Now beside it: rank=16" in shown(made)


def test_endings_are_counted_and_the_latest_come_first_with_their_reasons(folder: Path) -> None:
    write_record(folder, trial(0, 4, 0, 2.0))
    write_record(folder, trial(1, 8, 0, reason="RuntimeError: [no] room"))
    write_record(folder, trial(2, 4, 1, status=Status.DIVERGED, reason="the loss became nan"))
    for number in (0, 1, 2):
        os.utime(folder / "trials" / f"{number:05d}" / "record.json", (1000 - number, 1000 - number))
    text = shown(folder)
    assert "3/4 trials: 1 finished, 1 diverged, 1 failed" in text
    said = ["held-out loss 2.000 nats/target", "failed: RuntimeError: [no] room", "diverged: the loss became nan"]
    assert sorted(said, key=text.index) == said


def test_what_runs_is_shown_while_there_is_a_driver(folder: Path) -> None:
    running = [TrialProgress(1, "trial 1: rank=8 seed=0", 40.0, 0.25, 1.5)]
    write_status(folder, StudyStatus(90.0, 4, 0, 125.0, False, running))
    assert "stopped; it goes on with: run it" in shown(folder)
    assert "rank=8 seed=0" not in shown(folder)
    with only_writer(folder):
        text = shown(folder, now=100.0)
    (row,) = [line for line in text.splitlines() if "trial 1: rank=8 seed=0" in line]
    assert [part.strip() for part in row.split("│")[1:-1]] == ["trial 1: rank=8 seed=0", "25%", "1.5", "1:00"]
    assert "running, 2:05 left" in text


def test_a_driver_is_told_from_another_process_and_another_machine(folder: Path) -> None:
    assert has_driver(folder) is False
    with only_writer(folder):
        assert has_driver(folder) is True
        lock = (folder / ".lock").read_text()
    (folder / ".lock").write_text(lock.replace(f"process {os.getpid()}", "process 999999999"))
    assert has_driver(folder) is False
    (folder / ".lock").write_text(f"process {os.getpid()} on {socket.gethostname()} since 2001-01-01 00:00:00\n")
    assert has_driver(folder) is False  # this process began later, so it is another one with the same number
    (folder / ".lock").write_text(lock.replace(f" on {socket.gethostname()}", " on elsewhere"))
    assert has_driver(folder) is None


@pytest.mark.parametrize(
    ("num_trials", "asked_all", "expected"), [(4, False, True), (3, False, False), (3, True, True), (0, False, False)]
)
def test_a_study_has_ended_once_no_driver_is_needed(
    folder: Path, num_trials: int, asked_all: bool, expected: bool
) -> None:
    for number in range(num_trials):
        write_record(folder, trial(number, 4, number, 2.0))
    write_status(folder, StudyStatus(90.0, 4, num_trials, None, asked_all))
    seen = Watcher(folder).look()
    assert seen is not None
    assert has_ended(seen) is expected
    assert has_ended(seen._replace(driven=True)) is False


def test_a_record_is_read_once_and_again_when_it_changes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[Path] = []

    def counted(path: Path) -> TrialRecord:
        reads.append(path)
        return read_record(path)

    monkeypatch.setattr(watch, "read_record", counted)
    write_record(folder, trial(0, 4, 0, 2.0))
    watcher = Watcher(folder)
    for _ in range(3):
        watcher.look()
    assert len(reads) == 1
    write_record(folder, trial(0, 4, 0, 3.0))
    os.utime(folder / "trials" / "00000" / "record.json", (5, 5))
    seen = watcher.look()
    assert seen is not None
    assert [ending.record.heldout_loss_nats_per_token for ending in seen.endings] == [3.0]


def test_progress_is_written_at_most_once_a_second_while_trials_train(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    progress = StudyProgress(4, 0, Console(file=io.StringIO()), folder)
    progress.started(0, {"adapter.rank": 4}, 0)

    def fraction() -> float:
        underway = read_status(folder)
        assert underway is not None
        return underway.running[0].fraction

    seen = []
    for step in range(1, 9):
        now += 0.25
        progress.observed(0, step, {"num_steps": 8, "train_loss": 1.0})
        seen.append(fraction())
    assert seen == [0, 0, 0, 0.5, 0.5, 0.5, 0.5, 1]


def test_what_came_within_the_second_is_written_at_its_end(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "_WRITE_SECONDS", 0.05)
    progress = StudyProgress(4, 0, Console(file=io.StringIO()), folder)
    with progress:
        progress.started(0, {"adapter.rank": 4}, 0)
        progress.started(1, {"adapter.rank": 8}, 0)
        wait_until(lambda: (seen := read_status(folder)) is not None and len(seen.running) == 2)
        progress.observed(1, 4, {"num_steps": 8, "train_loss": 1.0})
    time.sleep(0.1)
    seen = read_status(folder)
    assert seen is not None
    assert seen.ended
    assert [one.fraction for one in seen.running] == [0, 0.5]


def test_a_disk_that_is_full_does_not_stop_a_study(tmp_path: Path) -> None:
    write_status(tmp_path / "not there", StudyStatus(0.0, 1, 0, None, False))
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_progress_file_is_named(folder: Path) -> None:
    (folder / _FILE).write_text(json.dumps({"running": [{}]}))
    with pytest.raises(StoreError, match=r"progress\.json is not the progress of a study: "):
        read_status(folder)


def test_watching_waits_for_the_study_and_ends_with_it(
    compose_study: ComposeStudy, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = compose_study("action=watch", "study.name=late", f"study.runs_dir={tmp_path}/runs")
    late = folder.with_name("late")

    def finish() -> None:
        for number in range(4):
            write_record(late, trial(number, 4, number, 2.0))

    steps: list[Callable[[], object]] = [lambda: folder.rename(late), finish]
    monkeypatch.setattr(time, "sleep", lambda _: steps.pop(0)())
    out = io.StringIO()
    watch_study(config, Console(file=out, width=160))
    assert steps == []
    assert "single  ended\n4/4 trials: 4 finished" in out.getvalue()


def test_once_before_the_study_is_one_clear_error(tmp_path: Path) -> None:
    done = run_cli(tmp_path, "action=watch", "watch.once=true", PYTHONPATH=str(Path(watch.__file__).parents[2]))
    said = "watch.once=true: runs/single holds no study yet; start it, or use watch.once=false to wait for it"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"sweeplab: {said}\n")
    assert list(tmp_path.iterdir()) == []


def test_a_real_study_is_seen_at_work_and_its_end(standin: Standin, tmp_path: Path) -> None:
    standin.plan(wait=[1])
    watcher = Watcher(tmp_path / "runs" / "single")
    with standin.cli(tmp_path, "space.adapter.rank.choices=[4,8]") as study:

        def at_work() -> bool:
            seen = watcher.look()
            return bool(seen and seen.driven and seen.underway and len(seen.underway.running) == len(seen.endings) == 1)

        wait_until(at_work)
        standin.let_go()
        study.communicate(timeout=MOST_SECONDS)
    seen = watcher.look()
    assert seen is not None
    assert (has_ended(seen), len(seen.endings)) == (True, 2)
