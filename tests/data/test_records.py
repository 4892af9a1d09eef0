"""A record becomes an example, a fault of the file, or one that is skipped and counted."""

from typing import Any

import pytest

from sweeplab.config.data import JsonData, RecordFields
from sweeplab.data import records
from sweeplab.data.prompts import NothingLearnedError, list_targets
from sweeplab.data.records import Records, count_letters, read_example, read_records
from sweeplab.runtime.errors import ConfigError

FIELDS = RecordFields("instruction", "output", "input")
GOOD = {"instruction": "a", "input": "", "output": "b"}


def read(rows: list[Any], max_skipped: float = 0.0, given: RecordFields = FIELDS, targets: str = "all") -> Records:
    named = {f"{part}_field": name for part, name in given._asdict().items()}
    config = JsonData.model_construct(None, max_skipped=max_skipped, targets=targets, **named)
    return read_records(((f"line {number}", row) for number, row in enumerate(rows, 1)), "FILE", config)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"instruction": "a", "output": True}, r"line 2: field 'output' must be text, got bool; correct the record"),
        ({"instruction": "a", "output": 0.5}, r"line 2: field 'output' must be text, got float; put it in quotes, as"),
        ({"instruction": ["a"], "output": "b"}, r"line 2: field 'instruction' must be text, got list"),
        ({"instruction": "a", "input": ["x"], "output": "b"}, r"line 2: field 'input' must be text, got list"),
        (["a", "b"], r"line 2: a record must be an object with fields, got list"),
        ("text", r"line 2: a record must be an object with fields, got str"),
        ({"instruction": "a", "output": "\ud800"}, r"line 2: field 'output' has half of a surrogate pair"),
    ],
)
def test_faults_are_refused_however_much_may_be_skipped(row: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read([GOOD, row], max_skipped=1.0)
    with pytest.raises(ConfigError, match=message + r".* \(4 records: line 2; line 4; line 5 and 1 more\)$"):
        read([GOOD, row, GOOD, row, row, row], max_skipped=1.0)


def test_a_whole_number_is_read_as_its_text() -> None:
    found = read([{"instruction": 7, "input": 0, "output": -42}])
    (example,) = found.examples
    assert ([one["content"] for one in example.messages], example.input_text) == (["7", "-42"], "0")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"instruction": "a", "output": ""}, "field 'output' is empty"),
        ({"instruction": "a", "output": " \n"}, "field 'output' is empty"),
        ({"instruction": "a", "output": None}, "field 'output' is missing"),
        ({"instruction": "a"}, "field 'output' is missing"),
        ({"output": "b"}, "field 'instruction' is missing"),
        ({"error": "timeout"}, "field 'instruction' is missing"),
    ],
)
def test_a_record_that_teaches_nothing_is_skipped_and_named(row: Any, reason: str) -> None:
    found = read([GOOD, row, GOOD, GOOD], max_skipped=0.25)
    assert [example.where for example in found.examples] == ["FILE, line 1", "FILE, line 3", "FILE, line 4"]
    assert found.num_skipped == 1
    assert found.skipping == f"skipped 1 of 4 records of FILE, which teach nothing (line 2: {reason})"
    with pytest.raises(
        ConfigError,
        match=rf"^data\.max_skipped=0\.24 is the share of records that may teach nothing, got 0\.25: 1 of 4 records of "
        rf"FILE \(line 2: {reason}\); correct them, or raise data\.max_skipped$",
    ):
        read([GOOD, row, GOOD, GOOD], max_skipped=0.24)


def test_the_first_three_are_named() -> None:
    rows = [GOOD, *[{**GOOD, "output": ""}] * 2, GOOD, {"instruction": "a"}, *[{**GOOD, "output": ""}] * 1002]
    named = (
        "line 2: field 'output' is empty; line 3: field 'output' is empty; line 5: field 'output' is missing and 1,002"
    )
    assert f"skipped 1,005 of 1,007 records of FILE, which teach nothing ({named} more)" == read(rows, 1.0).skipping


def test_a_clean_file_skips_nothing_and_says_nothing() -> None:
    found = read([GOOD, GOOD])
    assert (len(found.examples), found.num_skipped, found.reading, found.skipping) == (2, 0, None, None)
    assert read([GOOD, GOOD], given=RecordFields()).reading == "read FILE as Alpaca: instruction, input, output"


def test_missing_and_null_inputs_are_empty() -> None:
    bare = {"instruction": "a", "output": "b"}
    plain = read_example(bare, "x", FIELDS)
    assert (
        plain == read_example({**bare, "input": None}, "x", FIELDS) == read_example({**bare, "input": ""}, "x", FIELDS)
    )
    assert read_example({**bare, "input": "c"}, "x", FIELDS).input_text == "c"


def test_fields_can_be_renamed() -> None:
    renamed = read_example({"q": "1", "c": "2", "a": "3"}, "x", RecordFields("q", "a", "c"))
    assert renamed == read_example({"instruction": "1", "input": "2", "output": "3"}, "x", FIELDS)


def test_chat_messages_are_kept_whole() -> None:
    messages = [{"role": "user", "content": "Hi", "name": "Ann"}, {"role": "assistant", "content": "Hello"}]
    found = read_example({"messages": messages}, "x", RecordFields(messages="messages"))
    assert found.messages == messages
    assert found.response == "Hello"


def test_targets_say_which_answers_of_a_conversation_are_learned() -> None:
    ask, answer = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}
    rows = [{"messages": [ask, answer, ask, answer]}, {"messages": [ask, answer]}]
    weighted, short = (one.messages for one in read(rows, given=RecordFields()).examples)
    assert list_targets(weighted) == [1, 3]
    assert short == [ask, answer]
    assert [one.messages for one in read(rows, given=RecordFields(), targets="last").examples] == [
        row["messages"] for row in rows
    ]


def test_a_record_longer_than_any_model_reads_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MOST_LETTERS", 1000)
    fitting, long = ({"instruction": "a" * length, "output": "b"} for length in (999, 1000))
    with pytest.raises(ConfigError, match=r"line 2: a record must have at most 1,000 characters, got 1,001; spl"):
        read([fitting, long, fitting])


def test_letters_of_all_texts_count_however_deep() -> None:
    assert count_letters({"messages": [{"role": "abc", "content": [{"text": "de"}]}], "n": 7, "x": None}) == 5


def test_a_record_alone_says_its_reason_only() -> None:
    with pytest.raises(NothingLearnedError, match=r"^field 'output' is empty$"):
        read_example({"instruction": "a", "output": ""}, "x", FIELDS)
