"""What is wrong with chat messages is said before a tokenizer sees them, with the first records that have it."""

import json
from pathlib import Path
from typing import Any

import pytest

from sweeplab.config.data import JsonData
from sweeplab.data.conversations import make_chat_example
from sweeplab.data.prompts import NothingLearnedError, list_targets
from sweeplab.data.sources import load_splits
from sweeplab.runtime.errors import ConfigError
from tests.trials import Compose

Message = dict[str, Any]
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"town": "Rome"}'}}


def chat(*messages: Message) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "How warm is Rome?"}, *messages]}


def answer(content: Any = "22 degrees.", **fields: Any) -> Message:
    return {"role": "assistant", "content": content, **fields}


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([{"role": "human", "content": "a"}, answer()], r"has a message of role 'human', .*; write user$"),
        ([{"role": "gpt", "content": "a"}], r"has a message of role 'gpt', .*; write assistant$"),
        (
            [{"role": "critic", "content": "a"}, answer()],
            r"has a message of role 'critic', .*; use system, developer, ",
        ),
        ([answer(weight=0.5)], r"has a weight that is not 0 or 1"),
        ([answer(weight="1")], r"has a weight that is not 0 or 1"),
        ([{"role": "user", "content": "a", "weight": 1}, answer()], r"has a weight that is not 0 or 1, or not in a "),
        ([answer(None, tool_calls=[{"name": 1}])], r"has tool_calls that are no list of functions with a name"),
        ([answer(None, tool_calls="weather()")], r"has tool_calls that are no list of functions with a name"),
        ([{"role": "user", "content": "a", "tool_calls": [CALL]}, answer()], r"has tool_calls that are no list"),
        ([answer(function_call={"name": "f"})], r"has a function_call, OpenAI's former format; write it as tool_calls"),
        ([answer([{"type": "image_url", "image_url": "x"}])], r"has content parts that are no text"),
        ([{"from": "gpt", "value": "a"}], r"must be a list of messages .*; name another field"),
    ],
)
def test_faulty_messages_are_refused_with_the_remedy(messages: list[Message], message: str) -> None:
    with pytest.raises(ConfigError, match=rf"^FILE, line 4: field 'messages' {message}"):
        make_chat_example(chat(*messages), "FILE, line 4", "messages")


@pytest.mark.parametrize("messages", ["text", ["Hi"], [{"content": "Hi"}], [{"role": "user"}], {"role": "user"}])
def test_what_is_no_list_of_messages_is_refused(messages: Any) -> None:
    with pytest.raises(
        ConfigError, match=r"^FILE, line 4: field 'messages' must be a list of messages .*messages_field$"
    ):
        make_chat_example({"messages": messages}, "FILE, line 4", "messages")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({}, "is missing"),
        ({"messages": None}, "is missing"),
        ({"messages": []}, "is empty"),
        (chat(), "has no answer of the assistant"),
        ({"messages": [answer()]}, "has an answer to nothing"),
        (chat(answer("")), "has an empty answer"),
        (chat(answer(" \n")), "has an empty answer"),
        (chat(answer([])), "has an empty answer"),
        (chat(answer(None)), "has an empty answer"),
        (chat({"role": "assistant"}), "has an empty answer"),
        (chat(answer(weight=0)), "has only answers of weight 0"),
    ],
)
def test_a_conversation_without_an_answer_teaches_nothing(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(NothingLearnedError, match=f"^field 'messages' {reason}$"):
        make_chat_example(row, "FILE, line 4", "messages")


def test_what_follows_the_last_answer_is_cut() -> None:
    row = chat(answer(), {"role": "user", "content": "Thanks"}, {"role": "user", "content": "?"})
    assert make_chat_example(row, "x", "messages").messages == row["messages"][:2]


def test_sharegpt_is_read_as_roles_and_contents() -> None:
    turns: list[Message] = [
        {"from": "human", "value": "a"},
        {"from": "gpt", "value": "b", "weight": 0},
        {"from": "user", "value": "c"},
        {"from": "observation", "value": "d"},
        {"from": "chatgpt", "value": "e", "weight": None},
    ]
    spelled: list[Message] = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b", "weight": 0},
        {"role": "user", "content": "c"},
        {"role": "tool", "content": "d"},
        {"role": "assistant", "content": "e"},
    ]
    system = {"role": "system", "content": "Be brief."}

    def read(turns: list[Message], system: Any = None) -> list[Message]:
        return make_chat_example({"conversations": turns, "system": system}, "x", "conversations").messages

    assert read(turns) == read(turns, " ") == spelled
    assert read(turns, "Be brief.") == [system, *spelled]
    assert read([{"from": "system", "value": "Be brief."}, *turns], "Be long.") == [system, *spelled]
    with pytest.raises(ConfigError, match=r"has a message of role 'critic', .*; use system, developer, "):
        read([{"from": "critic", "value": "a"}, *turns])


