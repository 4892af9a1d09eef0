"""Chat messages as they stand in a record, checked before a tokenizer sees them."""

import json
from collections.abc import Iterator
from typing import Any, Final

from sweeplab.data.prompts import Example, Message, NothingLearnedError, list_targets, read_text
from sweeplab.runtime.errors import ConfigError

_ROLES: Final = ("system", "developer", "user", "assistant", "tool")
_TRANSLATIONS: Final = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant"}  # in messages
_SHAREGPT: Final = _TRANSLATIONS | {"chatgpt": "assistant", "observation": "tool", "function_response": "tool"}
_TOOLS: Final = "tools"  # the field beside the messages, in OpenAI's and Hugging Face's format


def _is_text_parts(content: Any) -> bool:
    return isinstance(content, list) and all(
        isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str) for part in content
    )


def _is_call(call: Any) -> bool:
    inner = call.get("function", call) if isinstance(call, dict) else None
    return isinstance(inner, dict) and isinstance(inner.get("name"), str)


def _is_message(message: Any) -> bool:
    """True for a role and a content, which a message of the assistant may lack: it may call tools, or be empty."""
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        return False
    content = message.get("content")
    if isinstance(content, list):
        return all(isinstance(part, dict) for part in content)
    return isinstance(content, str) or (content is None and message["role"] == "assistant")


def _find_problems(messages: list[Message], tools: Any) -> Iterator[str]:
    """What is wrong with well-formed messages, with the remedy."""
    for message in messages:
        role, content = message["role"], message.get("content")
        if role not in _ROLES:
            known = f"write {_TRANSLATIONS[role]}" if role in _TRANSLATIONS else f"use {', '.join(_ROLES)}"
            yield f"has a message of role '{role}', which chat templates do not know; {known}"
        if isinstance(content, list) and not _is_text_parts(content):
            yield "has content parts that are no text ({type: text, text: ...}); remove the record"
        calls = message.get("tool_calls")
        if calls and not (isinstance(calls, list) and role == "assistant" and all(map(_is_call, calls))):
            yield "has tool_calls that are no list of functions with a name in a message of the assistant; correct them"
        if message.get("function_call"):
            yield "has a function_call, OpenAI's former format; write it as tool_calls"
        if message.get("weight") is not None and (message["weight"] not in (0, 1) or role != "assistant"):
            yield "has a weight that is not 0 or 1, or not in a message of the assistant; correct it"
    if tools and not (isinstance(tools, list) and all(isinstance(tool, dict) for tool in tools)):
        yield f"has '{_TOOLS}' beside it that are no list of objects; correct them"


def _parse_tools(tools: Any) -> Any:
    """Tools that are JSON text, as in files whose columns have one type, as what they are."""
    try:
        return json.loads(tools) if isinstance(tools, str) and tools.strip() else tools
    except (ValueError, RecursionError):
        return tools


def _translate_sharegpt(messages: Any, system: Any) -> Any:
    """Messages with from and value as such with role and content, below the record's `system`; all else as it is.

    `system` stands beside the messages in files of this form.
    """
    if not isinstance(messages, list) or not all(isinstance(one, dict) and "from" in one for one in messages):
        return messages
    told = isinstance(system, str) and system.strip() and messages and messages[0]["from"] != "system"
    before: list[Message] = [{"role": "system", "content": system}] if told else []
    return before + [
        {"role": _SHAREGPT.get(str(one["from"]), one["from"]), "content": one.get("value")}
        | ({"weight": one["weight"]} if one.get("weight") is not None else {})
        for one in messages
    ]


def _refuse_nothing(messages: list[Message], field: str) -> None:
    """Raises `NothingLearnedError` where there is no answer to learn, or one of those to learn is empty."""
    if not any(message["role"] == "assistant" for message in messages):
        raise NothingLearnedError(f"field '{field}' has no answer of the assistant")
    answers = [messages[index] for index in list_targets(messages)]
    if not answers:
        raise NothingLearnedError(f"field '{field}' has only answers of weight 0")
    if any(not answer.get("tool_calls") and not read_text(answer).strip() for answer in answers):
        raise NothingLearnedError(f"field '{field}' has an empty answer")
    if len(messages) < 2:
        raise NothingLearnedError(f"field '{field}' has an answer to nothing")


def _cut_after_answer(messages: list[Message]) -> list[Message]:
    """Up to the last answer: what follows it is never read."""
    last = max((index for index, one in enumerate(messages) if one["role"] == "assistant"), default=-1)
    return messages[: last + 1]


def _weigh_all(messages: list[Message]) -> list[Message]:
    """Several answers of which none has a weight, each with the weight 1: they are all learned."""
    answers = [message for message in messages if message["role"] == "assistant"]
    if len(answers) < 2 or any(answer.get("weight") is not None for answer in answers):
        return messages
    return [{**message, "weight": 1} if message["role"] == "assistant" else message for message in messages]


def make_chat_example(row: dict[str, Any], where: str, field: str, targets: str = "last") -> Example:
    """The conversation in `field` up to its last answer, its messages whole, with the tools beside it.

    `targets` says which answers are learned where no weights do, all or last. Raises `ConfigError` for what is
    malformed, and `NothingLearnedError`.
    """
    if row.get(field) is None or row[field] == []:
        raise NothingLearnedError(f"field '{field}' is {'missing' if row.get(field) is None else 'empty'}")
    messages = _translate_sharegpt(row[field], row.get("system"))
    if not isinstance(messages, list) or not all(map(_is_message, messages)):
        raise ConfigError(
            f"{where}: field '{field}' must be a list of messages with role and content, or from and value; name "
            "another field with data.messages_field"
        )
    tools = _parse_tools(row.get(_TOOLS))
    problem = next(_find_problems(messages, tools), None)
    if problem is not None:
        raise ConfigError(f"{where}: field '{field}' {problem}")
    messages = _cut_after_answer(messages)
    if targets == "all":
        messages = _weigh_all(messages)
    _refuse_nothing(messages, field)
    return Example(messages, tools=tuple(tools or ()))
