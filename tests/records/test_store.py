"""The store: a file is the old one or the new one, never a part, whatever happens to disk or process."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

import pytest

from sweeplab.records.items import read_items
from sweeplab.records.record import StudyFacts, TrialRecord
from sweeplab.records.store import (
    StoreError,
    _list_trial_folders,
    base_items_path,
    base_path,
    known_base_score,
    read_base_scores,
    read_facts,
    read_json,
    read_records,
    trial_folder,
    write_base_score,
    write_facts,
    write_json,
    write_json_lines,
    write_record,
    write_text,
)
from tests.records.test_record import base_score, full_record
from tests.study_runs import wait_until

FACTS = StudyFacts(
    name="ranks",
    question="Which rank?",
    command="python -m sweeplab",
    objectives={"heldout_loss_nats_per_token": "minimize"},
    seeds=[0, 1],
    space={"adapter.rank": {"choices": [1, 2]}, "optimizer.lr": {"low": 1e-05, "high": 0.01, "log": True}},
    num_planned=4,
    config={"adapter": {"rank": 8}},
)

WRITE_FOREVER = """
import sys
from pathlib import Path
from sweeplab.records.store import write_json
path = Path(sys.argv[1])
print("ready", flush=True)
for turn in range(10**9):
    write_json(path, {"turn": turn, "filling": [turn] * 20_000})