def test_tools_that_are_no_objects_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"has 'tools' beside it that are no list of objects; correct them$"):
        make_chat_example(chat(answer()) | {"tools": "weather()"}, "FILE, line 1", "messages")
    with pytest.raises(ConfigError, match=r"has 'tools' beside it that are no list of objects; correct them$"):
        make_chat_example(chat(answer()) | {"tools": '["weather"]'}, "FILE, line 1", "messages")


def test_tools_may_be_json_text() -> None:
    tools = [{"name": "weather"}]
    for written in (tools, json.dumps(tools)):
        assert list(make_chat_example(chat(answer()) | {"tools": written}, "x", "messages").tools) == tools
    for nothing in (None, "", "null", "[]"):
        assert not make_chat_example(chat(answer()) | {"tools": nothing}, "x", "messages").tools


ASK: Message = {"role": "user", "content": "b"}


def test_all_answers_are_learned_unless_weights_say_it() -> None:
    def read(*messages: Message, targets: str = "all") -> list[Message]:
        return make_chat_example(chat(*messages), "x", "messages", targets).messages

    turns = [answer("one"), ASK, answer(None, tool_calls=[CALL]), {"role": "tool", "content": "22"}, answer("two"), ASK]
    assert list_targets(read(*turns)) == [1, 3, 5]
    assert [{key: one for key, one in turn.items() if key != "weight"} for turn in read(*turns)[1:]] == turns[:-1]
    assert list_targets(read(*turns, targets="last")) == [5]
    for targets in ("all", "last"):
        assert list_targets(read(answer("one", weight=0), ASK, answer("two"), targets=targets)) == [3]
    with pytest.raises(NothingLearnedError, match="has an empty answer"):
        read(answer(" "), ASK, answer("two"))
    assert len(read(answer(" "), ASK, answer("two"), targets="last")) == 4


@pytest.mark.parametrize(
    "messages",
    [
        [answer()],
        [answer(weight=1)],
        [answer(weight=0), {"role": "user", "content": "b"}, answer(weight=1)],
        [answer("", weight=0), {"role": "user", "content": "b"}, answer()],
        [answer(None, tool_calls=[CALL])],
        [answer("", tool_calls=[CALL]), {"role": "tool", "content": "22"}, answer(tool_calls=None)],
        [answer([{"type": "text", "text": "22 degrees."}], name="Ann")],
        [{"role": "system", "content": "a"}, answer()],
    ],
)
def test_good_messages_are_kept_whole(messages: list[Message]) -> None:
    row = chat(*messages) | {"tools": [{"name": "weather"}]}
    example = make_chat_example(row, "FILE, line 1", "messages")
    assert example.messages == row["messages"]
    assert list(example.tools) == row["tools"]


@pytest.fixture
def settings(compose_trial: Compose, tmp_path: Path) -> JsonData:
    path = tmp_path / "chats.jsonl"
    path.write_text("")
    config = compose_trial("data=json", f"data.path='{path}'", "data.messages_field=messages", "data.style=chatml").data
    assert isinstance(config, JsonData)
    return config


def test_conversations_that_teach_nothing_are_counted_and_faults_refused(settings: JsonData) -> None:
    rows = [chat(answer()), *[chat(answer("")) for _ in range(5)], chat(answer()), chat(answer())]
    Path(settings.path).write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(ConfigError, match=r"5 of 8 records of \S*chats\.jsonl \(line 2: field 'messages' has an empt"):
        load_splits(settings)
    assert load_splits(settings.replaced(max_skipped=0.7)).num_skipped == 5
    rows += [chat(answer(weight=0.5)) for _ in range(4)]
    Path(settings.path).write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(
        ConfigError, match=r"chats\.jsonl, line 9: .* weight .*\(4 records: line 9; line 10; line 11 and"
    ):
        load_splits(settings)


def test_tools_and_all_of_a_message_count_in_the_fingerprint(settings: JsonData) -> None:
    prints = set()
    plain = [chat(answer()), chat(answer())]
    for first in (plain[0], plain[0] | {"tools": [{"name": "f"}]}, chat(answer(weight=1)), chat(answer(name="Ann"))):
        Path(settings.path).write_text("\n".join(map(json.dumps, [first, plain[1]])))
        prints.add(load_splits(settings).fingerprint)
    assert len(prints) == 4
