"""The fields of known formats are found by their names, and said; all else is one line with what to type."""

from typing import Any

import pytest

from sweeplab.config.data import RecordFields
from sweeplab.data.fields import choose_fields
from sweeplab.runtime.errors import ConfigError


def rows(*names: str) -> list[dict[str, Any]]:
    return [dict.fromkeys(names, "text")] * 3


@pytest.mark.parametrize(
    ("names", "fields", "note"),
    [
        (("instruction", "input", "output"), ("instruction", "output", "input"), "Alpaca: instruction, input, output"),
        (("output", "instruction"), ("instruction", "output", "input"), "Alpaca: instruction, output"),
        (
            ("instruction", "context", "response", "category"),
            ("instruction", "response", "context"),
            "Dolly: instruction, context, response; not read: category",
        ),
        (("prompt", "completion"), ("prompt", "completion"), "prompt and completion: prompt, completion"),
        (("id", "question", "answer"), ("question", "answer", "context"), "question and answer: question, answer; not"),
        (("messages", "prompt"), (None, None, None, "messages"), "OpenAI's messages: messages; not read: prompt"),
        (("conversations", "id"), (None, None, None, "conversations"), "ShareGPT: conversations; not read: id"),
    ],
)
def test_a_known_format_is_found_and_said(names: tuple[str, ...], fields: tuple[str | None, ...], note: str) -> None:
    reading = choose_fields(rows(*names), RecordFields(), "FILE")
    assert reading.fields == RecordFields(*fields)
    assert str(reading.note).startswith(f"read FILE as {note}")


def test_what_is_read_beside_messages_is_said() -> None:
    sharegpt, roles = [{"from": "human", "value": "a"}], [{"role": "user", "content": "a"}]

    def say(messages: Any) -> str | None:
        row = {"conversations": messages, "system": "Be brief.", "tools": [], "id": 1}
        return choose_fields([row], RecordFields(), "FILE").note

    assert say(sharegpt) == "read FILE as ShareGPT: conversations, system, tools; not read: id"
    assert say(roles) == "read FILE as ShareGPT: conversations, tools; not read: system, id"
    assert say([]) == say("text") == say(roles)


def test_what_most_records_have_decides() -> None:
    odd: list[dict[str, Any]] = [{"error": "timeout"}, {"instruction": "a", "output": None, "response": "b"}]
    reading = choose_fields(rows("instruction", "output") + odd, RecordFields(), "FILE")
    assert reading.fields.output == "output"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ("text", "id"),
            r"^FILE has no fields that are known by themselves \(fields: text, id\); .* such as "
            r"data\.instruction_field=text data\.output_field=id, or .*: data\.messages_field=NAME$",
        ),
        (("output", "q", "x"), r"such as data\.instruction_field=q data\.output_field=output, or"),
        (("x", "y", "prompt"), r"such as data\.instruction_field=prompt data\.output_field=x, or"),
        (("context", "completion"), r"such as data\.instruction_field=context data\.output_field=completion, or"),
        (("text",), r"\(fields: text\); .* such as data\.instruction_field=NAME data\.output_field=NAME, or"),
        (
            ("instruction", "output", "response"),
            r"^FILE can be read in several ways \(fields: instruction, output, response\); write "
            r"data\.instruction_field=instruction data\.output_field=output or "
            r"data\.instruction_field=instruction data\.output_field=response$",
        ),
        (("messages", "conversations"), r"write data\.messages_field=messages or data\.messages_field=conversations$"),
        (tuple(map(str, range(20))), r"\(fields: 0, 1, 2, .*, 11 and 8 more\)"),
    ],
)
def test_unknown_and_ambiguous_fields_are_one_line_with_what_to_type(names: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        choose_fields(rows(*names), RecordFields(), "FILE")


@pytest.mark.parametrize(
    "given",
    [RecordFields("q", "a"), RecordFields("q", "a", "c"), RecordFields(messages="m"), RecordFields("q", "a", "absent")],
)
def test_named_fields_are_taken_as_they_are(given: RecordFields) -> None:
    assert choose_fields(rows("q", "a", "c", "m", "instruction", "output"), given, "FILE") == (given, None)


def test_one_named_field_leaves_the_other_to_be_found() -> None:
    reading = choose_fields(rows("q", "completion"), RecordFields("q"), "FILE")
    assert reading.fields == RecordFields("q", "completion")
    assert reading.note == "read FILE as question and answer: q, completion"
    assert choose_fields(rows("a", "prompt"), RecordFields(output="a"), "FILE").fields == RecordFields("prompt", "a")
    with pytest.raises(ConfigError, match=r"write data\.instruction_field=q data\.output_field=completion or "):
        choose_fields(rows("q", "answer", "completion"), RecordFields("q"), "FILE")


@pytest.mark.parametrize("part", ["instruction", "output", "messages"])
def test_a_named_field_that_is_nowhere_is_refused(part: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"^data\.{part}_field=nowhere is in no record of FILE \(fields: instruction, output\); wri"
    ):
        choose_fields(rows("instruction", "output"), RecordFields(**{part: "nowhere"}), "FILE")


@pytest.mark.parametrize("given", [RecordFields(), RecordFields("q", "a"), RecordFields(messages="turns")])
def test_records_within_one_object_are_refused_with_what_to_write(given: RecordFields) -> None:
    wrapped = {"version": "1.0", "data": [{"q": "a", "a": "b"}] * 3}
    with pytest.raises(
        ConfigError, match=r"^FILE is one object, with 3 records in its field 'data'; .*write that list"
    ):
        choose_fields([wrapped], given, "FILE")


def test_a_lone_record_may_have_lists_of_its_own() -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    asked = {"question": "a", "answer": "b", "sources": [{"page": 1}]}
    assert choose_fields([{"turns": turns}], RecordFields(messages="turns"), "FILE").fields.messages == "turns"
    assert choose_fields([asked], RecordFields(), "FILE").fields.instruction == "question"