"""


def test_records_come_back_by_number(tmp_path: Path) -> None:
    records = [full_record(number=number, reason=f"“{number}” ünïcode\n") for number in (10, 2, 0)]
    for record in records:
        write_record(tmp_path, record)
    assert read_records(tmp_path) == sorted(records, key=lambda record: record.number)


def test_no_study_has_no_records_and_no_facts(tmp_path: Path) -> None:
    assert read_records(tmp_path / "nowhere") == []
    assert read_facts(tmp_path / "nowhere") is None


def test_facts_come_back(tmp_path: Path) -> None:
    write_facts(tmp_path, FACTS)
    assert read_facts(tmp_path) == FACTS


def test_json_lines_are_one_object_a_line(tmp_path: Path) -> None:
    rows = [{"answer": "a\nb"}, {"answer": "é"}]
    write_json_lines(tmp_path / "items.jsonl", rows)
    assert [json.loads(line) for line in (tmp_path / "items.jsonl").read_text().splitlines()] == rows


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_json_has_no_word_for_is_refused_and_the_old_file_stays(tmp_path: Path, number: float) -> None:
    path = tmp_path / "value.json"
    write_json(path, {"loss": 1.0})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"loss": number})
    with pytest.raises(ValueError, match="JSON"):
        write_json_lines(path, [{"loss": number}])
    assert read_json(path) == {"loss": 1.0}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("call", ["os.fsync", "pathlib.Path.replace"])
def test_a_full_disk_leaves_the_old_file_whole(tmp_path: Path, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "value.json"
    write_json(path, {"loss": 1.0})

    def full(*_: Any) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as disk:
        disk.setattr(call, full)
        with pytest.raises(StoreError, match=r"value\.json cannot be written: No space left on device; free space"):
            write_json(path, {"loss": 2.0})
    assert read_json(path) == {"loss": 1.0}
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file/study cannot be created: Not a directory; choose another"):
        write_text(tmp_path / "file" / "study" / "x.json", "")


def killed_while_writing(path: Path, seconds: float) -> None:
    program = [sys.executable, "-c", WRITE_FOREVER, str(path)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        wait_until(lambda: path.exists() and read_json(path)["turn"] > 0)
        time.sleep(seconds)
        process.kill()
        assert process.wait() == -signal.SIGKILL


def test_a_killed_process_leaves_a_whole_file(tmp_path: Path) -> None:
    turns = []
    for seconds in (0.00, 0.03, 0.07):
        path = tmp_path / f"{seconds}.json"
        killed_while_writing(path, seconds)
        value = read_json(path)
        assert value["filling"] == [value["turn"]] * 20_000
        turns.append(value["turn"])
    assert min(turns) > 0  # it was killed among many writes


def test_a_partial_file_of_a_killed_process_is_no_record(tmp_path: Path) -> None:
    write_record(tmp_path, full_record(number=0))
    folder = trial_folder(tmp_path, 1)
    folder.mkdir()
    (folder / ".record.json.4711").write_text('{"number": 1, "sta')
    assert [record.number for record in read_records(tmp_path)] == [0]


def test_folders_that_are_no_trial_are_passed_over(tmp_path: Path) -> None:
    """Such as a copy that someone made by hand."""
    for name in ("00002", "00010", "00002 copy", "old", "²"):
        folder = tmp_path / "trials" / name
        folder.mkdir(parents=True)
        write_json_lines(folder / "items.jsonl", [{"task": "a", "item": 0, "filter": "none", "metrics": {"acc": 1.0}}])
    assert [folder.name for folder in _list_trial_folders(tmp_path)] == ["00002", "00010"]
    assert read_items(tmp_path)["scores.a.acc"].values == {2: [1.0], 10: [1.0]}
    assert read_records(tmp_path) == []


def test_writers_of_one_process_number_do_not_meet(tmp_path: Path) -> None:
    """Machines that share a folder have processes of the same number, here threads."""
    failed = []

    def write(content: str) -> None:
        try:
            for _ in range(100):
                write_text(tmp_path / "record.json", content)
        except StoreError as error:
            failed.append(error)

    writers = [threading.Thread(target=write, args=(letter * 9000,)) for letter in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert failed == []
    assert (tmp_path / "record.json").read_text() in ("a" * 9000, "b" * 9000)
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]


@pytest.mark.parametrize("text", ["", "{", "null", "[1]", '{"number": 0}', '"\\ud800', '{"loss": NaN', b"\xff\xfe"])
def test_a_malformed_record_names_its_file(tmp_path: Path, text: str | bytes) -> None:
    write_record(tmp_path, full_record(number=4))
    path = trial_folder(tmp_path, 4) / "record.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(StoreError, match=r"trials/00004/record\.json"):
        read_records(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "3", '{"name": "x"}', '{"unheard_of": 1}'])
def test_malformed_facts_name_their_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "study.json").write_text(text)
    with pytest.raises(StoreError, match=r"study\.json"):
        read_facts(tmp_path)


def test_a_record_of_another_version_is_refused_by_its_fields(tmp_path: Path) -> None:
    values = full_record().to_dict()
    del values["params"]
    write_json(trial_folder(tmp_path, 3) / "record.json", values)
    with pytest.raises(StoreError, match="params; move it out of the way"):
        read_records(tmp_path)
    assert TrialRecord.from_dict(values | {"params": {}}) == full_record(params={})


def test_a_base_score_is_kept_once_and_taken_over_by_other_studies(tmp_path: Path) -> None:
    first, second, score = tmp_path / "first", tmp_path / "second", base_score()
    assert known_base_score(first, score.key, elsewhere=True) is None
    write_base_score(first, score, [{"item": 0}, {"item": 1}])
    assert known_base_score(first, score.key, elsewhere=False) == score
    assert known_base_score(second, score.key, elsewhere=False) is None
    assert known_base_score(second, "1" * 32, elsewhere=True) is None
    assert known_base_score(second, score.key, elsewhere=True) == score
    assert read_base_scores(second) == read_base_scores(first) == [score]
    items = base_items_path(second, score.key).read_bytes()
    assert items == base_items_path(first, score.key).read_bytes() == b'{"item": 0}\n{"item": 1}\n'


def test_a_damaged_base_score_is_named_and_never_taken_over(tmp_path: Path) -> None:
    first, second, score = tmp_path / "first", tmp_path / "second", base_score()
    write_base_score(first, score, [])
    base_path(first, score.key).write_text("{}")
    assert known_base_score(second, score.key, elsewhere=True) is None
    with pytest.raises(StoreError, match=r"0\.json is no score of a base: .*; move it out of the way"):
        known_base_score(first, score.key, elsewhere=True)
    write_base_score(first, score, [])
    base_items_path(first, score.key).unlink()
    assert known_base_score(second, score.key, elsewhere=True) is None
