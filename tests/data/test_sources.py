import json
from pathlib import Path
from typing import Any

import pytest

from sweeplab.config.data import JsonData, RecordFields
from sweeplab.data.prompts import Example
from sweeplab.data.records import read_example
from sweeplab.data.sources import _split_examples, fingerprint_examples, load_splits
from sweeplab.runtime.errors import ConfigError

RECORDS = [{"instruction": f"Question {place}?", "input": "", "output": f"Answer {place}."} for place in range(10)]


@pytest.fixture
def settings(compose_trial: Any, tmp_path: Path) -> JsonData:
    path = tmp_path / "records.json"
    path.write_text(json.dumps(RECORDS), encoding="utf-8")
    config: JsonData = compose_trial("data=json", f"data.path='{path}'").data
    return config


def written(settings: JsonData, text: str) -> JsonData:
    assert settings.path is not None
    Path(settings.path).write_text(text, encoding="utf-8")
    return settings


def lines(rows: list[Any]) -> str:
    return "\n".join(json.dumps(row) for row in rows)


GOOD = RECORDS[0]


def test_array_and_lines_and_blank_lines_give_the_same(settings: JsonData) -> None:
    array = load_splits(settings)
    assert load_splits(written(settings, lines(RECORDS).replace("\n", "\n\n") + "\n")) == array


def test_line_separators_inside_a_text_do_not_end_a_record(settings: JsonData) -> None:
    rows = [{**GOOD, "output": "one\u2028two\x85three"}, GOOD]
    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    splits = load_splits(written(settings, text))
    assert {found.response for found in (*splits.train, *splits.heldout)} == {row["output"] for row in rows}


@pytest.mark.parametrize(
    ("num_examples", "fraction", "num_heldout"), [(2, 0.1, 1), (10, 0.25, 2), (10, 0.99, 9), (997, 0.1, 100)]
)
def test_split_is_a_partition_of_the_asked_size(
    settings: JsonData, num_examples: int, fraction: float, num_heldout: int
) -> None:
    examples = [
        read_example(
            {"instruction": str(place), "output": "a"},
            "x",
            RecordFields("instruction", "output"),
        )
        for place in range(num_examples)
    ]
    asked = settings.replaced(heldout_fraction=fraction, num_heldout=None)
    train, heldout = _split_examples(examples, asked, "data.path=records.json")
    assert len(heldout) == num_heldout
    assert sorted([*train, *heldout], key=str) == sorted(examples, key=str)
    assert _split_examples(examples, asked, "data.path=records.json") == (train, heldout)
    one_less, fewer = _split_examples(examples, asked.replaced(num_heldout=2), "data.path=records.json")
    assert fewer == heldout[:2]
    assert sorted([*one_less, *fewer], key=str) == sorted(examples, key=str)


def test_split_is_the_recorded_one_and_shuffled(settings: JsonData) -> None:
    splits = load_splits(settings.replaced(heldout_fraction=0.3))
    order = [int(found.response.split()[1].strip(".")) for found in (*splits.heldout, *splits.train)]
    assert order == [6, 9, 0, 2, 4, 3, 5, 1, 8, 7]


def test_num_examples_shortens_the_training_part_only(settings: JsonData) -> None:
    whole, short = load_splits(settings), load_splits(settings.replaced(num_examples=4))
    assert (short.train, short.heldout) == (whole.train[:4], whole.heldout)


def test_more_examples_than_there_are_is_refused(settings: JsonData) -> None:
    whole = load_splits(settings)
    assert load_splits(settings.replaced(num_examples=len(whole.train))) == whole
    with pytest.raises(ConfigError, match=r"^data\.num_examples must be at most 9, .*, got 10; lower it, or leave it"):
        load_splits(settings.replaced(num_examples=len(whole.train) + 1))


def test_heldout_file_is_used_whole(settings: JsonData, tmp_path: Path) -> None:
    other = tmp_path / "heldout.jsonl"
    other.write_text(
        lines([{"instruction": "a", "output": "b"}, {"instruction": "c", "output": "d"}]), encoding="utf-8"
    )
    splits = load_splits(settings.replaced(heldout_path=str(other)))
    assert [found.response for found in splits.train] == [row["output"] for row in RECORDS]
    assert [found.response for found in splits.heldout] == ["b", "d"]


def test_fingerprint_changes_with_any_text_and_with_the_side(settings: JsonData) -> None:
    splits = load_splits(settings)
    changed = [splits.train[0]._replace(input_text="x"), *splits.train[1:]]
    moved: tuple[list[Example], list[Example]] = ([*splits.train, *splits.heldout], [])
    prints = {splits.fingerprint, fingerprint_examples((changed, splits.heldout)), fingerprint_examples(moved)}
    assert len(prints) == 3
    assert load_splits(settings).fingerprint == splits.fingerprint


def test_a_file_with_one_record_is_refused(settings: JsonData) -> None:
    with pytest.raises(ConfigError, match=r"records.json must hold at least two examples, got 1; add records"):
        load_splits(written(settings, lines([GOOD])))


def test_what_is_skipped_and_read_is_said_of_every_file(settings: JsonData, tmp_path: Path) -> None:
    """The share is that of a file; the splits are those of the file without the record."""
    whole = load_splits(settings)
    assert (whole.num_skipped, whole.skipping) == (0, ())
    assert whole.reading == (f"read {settings.path} as Alpaca: instruction, input, output",)
    empty = {**GOOD, "output": ""}
    other = tmp_path / "heldout.csv"
    other.write_text("question,answer\nq,a\nq,\nq,b\n", encoding="utf-8")
    dirty = written(settings, lines([*RECORDS[:4], empty, *RECORDS[4:]])).replaced(max_skipped=0.34)
    alone, apart = load_splits(dirty), load_splits(dirty.replaced(heldout_path=str(other)))
    assert alone[:3] == whole[:3]
    assert (alone.num_skipped, apart.num_skipped) == (1, 2)
    assert [text.partition(" of ")[2] for text in apart.skipping] == [
        f"11 records of {settings.path}, which teach nothing (line 5: field 'output' is empty)",
        f"3 records of {other}, which teach nothing (line 3: field 'answer' is empty)",
    ]
    assert apart.reading[1] == f"read {other} as question and answer: question, answer"
    with pytest.raises(ConfigError, match=r"1 of 3 records of \S*heldout\.csv"):
        load_splits(dirty.replaced(heldout_path=str(other), max_skipped=0.3))


@pytest.mark.parametrize(("num_records", "num_heldout"), [(5000, 200), (2001, 200), (1990, 199), (200, 20), (2, 1)])
def test_two_hundred_or_a_tenth_are_held_out_whichever_is_less(
    compose_trial: Any, tmp_path: Path, num_records: int, num_heldout: int
) -> None:
    path = tmp_path / "records.json"
    path.write_text(json.dumps([{"instruction": str(number), "output": "a"} for number in range(num_records)]))
    splits = load_splits(compose_trial("data=json", f"data.path={path}").data)
    assert (len(splits.train), len(splits.heldout)) == (num_records - num_heldout, num_heldout)
