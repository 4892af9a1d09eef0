import json
from pathlib import Path
from typing import Any

import pytest

from sweeplab.config.data import JsonData, RecordFields
from sweeplab.data import sources
from sweeplab.data.prompts import Example
from sweeplab.data.sources import _read_example, _split_examples, fingerprint_examples, load_splits
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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (" \n", r"records.json is empty; give at least two records"),
        (json.dumps(RECORDS)[:-20], r"records.json is not valid JSON: .*line 1 column \d+.*; correct the file"),
        (lines(RECORDS[:3])[:-5], r"records.json, line 3: not valid JSON: .*; correct the line"),
        (
            lines([GOOD, GOOD, {"instruction": "a"}]),
            r"line 3: field 'output' is missing \(fields: instruction\); set data.output_field",
        ),
        (
            json.dumps([GOOD, {"q": "a", "output": "b"}]),
            r"record 2: field 'instruction' is missing \(fields: q, output\)",
        ),
        (
            lines([GOOD, {"instruction": "a", "output": 3}]),
            r"line 2: field 'output' must be text, got int; correct the record",
        ),
        (
            lines([GOOD, {"instruction": None, "output": "b"}]),
            r"line 2: field 'instruction' must be text, got NoneType",
        ),
        (
            lines([GOOD, {"instruction": "a", "input": ["x"], "output": "b"}]),
            r"line 2: field 'input' must be text, got list",
        ),
        (lines([GOOD, {"instruction": "a", "output": ""}]), r"line 2: field 'output' is empty: nothing to learn"),
        (lines([GOOD, ["a", "b"]]), r"line 2: a record must be an object with fields, got list"),
        (json.dumps([GOOD, "text"]), r"record 2: a record must be an object with fields, got str"),
        (lines([GOOD]), r"records.json must hold at least two examples, got 1; add records"),
    ],
)
def test_faulty_files_are_refused_with_place_and_remedy(settings: JsonData, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_splits(written(settings, text))


def test_bytes_that_are_no_text_are_refused(settings: JsonData) -> None:
    Path(str(settings.path)).write_bytes(b'{"instruction": "\xff"}')
    with pytest.raises(ConfigError, match=r"cannot be read as UTF-8 text: .*; check data.path"):
        load_splits(settings)


def test_array_and_lines_and_blank_lines_give_the_same(settings: JsonData) -> None:
    array = load_splits(settings)
    assert load_splits(written(settings, lines(RECORDS).replace("\n", "\n\n") + "\n")) == array


def test_line_separators_inside_a_text_do_not_end_a_record(settings: JsonData) -> None:
    rows = [{**GOOD, "output": "one\u2028two\x85three"}, GOOD]
    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    splits = load_splits(written(settings, text))
    assert {found.response for found in (*splits.train, *splits.heldout)} == {row["output"] for row in rows}


def test_missing_and_null_inputs_are_empty(settings: JsonData) -> None:
    bare = {"instruction": "a", "output": "b"}
    assert (
        _read_example(bare, "x", settings.record_fields)
        == _read_example({**bare, "input": None}, "x", settings.record_fields)
        == _read_example({**bare, "input": ""}, "x", settings.record_fields)
    )
    assert _read_example({**bare, "input": "c"}, "x", settings.record_fields).input_text == "c"


def test_fields_can_be_renamed(settings: JsonData) -> None:
    renamed = settings.replaced(instruction_field="q", input_field="c", output_field="a")
    assert _read_example({"q": "1", "c": "2", "a": "3"}, "x", renamed.record_fields) == _read_example(
        {"instruction": "1", "input": "2", "output": "3"}, "x", settings.record_fields
    )


def test_chat_messages_are_kept_whole(settings: JsonData) -> None:
    chat = settings.replaced(messages_field="messages")
    messages = [{"role": "user", "content": "Hi", "name": "Ann"}, {"role": "assistant", "content": "Hello"}]
    found = _read_example({"messages": messages}, "x", chat.record_fields)
    assert found.messages == messages
    assert found.response == "Hello"


@pytest.mark.parametrize(
    "messages",
    [
        None,
        "text",
        [],
        [{"role": "assistant", "content": "Hello"}],
        [{"role": "user", "content": "Hi"}, {"role": "user", "content": "Hi"}],
        [{"role": "user", "content": ["Hi"]}, {"role": "assistant", "content": "Hello"}],
        [{"role": "user"}, {"role": "assistant", "content": "Hello"}],
    ],
)
def test_malformed_conversations_are_refused(settings: JsonData, messages: Any) -> None:
    chat = settings.replaced(messages_field="messages")
    with pytest.raises(
        ConfigError, match=r"line 4: field 'messages' must be a list of messages .* data.messages_field"
    ):
        _read_example({"messages": messages}, "line 4", chat.record_fields)


@pytest.mark.parametrize(
    ("num_examples", "fraction", "num_heldout"), [(2, 0.1, 1), (10, 0.25, 2), (10, 0.99, 9), (997, 0.1, 100)]
)
def test_split_is_a_partition_of_the_asked_size(
    settings: JsonData, num_examples: int, fraction: float, num_heldout: int
) -> None:
    examples = [
        _read_example(
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


@pytest.mark.parametrize("end", ["\n", "]"])
def test_a_record_longer_than_any_model_reads_is_refused(
    end: str, settings: JsonData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "_MOST_LETTERS", 1000)
    fitting, long = ({"instruction": "a" * length, "output": "b"} for length in (999, 1000))
    rows = [fitting, long, fitting]
    Path(settings.path).write_text(json.dumps(rows) if end == "]" else "\n".join(map(json.dumps, rows)))
    with pytest.raises(
        ConfigError, match=r"(line|record) 2: a record must have at most 1,000 characters, got 1,001; spl"
    ):
        load_splits(settings)


def test_letters_of_all_texts_count_however_deep() -> None:
    assert sources.count_letters({"messages": [{"role": "abc", "content": [{"text": "de"}]}], "n": 7, "x": None}) == 5


@pytest.mark.parametrize(("num_records", "num_heldout"), [(5000, 200), (2001, 200), (1990, 199), (200, 20), (2, 1)])
def test_two_hundred_or_a_tenth_are_held_out_whichever_is_less(
    compose_trial: Any, tmp_path: Path, num_records: int, num_heldout: int
) -> None:
    path = tmp_path / "records.json"
    path.write_text(json.dumps([{"instruction": str(number), "output": "a"} for number in range(num_records)]))
    splits = load_splits(compose_trial("data=json", f"data.path={path}").data)
    assert (len(splits.train), len(splits.heldout)) == (num_records - num_heldout, num_heldout)
