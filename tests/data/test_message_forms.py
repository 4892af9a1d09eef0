"""All forms of one conversation: each once, what is usual first."""

from typing import Any

from sweeplab.data.message_forms import list_forms

Message = dict[str, Any]


def call(arguments: Any) -> Message:
    return {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": arguments}}]}


def test_a_plain_conversation_has_texts_and_parts() -> None:
    part = {"type": "text", "text": "a"}
    text, parts = [{"role": "user", "content": "a"}], [{"role": "user", "content": [part]}]
    assert list(list_forms(text)) == [text, parts]
    assert list(list_forms(parts)) == [parts, text]


def test_arguments_come_as_objects_first_and_missing_content_as_it_is_first() -> None:
    given = call('{"town": "Rome"}')
    spaced = call({"town": "Rome"})
    forms = list(list_forms([given]))
    assert forms[0] == [spaced]
    assert forms[1] == [spaced | {"content": ""}]
    assert [given] in forms
    assert len(forms) == len({str(form) for form in forms}) == 4
    assert given == call('{"town": "Rome"}')  # not changed


def test_text_that_is_no_json_stays() -> None:
    assert all(form[0]["tool_calls"] == call("Rome")["tool_calls"] for form in list_forms([call("Rome")]))
