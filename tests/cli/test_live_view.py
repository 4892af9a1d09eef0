"""What the page shows is what the files say; the report is made anew when trials have ended, and not too often."""

import re
import time
from pathlib import Path

import pytest

from sweeplab.cli import live_view
from sweeplab.cli.live_view import LiveView
from sweeplab.records.lock import only_writer
from sweeplab.report import render_live_report
from sweeplab.runtime.errors import ConfigError
from tests.cli.studies import end_trial, make_study


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_study(tmp_path / "runs" / "single")


def test_what_runs_has_a_row_with_the_seed_that_a_press_adds(folder: Path) -> None:
    view = LiveView(folder)
    with only_writer(folder):
        now = view.state()
        assert view.ask({"ask": "stop_trial", "trial": 3}) == "Trial 3 ends now, after its present step."
        assert view.ask({"ask": "add_seed", "trial": 2, "seed": 2}) == (
            "Noted in the study: seed 2 of rank=4. This comes next."
        )
        later = view.state()
    assert now["state"] == "The study is running, 2:05 left · 2/4 trials: 2 finished"
    assert (now["phase"], now["driven"], now["doing"]) == ("running", True, ["worker 0 trains"])
    rows = [(one["number"], one["done"], one["loss"], one["stopping"], one["seed"]) for one in now["running"]]
    assert rows == [(2, "25%", "1.5", False, 2), (3, "25%", "1.5", False, 2)]
    assert now["settings"] == [
        {"trial": 0, "label": "rank=4", "seed": 2},
        {"trial": 1, "label": "rank=8", "seed": 2},
    ]
    rows = [(one["number"], one["done"], one["loss"], one["stopping"], one["seed"]) for one in later["running"]]
    assert rows == [(2, "25%", "1.5", False, 3), (3, "25%", "1.5", True, 2)]
    assert later["wished"] == ["asked for: seed 2 of rank=4", "trial 3 is asked to stop"]


def test_a_study_that_stopped_and_one_that_ended_say_so(folder: Path) -> None:
    view = LiveView(folder)
    assert view.state()["state"] == "The study is stopped; it goes on with: run it · 2/4 trials: 2 finished"
    assert view.state()["running"] == []
    end_trial(folder, 2)
    end_trial(folder, 3)
    now = view.state()
    assert (now["phase"], now["state"]) == ("ended", "The study has ended · 4/4 trials: 4 finished")


def test_the_report_is_made_anew_once_a_trial_has_ended_and_it_is_time(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: clock)
    made: list[str] = []

    def counted(study: object, version: str) -> str:
        made.append(version)
        return render_live_report(study, version)  # type: ignore[arg-type]

    monkeypatch.setattr(live_view, "render_live_report", counted)
    view = LiveView(folder)
    first = view.make_page()
    assert view.make_page() == first
    assert view.state()["version"] == made[0]
    end_trial(folder, 2)
    assert view.state()["version"] == made[0]  # not yet
    assert view.make_page() == first
    clock += 2.5
    offered = view.state()["version"]
    assert offered != made[0]
    assert f'data-version="{offered}"' in view.make_page()
    assert made == [made[0], offered]
    end_trial(folder, 3)
    assert view.state()["version"] not in made  # the last one at once


def test_before_there_is_a_study_a_page_waits_for_it(tmp_path: Path) -> None:
    view = LiveView(tmp_path / "none")
    assert 'data-version="none"' in view.make_page()
    now = view.state()
    assert (now["phase"], now["version"]) == ("waiting", "none")
    make_study(tmp_path / "none")
    assert view.state()["version"] != "none" or view.due > 0
    with pytest.raises(ConfigError, match="holds no study"):
        LiveView(tmp_path / "other").ask({"ask": "stop_study"})


def test_a_damaged_file_is_named_in_place_of_the_state(folder: Path) -> None:
    (folder / "trials" / "00001" / "record.json").write_text("{")
    now = LiveView(folder).state()
    assert now["phase"] == "stopped"
    assert "record.json cannot be read" in now["state"]


@pytest.mark.parametrize(
    "values",
    [
        {},
        [],
        "stop_study",
        {"ask": "rm"},
        {"ask": "stop_trial"},
        {"ask": "stop_trial", "trial": "2"},
    ],
)
def test_what_no_button_asks_for_is_refused(values: object, folder: Path) -> None:
    with pytest.raises(ConfigError, match="asks for nothing that a button does"):
        LiveView(folder).ask(values)
    assert not (folder / "wishes").exists()


def test_names_are_escaped_and_the_page_has_no_script_within(tmp_path: Path) -> None:
    study = make_study(tmp_path / "runs" / "x", name="<script>alert(1)</script>")
    page = LiveView(study).make_page()
    assert "&lt;script&gt;alert(1)" in page
    assert re.findall(r"<script[^>]*>", page) == ['<script src="report.js">', '<script src="live.js">']
    assert not re.search(r"\son\w+=", page)
