"""Chat messages as they stand in a record, checked before a tokenizer sees them."""

from collections.abc import Iterator
from typing import Any, Final

from sweeplab.data.prompts import Example, Message, list_targets, read_text
from sweeplab.runtime.errors import ConfigError

_ROLES: Final = ("system", "developer", "user", "assistant", "tool")
_TRANSLATIONS: Final = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant"}  # in messages
_TOOLS: Final = "tools"  # the field beside the messages, in OpenAI's and Hugging Face's format


def _is_text_parts(content: Any) -> bool:
    return isinstance(content, list) and all(
        isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str) for part in content
    )


def _is_call(call: Any) -> bool:
    inner = call.get("function", call) if isinstance(call, dict) else None
    return isinstance(inner, dict) and isinstance(inner.get("name"), str)


def _is_message(message: Any) -> bool:
    """True for a role and a content, which a message with tool calls may lack."""
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        return False
    content = message.get("content")
    if isinstance(content, list):
        return all(isinstance(part, dict) for part in content)
    return isinstance(content, str) or (content is None and bool(message.get("tool_calls")))


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
    answers = [messages[index] for index in list_targets(messages)]
    if not answers:
        yield "has only answers of weight 0, nothing to learn; remove the record"
    if any(not answer.get("tool_calls") and not read_text(answer).strip() for answer in answers):
        yield "has an empty answer, nothing to learn; remove the record, or give the answer weight 0"


def make_chat_example(row: dict[str, Any], where: str, field: str) -> Example:
    """The conversation in `field`, its messages whole, with the tools beside it. Raises `ConfigError`."""
    messages = row.get(field)
    if not isinstance(messages, list) or len(messages) < 2 or not all(map(_is_message, messages)):
        raise ConfigError(f"{where}: field '{field}' {_describe_form(messages)}")
    if messages[-1]["role"] != "assistant" and messages[-1]["role"] not in _TRANSLATIONS:
        raise ConfigError(f"{where}: field '{field}' {_describe_form(messages)}")
    tools = row.get(_TOOLS)
    problem = next(_find_problems(messages, tools), None)
    if problem is not None:
        raise ConfigError(f"{where}: field '{field}' {problem}")
    return Example(messages, tools=tuple(tools or ()))


def _describe_form(messages: Any) -> str:
    form = "must be a list of messages with role and content that ends with one of the assistant"
    if isinstance(messages, list) and messages and isinstance(messages[0], dict) and "from" in messages[0]:
        return f"{form}; rename from and value to role and content, human and gpt to user and assistant"
    return f"{form}; name another field with data.messages_field"
