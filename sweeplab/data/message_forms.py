"""One conversation in the forms that chat templates take: arguments as objects or text, content as text or parts."""

import json
from collections.abc import Callable, Iterator
from typing import Any

from sweeplab.data.prompts import Message


def _change_arguments(message: Message, change: Callable[[Any], Any]) -> Message:
    calls = []
    for call in message.get("tool_calls") or []:
        inner = call.get("function", call)
        if "arguments" in inner:
            inner = {**inner, "arguments": change(inner["arguments"])}
        calls.append({**call, "function": inner} if "function" in call else inner)
    return {**message, "tool_calls": calls} if calls else message


def _parse(arguments: Any) -> Any:
    try:
        return json.loads(arguments) if isinstance(arguments, str) else arguments
    except (ValueError, RecursionError):
        return arguments


def _parse_arguments(message: Message) -> Message:
    """Arguments that are JSON text, as in OpenAI's format, as objects, which transformers' format has."""
    return _change_arguments(message, _parse)


def _write_arguments(message: Message) -> Message:
    return _change_arguments(message, lambda one: one if isinstance(one, str) else json.dumps(one, ensure_ascii=False))


def _join_parts(message: Message) -> Message:
    content = message.get("content")
    return {**message, "content": "".join(part["text"] for part in content)} if isinstance(content, list) else message


def _make_parts(message: Message) -> Message:
    content = message.get("content")
    return {**message, "content": [{"type": "text", "text": content}]} if isinstance(content, str) else message


def _fill_content(message: Message) -> Message:
    return message if message.get("content") is not None else {**message, "content": ""}


def list_forms(messages: list[Message]) -> Iterator[list[Message]]:
    """The conversation in all forms that templates take for the same: what is usual first, then as it is given."""
    variants: list[list[Message]] = []
    for change_arguments in (_parse_arguments, _write_arguments):
        for change_form in (None, _join_parts, _make_parts):
            for change_content in (None, _fill_content):
                variant = messages
                for change in (change_arguments, change_form, change_content):
                    variant = variant if change is None else [change(message) for message in variant]
                if variant not in variants:
                    variants.append(variant)
                    yield variant
