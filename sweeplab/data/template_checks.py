"""Whether a chat template writes all that a conversation holds: tried out."""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from sweeplab.data.prompts import Message, Span, UnusableExampleError, list_targets

_REASONING: Final = ("reasoning_content", "thinking", "reasoning")  # names of a field, as transformers has them
_Render = Callable[[list[Message], list[dict[str, Any]] | None], tuple[str, Sequence[Span] | None]]
_ANSWER: Final = "an answer"


def _read_calls(message: Message) -> list[dict[str, Any]]:
    """Name and arguments of each call of a message."""
    return [call.get("function", call) for call in message.get("tool_calls") or []]


def is_written_as_code(messages: Sequence[Message], text: str) -> bool:
    """True where an object or a list stands in `text` as Python writes it, or JSON text as JSON of that text."""
    values = [call.get("arguments") for message in messages for call in _read_calls(message)]
    values += [message.get("content") for message in messages if isinstance(message.get("content"), list)]
    codes = [json.dumps(one, ensure_ascii=False) if isinstance(one, str) else str(one) for one in values if one]
    return any(code in text for code in codes)


class _Probes:
    """Words that stand nowhere else, each with what it is a part of."""

    def __init__(self) -> None:
        self.parts: dict[str, str] = {}

    def add(self, part: str) -> str:
        word = f"qzx{len(self.parts)}xzq"
        self.parts[word] = part
        return word


def _probe_content(content: Any, part: str, probes: _Probes) -> Any:
    if isinstance(content, str) and content.strip():
        return content + probes.add(part)
    if isinstance(content, list):
        return [{**one, "text": one["text"] + probes.add(part)} if one["text"].strip() else one for one in content]
    return content


def _probe_call(call: dict[str, Any], probes: _Probes) -> dict[str, Any]:
    inner = dict(call.get("function", call))
    inner["name"] = f"{inner['name']}{probes.add('the name of a tool call')}"
    arguments = inner.get("arguments")
    if isinstance(arguments, str) and arguments.strip():
        inner["arguments"] = arguments + probes.add("the arguments of a tool call")
    elif isinstance(arguments, dict) and arguments:
        inner["arguments"] = arguments | {probes.add("the arguments of a tool call"): ""}
    return {**call, "function": inner} if "function" in call else inner


def _probe_messages(messages: list[Message], probes: _Probes) -> Iterator[Message]:
    targets = list_targets(messages)
    for index, message in enumerate(messages):
        probed = dict(message)
        reasoning = next((name for name in _REASONING if message.get(name)), None)
        if reasoning is not None and index in targets:  # templates leave out the reasoning of earlier answers
            probed[reasoning] = f"{message[reasoning]}{probes.add('the reasoning of an answer')}"
        part = _ANSWER if index in targets else f"a message of role {message['role']}"
        probed["content"] = _probe_content(message.get("content"), part, probes)
        if message.get("tool_calls"):
            probed["tool_calls"] = [_probe_call(call, probes) for call in message["tool_calls"]]
        yield probed


def _probe_tools(tools: Sequence[dict[str, Any]], probes: _Probes) -> list[dict[str, Any]]:
    probed = []
    for tool in tools:
        inner = dict(tool.get("function", tool))
        inner["name"] = f"{inner.get('name', '')}{probes.add('the tools')}"
        probed.append({**tool, "function": inner} if "function" in tool else inner)
    return probed


def refuse_omissions(messages: list[Message], tools: Sequence[dict[str, Any]], render: _Render) -> None:
    """Raises `UnusableExampleError` where the template leaves a message, a tool call or the tools out.

    Each of them gets a word more, and all words must stand in the text that `render` makes of them; those of learned
    answers within the parts that it returns, which the template marks as generated, if it returns any.
    """
    fewer = "try data.targets=last, " if len(list_targets(messages)) > 1 else ""
    probes = _Probes()
    probed = list(_probe_messages(messages, probes))
    text, generated = render(probed, _probe_tools(tools, probes) or None)
    for word, part in probes.parts.items():
        if word not in text:
            raise UnusableExampleError(
                f"data.style=template: the tokenizer's chat template leaves out {part}; remove it, {fewer}or choose a "
                "model whose template writes it"
            )
        start = text.rfind(word)
        if part == _ANSWER and generated is not None and not any(one.start <= start < one.end for one in generated):
            raise UnusableExampleError(
                "data.style=template: the generation marks of the tokenizer's chat template are not around its "
                f"answers, as within a macro or a set block; remove them, {fewer}or put them into the loop over the "
                "messages"
            )
