"""A conversation by the tokenizer's chat template, whole, and where in it the answers stand."""

import json
import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from jinja2 import TemplateError
from transformers.utils.chat_template_utils import render_jinja_template

from sweeplab.data.literal import Marks, choose_marks, compile_names, find_special_names, remove_marks
from sweeplab.data.message_forms import list_forms
from sweeplab.data.prompts import (
    Example,
    Message,
    Rendering,
    Span,
    UnusableExampleError,
    add_input,
    count_shared,
    list_targets,
    list_unlearned,
    read_text,
)
from sweeplab.data.template_checks import is_written_as_code, refuse_omissions
from sweeplab.runtime.errors import ConfigError, describe_error

_GENERATION: Final = re.compile(r"\{%-?\s*generation\s*-?%\}")  # as transformers looks for it
_THOUGHT: Final = re.compile("think|reason", re.IGNORECASE)  # tokens that an answer itself may hold
_DATE: Final = "strftime_now"
_DATED: Final = "the chat template writes the current date, so training on another day reads other tokens"
_ENDLESS: Final = "the chat template writes no special token at the end of an answer, so no end is learned"
_HEADER: Final = 100  # characters in which a template may begin an answer before the part that is learned
_ERRORS: Final = (TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError)


class _FormError(UnusableExampleError):
    """The template writes this form as Python or JSON writes it, not as text."""


class _RefusedError(_FormError):
    """The template raises."""


class _Rendered(NamedTuple):
    text: str
    literal: list[Span]
    generated: list[Span]  # between the template's generation marks


class _Template:
    """The template of one tokenizer, for conversations with or without tools."""

    def __init__(self, tokenizer: Any, tools: Sequence[dict[str, Any]]) -> None:
        self.tokenizer = tokenizer
        self.tools: Any = list(tools) or None
        try:
            self.source: str = tokenizer.get_chat_template(None, self.tools)
        except ValueError as error:
            raise ConfigError(f"data.style=template: {describe_error(error)}; try chatml") from error
        self.has_marks = _GENERATION.search(self.source) is not None
        self.names = find_special_names(tokenizer, self.source)

    def render(
        self, messages: list[Message], marks: Marks | None = None, *, prompts: bool = False, tools: Any = None
    ) -> _Rendered:
        """Raises `UnusableExampleError` where the template does: it runs in jinja2's sandbox, and many refuse roles."""
        kept = [
            {key: value for key, value in message.items() if value is not None and key != "weight"}
            for message in messages
        ]
        try:
            rendered: Any = render_jinja_template(
                [kept],
                tools=self.tools if tools is None else tools,
                chat_template=self.source,
                return_assistant_tokens_mask=self.has_marks,
                add_generation_prompt=prompts,
                **self.tokenizer.special_tokens_map,
            )
        except _ERRORS as error:
            reason = describe_error(error)
            raise _RefusedError(
                f"data.style=template: the tokenizer's chat template refuses the messages: {reason}; try chatml"
            ) from error
        texts, spans = rendered
        bare = remove_marks(texts[0], marks)
        generated = [Span(bare.move(start), bare.move(end)) for start, end in (spans[0] if self.has_marks else ())]
        return _Rendered(bare.text, bare.literal, generated)

    def mark(self, messages: list[Message]) -> tuple[list[Message], Marks | None, Any]:
        """Messages and tools with marks around the names of special tokens; no marks where none is named.

        An answer may think: the tokens for that are real ones in it.
        """
        anywhere = compile_names(self.names)
        content = json.dumps([messages, self.tools], ensure_ascii=False)
        if anywhere.search(content) is None:
            return messages, None, None
        marks = choose_marks(content)
        own = compile_names(self._list_names_in_answers())
        marked = [
            marks.put_around(message, own if message["role"] == "assistant" else anywhere) for message in messages
        ]
        return marked, marks, None if self.tools is None else marks.put_around(self.tools, anywhere)

    def _list_names_in_answers(self) -> frozenset[str]:
        special = find_special_names(self.tokenizer)
        try:
            turn = self.render([{"role": "user", "content": "-"}]).text
        except UnusableExampleError:
            turn = ""
        return frozenset(name for name in self.names if (name in special or name in turn) and not _THOUGHT.search(name))


