"""The answers of base and trial side by side are those of their files, also for a study that a worker ran."""

import csv
import json
import shutil
from pathlib import Path

import pytest

from sweeplab.cli.answers import Answered, describe_answer, write_csv
from sweeplab.records.store import read_json_lines
from tests.hostile import answer
from tests.study_runs import REAL, RealStudy


def test_a_real_study_s_answers_are_written_with_what_was_asked(real_study: RealStudy, tmp_path: Path) -> None:
    shutil.copytree(real_study.folder / "runs", tmp_path / "runs")
    found = answer([*REAL, "tracking=none", "action=answers", "trial=1"], tmp_path)
    assert (found.code, found.err) == (0, ""), found.err
    study = tmp_path / "runs" / "single"
    with (study / "answers" / "trial-00001.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    trained = [row for row in read_json_lines(study / "trials" / "00001" / "items.jsonl") if "item" in row]
    (base_file,) = study.glob("base/*.items.jsonl")
    before = [row for row in read_json_lines(base_file) if "item" in row]
    assert [(row["task"], int(row["item"])) for row in rows] == [(row["task"], row["item"]) for row in trained]
    for row, base, after in zip(rows, before, trained, strict=True):
        assert row["question"].strip() == base["prompt"].strip() != ""
        metric = "exact_match" if row["task"] == "tiny_new_facts" else "acc"
        results = ["right" if one["metrics"][metric] == 1 else "wrong" for one in (base, after)]
        assert [row["base_result"], row["trial_result"]] == results
        expected = {("wrong", "right"): "gained", ("right", "wrong"): "lost"}.get((results[0], results[1]), "same")
        assert row["change"] == expected
    assert all("prompt" not in row for row in trained)  # once for a study is enough
    num_gained = sum(row["change"] == "gained" for row in rows)
    assert f"trial 1: {len(rows)} answers; against the base {num_gained} gained, " in found.out


@pytest.mark.parametrize(
    ("responses", "said"),
    [
        (["12"], "12"),
        (["(-1.5, False)", "(-0.5, True)", "(-3, False)"], "choice 1"),
        (["(np.float32(-1.5), np.False_)", "x"], "(np.float32(-1.5), np.False_) | x"),
        (["-inf, False", "-2.0, True"], "choice 1"),
    ],
)
def test_a_choice_is_the_likeliest_one(responses: list[str], said: str) -> None:
    assert describe_answer(responses) == said


def test_a_text_is_no_formula_and_what_is_not_known_is_empty(tmp_path: Path) -> None:
    row = Answered("own", 3, None, "=1+1", None, 'a "b"\nc', None, "right")
    (tmp_path / "a.csv").write_text(write_csv([row]), encoding="utf-8", newline="")
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        (read,) = list(csv.DictReader(file))
    assert (read["question"], read["base"], read["change"]) == ("", "", "")
    assert (read["target"], read["trial"]) == ("'=1+1", 'a "b"\nc')


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ([], "action=answers needs a trial: trial=best, or its number"),
        (["trial=7"], "trial=7 has no answers in runs/single; name a finished trial, or trial=best"),
        (["trial=best"], "trial=best: no setting leads in runs/single; see its report, or name a trial: trial=0"),
    ],
)
def test_a_trial_that_is_not_there_is_refused(typed: list[str], said: str, tmp_path: Path) -> None:
    (tmp_path / "runs" / "single" / "trials").mkdir(parents=True)
    found = answer([*REAL, "tracking=none", "action=answers", *typed], tmp_path)
    assert (found.code, found.err) == (2, f"sweeplab: {said}\n")


def test_answers_of_a_study_without_tasks_are_refused(tmp_path: Path, real_study: RealStudy) -> None:
    shutil.copytree(real_study.folder / "runs", tmp_path / "runs")
    items = tmp_path / "runs" / "single" / "trials" / "00001" / "items.jsonl"
    rows = [row for row in read_json_lines(items) if "item" not in row]
    items.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = answer([*REAL, "tracking=none", "action=answers", "trial=1"], tmp_path)
    assert (found.code, "give evaluation.tasks, and run it again" in found.err) == (2, True)


@pytest.mark.parametrize(
    ("before", "after", "change"),
    [
        ("tie", "right", "gained"),
        ("tie", "wrong", "lost"),
        ("tie", "tie", "same"),
        ("wrong", "right", "gained"),
        ("right", "tie", "lost"),
        ("0.3", "0.4", "other"),
        (None, "right", ""),
    ],
)
def test_a_change_is_up_or_down(before: str | None, after: str, change: str) -> None:
    assert Answered("own", 0, None, "", None, "", before, after).change == change
