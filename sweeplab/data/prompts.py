"""Examples, and how each style writes an example as text, with the parts of the text that are learned."""

from collections.abc import Container, Iterator, Sequence
from typing import Any, Final, NamedTuple

from sweeplab.config.data import ALPACA_WITH_INPUT, ALPACA_WITHOUT_INPUT
from sweeplab.runtime.errors import ConfigError

Message = dict[str, Any]  # role, content, and whatever else a chat template may read

CHATML_NAMES: Final = ("<|im_start|>", "<|im_end|>")
_MOST_NAMED: Final = 3  # examples that a refusal names


class _Content(NamedTuple):
    messages: list[Message]
    input_text: str = ""  # the field `input` of an instruction record
    tools: Sequence[dict[str, Any]] = ()


class Example(_Content):
    """One conversation that ends with the assistant's message; an instruction record is one of two messages.

    `tools` are the functions that the assistant may call. `where` names the record, such as `FILE, line 3`; it does not
    count when examples are compared.
    """

    where: str = "the data"

    @property
    def response(self) -> str:
        return read_text(self.messages[-1])


class Span(NamedTuple):
    """Characters `start` to `end`, the latter not included."""

    start: int
    end: int


class Rendering(NamedTuple):
    """One example as text."""

    text: str
    targets: Sequence[Span]  # what is learned
    unlearned: Sequence[Span] = ()  # answers of weight 0, never learned
    literal: Sequence[Span] = ()  # names of special tokens that the data itself holds: they stay text
    has_first_token: bool = False  # written in the text; else the tokenizer puts its own before it
    has_end_token: bool = False  # likewise
    notes: Sequence[str] = ()  # what a reader of its results must know


class UnusableExampleError(ConfigError):
    """An example that cannot be rendered; its message says why and what to do, not where."""


class NothingLearnedError(ConfigError):
    """A record without an answer; its message is the reason only, such as `field 'output' is empty`."""


def name_records(records: Sequence[str]) -> str:
    """The first few of `records` by file and number, and how many more there are."""
    more = f" and {len(records) - _MOST_NAMED:,} more" if len(records) > _MOST_NAMED else ""
    return "; ".join(sorted(records, key=_order_record)[:_MOST_NAMED]) + more


def _order_record(name: str) -> tuple[str, int]:
    """The source and the number of a record, for `FILE, line 3`."""
    source, _, number = name.rpartition(" ")
    return source, int(number) if number.isdecimal() else 0


def read_text(message: Message) -> str:
    """The text of a message, its parts put together."""
    content = message.get("content") or ""
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def count_shared(left: Sequence[Any], right: Sequence[Any]) -> int:
    """How many items `left` and `right` begin with alike."""
    pairs = enumerate(zip(left, right, strict=False))
    return next((index for index, (one, other) in pairs if one != other), min(len(left), len(right)))


def list_targets(messages: list[Message]) -> list[int]:
    """Which messages are learned: those that weights name, else the last.

    As in OpenAI's format, an answer has weight 0 or 1, and 1 where another message of its conversation has a weight.
    """
    if all(message.get("weight") is None for message in messages):
        return [len(messages) - 1]
    answers = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
    return [index for index in answers if messages[index].get("weight") != 0]


def list_unlearned(messages: list[Message]) -> list[int]:
    """Which answers have weight 0."""
    return [index for index, message in enumerate(messages) if message.get("weight") == 0]


def _refuse_calls(example: Example, style: str) -> None:
    """Raises `UnusableExampleError` where a style of ours would leave out what the assistant calls."""
    if example.tools or any(message.get("tool_calls") for message in example.messages):
        raise UnusableExampleError(
            f"data.style={style} has no words for tools and tool_calls; choose template, or remove them"
        )


def _read_instruction(example: Example, style: str) -> str:
    """The single user message of an instruction record. Raises `ConfigError` for a longer conversation."""
    if len(example.messages) != 2 or example.messages[0]["role"] != "user":
        raise ConfigError(
            f"data.style={style} writes one question and its answer, and {example.where} is a conversation; write "
            "data.style=template, the model's chat template, or data.style=chatml"
        )
    return read_text(example.messages[0])


def add_input(example: Example) -> list[Message]:
    """The conversation, an instruction's input below its instruction."""
    *before, last, answer = example.messages
    if not example.input_text:
        return example.messages
    return [*before, {**last, "content": f"{read_text(last)}\n\n{example.input_text}"}, answer]


def _write_turns(messages: list[Message]) -> Iterator[tuple[str, str]]:
    start, end = CHATML_NAMES
    for message in messages:
        yield f"{start}{message['role']}\n", f"{read_text(message)}{end}"


def render_prompt(example: Example, style: str) -> str:
    """The prompt of `example`; the response follows it directly.

    plain: instruction, input and an empty line's end; alpaca: Stanford Alpaca's wording; chatml: OpenAI's markup.
    Raises `ConfigError` where the style does not fit.
    """
    _refuse_calls(example, style)
    if style == "plain":
        parts = (_read_instruction(example, style), example.input_text)
        return "".join(f"{part}\n" for part in parts if part)
    if style == "alpaca":
        wording = ALPACA_WITH_INPUT if example.input_text else ALPACA_WITHOUT_INPUT
        return wording.format(instruction=_read_instruction(example, style), input=example.input_text)
    turns = "".join(f"{head}{body}\n" for head, body in _write_turns(add_input(example)[:-1]))
    return f"{turns}{CHATML_NAMES[0]}assistant\n"


def render_plainly(example: Example, style: str, names: Container[str]) -> Rendering:
    """`example` in a style of ours; `names` are the tokenizer's added tokens.

    ChatML's turns end with its own token where the tokenizer has it; all else ends with the tokenizer's end token.
    Raises `ConfigError` as `render_prompt`.
    """
    prompt = render_prompt(example, style)
    if style != "chatml":
        return Rendering(prompt + example.response, [Span(len(prompt), len(prompt + example.response))])
    text, spans = "", []
    for head, body in _write_turns(add_input(example)):
        spans.append(Span(len(text + head), len(text + head + body)))
        text += f"{head}{body}\n"
    if CHATML_NAMES[1] not in names:
        spans[-1] = Span(spans[-1].start, spans[-1].end - len(CHATML_NAMES[1]))
    last = list_targets(example.messages)[-1]
    targets = [spans[index] for index in list_targets(example.messages)]
    unlearned = [spans[index] for index in list_unlearned(example.messages) if index < last]
    has_end = CHATML_NAMES[1] in names or last < len(spans) - 1
    return Rendering(text[: spans[last].end], targets, unlearned, has_end_token=has_end)