class _Conversation:
    """A conversation rendered whole, and its beginnings beside it."""

    def __init__(self, template: _Template, messages: list[Message]) -> None:
        self.template, self.given = template, messages
        self.messages, self.marks, self.tools = template.mark(messages)
        self.whole = self._render_first(len(messages))
        if is_written_as_code(messages, self.whole.text):
            raise _FormError(
                "data.style=template: the tokenizer's chat template cannot write tool calls or content in this form; "
                "give arguments as an object, content as text"
            )
        if self.marks is not None and template.render(messages).text != self.whole.text:
            raise UnusableExampleError(
                "data.style=template: the tokenizer's chat template changes names of special tokens in a text; "
                "remove them from the text"
            )
        refuse_omissions(messages, template.tools or [], self._render_probed)

    def _render_probed(self, messages: list[Message], tools: Any) -> tuple[str, list[Span] | None]:
        rendered = self.template.render(messages, tools=tools)
        return rendered.text, rendered.generated if self.template.has_marks else None

    def _render_first(self, number: int, *, prompts: bool = False) -> _Rendered:
        return self.template.render(self.messages[:number], self.marks, prompts=prompts, tools=self.tools)

    def find_answer(self, index: int) -> list[Span]:
        """Where message `index` stands with its end, as the template has it. Raises `UnusableExampleError`."""
        spans = self._find_marked(index) if self.template.has_marks else [self._find_added(index)]
        bare = "".join(self.whole.text[start:end] for start, end in spans)
        if not compile_names(self.template.names).sub("", bare).strip():
            raise UnusableExampleError(
                "data.style=template: the tokenizer's chat template writes nothing for an answer but its end; remove "
                "the conversation, or give the answer text"
            )
        content = "".join(read_text(self.given[index]).split())
        around = self.whole.text[max(0, spans[0].start - len(content) - _HEADER) : spans[-1].end]
        if content not in "".join(around.split()):
            raise UnusableExampleError(
                "data.style=template: the tokenizer's chat template leaves out a part of an answer, such as its "
                f"reasoning; remove that part, {self._suggest_last(index)}or choose a model whose template writes it"
            )
        return spans

    def _suggest_last(self, index: int) -> str:
        return "" if index == len(self.messages) - 1 else "try data.targets=last, "

    def _find_marked(self, index: int) -> list[Span]:
        """What the template marks in this message and in none before it."""
        start = len(self._render_first(index).generated)
        if index == len(self.messages) - 1:
            return self.whole.generated[start:]
        return self.whole.generated[start : len(self._render_first(index + 1).generated)]

    def _find_added(self, index: int) -> Span:
        """What the message adds to the prompt for it, without the line's end that follows its own end.

        Nothing tells where an answer stands if the template writes what is before it in another way once it is there.
        """
        text = self.whole.text
        prompt = self._render_first(index, prompts=True).text
        is_last = index == len(self.messages) - 1
        until = text if is_last else self._render_first(index + 1).text
        num_shared = len(until) if text.startswith(until) else count_shared(until, text)
        if text.startswith(prompt) and len(prompt) < num_shared:
            end = self._find_end(len(prompt), num_shared, is_cut=num_shared < len(until))
            if end is not None:
                return Span(len(prompt), end)
        earlier = None if is_last else self._find_rewritten(index, count_shared(prompt, text))
        if earlier is not None:
            return earlier
        remedy = "chatml" if is_last else "data.targets=last, chatml"
        raise UnusableExampleError(
            "data.style=template: the tokenizer's chat template does not write a conversation as the prompt for its "
            f"{'' if is_last else 'earlier '}answer and then the answer, so nothing tells what is to be learned; try "
            f"{remedy}, or put {{% generation %}} marks in the template"
        )

    def _find_rewritten(self, index: int, start: int) -> Span | None:
        """An earlier answer that the template writes in another way than a last one, as without the thought that the
        prompt begins or the answer has.

        It must be the message's own text, from where the prompt still is the same to the token that ends a last answer.
        """
        last = self._find_added(len(self.messages) - 1)
        names = compile_names(self.template.names)
        end = next((one[0] for one in names.finditer(self.whole.text, *last) if one.end() == last.end), None)
        literal = set(self.whole.literal)
        for match in names.finditer(self.whole.text, start):
            if match[0] == end and Span(*match.span()) not in literal:
                written = "".join(self.whole.text[start : match.start()].split())
                return Span(start, match.end()) if written == "".join(read_text(self.given[index]).split()) else None
        return None

    def _find_end(self, start: int, stop: int, *, is_cut: bool) -> int | None:
        """Where the answer's own end token ends; None where nothing but the cut text tells it.

        A model in use stops at the tokenizer's end token, whatever a template writes after it.
        """
        literal = set(self.whole.literal)
        ends = []
        for match in compile_names(self.template.names).finditer(self.whole.text, start, stop):
            if Span(*match.span()) not in literal:
                ends.append(match.end())
                if match[0] == self.template.tokenizer.eos_token:
                    return match.end()
        if ends and (is_cut or not self.whole.text[ends[-1] : stop].strip()):
            return ends[-1]
        return None if is_cut else start + len(self.whole.text[start:stop].rstrip("\n"))


def render_by_template(example: Example, tokenizer: Any, *, mask_prompt: bool) -> Rendering:
    """`example` as the tokenizer's chat template writes it, its answers with the end that the template gives them.

    Answers are what stands between the template's generation marks; where it has none, what an answer adds to the
    prompt for it. Raises `ConfigError` without a template, `UnusableExampleError` for what the template cannot write.
    """
    if tokenizer.chat_template is None:
        raise ConfigError("data.style=template needs a tokenizer with a chat template, got one without; try chatml")
    template = _Template(tokenizer, example.tools)
    problems: list[UnusableExampleError] = []
    for messages in list_forms(add_input(example)):
        try:
            return _render_variant(_Conversation(template, messages), mask_prompt=mask_prompt)
        except UnusableExampleError as error:
            problems.append(error)
    # other forms fail for their form where that is not what the template lacks
    raise min(problems, key=lambda problem: (isinstance(problem, _FormError), isinstance(problem, _RefusedError)))


def _render_variant(conversation: _Conversation, *, mask_prompt: bool) -> Rendering:
    indices = list_targets(conversation.messages)
    targets = [span for index in indices for span in conversation.find_answer(index)]
    passed = [] if mask_prompt else [index for index in list_unlearned(conversation.messages) if index < indices[-1]]
    unlearned = [span for index in passed for span in conversation.find_answer(index)]
    whole = conversation.whole
    text = whole.text if conversation.template.has_marks else whole.text[: targets[-1].end]
    literal = [span for span in whole.literal if span.end <= len(text)]
    notes = [_DATED] if _DATE in conversation.template.source else []
    if not whole.text[slice(*targets[-1])].rstrip().endswith(tuple(conversation.template.names)):
        notes.append(_ENDLESS)
    return Rendering(text, targets, unlearned, literal, has_first_token=True, has_end_token=True, notes=notes)
