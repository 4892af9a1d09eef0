"""Tokenizes examples, with a label for every token that counts in the loss."""

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from sweeplab.data.chat_template import render_by_template
from sweeplab.data.literal import choose_marks, compile_names, encode_literally, find_special_names, remove_marks
from sweeplab.data.prompts import (
    CHATML_NAMES,
    Example,
    Rendering,
    Span,
    UnusableExampleError,
    count_shared,
    name_records,
    render_plainly,
)
from sweeplab.runtime.errors import ConfigError, refuses_any_error

IGNORED: Final = -100  # cross_entropy's ignore_index
_COPY_TOKENIZER: Final = "copy the tokenizer's files from the model again"
_MOST_COUNTED: Final = 1000  # examples that cannot be rendered, after which no more are looked at


class Tokens:
    """One example of T tokens: int64 ids and labels of shape (T,). A label is `IGNORED` where no loss is counted.

    Tokens and targets are counted once, here, so that a training step does not count them in Python.
    """

    def __init__(self, ids: Sequence[int] | Tensor, labels: Sequence[int] | Tensor, num_literal: int = 0) -> None:
        self.ids = torch.as_tensor(ids, dtype=torch.long)
        self.labels = torch.as_tensor(labels, dtype=torch.long)
        self.num_tokens = len(self.ids)
        # the first token is no target, since no token before it predicts it
        self.num_targets = int((self.labels[1:] != IGNORED).sum())
        self.num_literal = num_literal  # names of special tokens that the example's own text holds
        self.notes: Sequence[str] = ()  # of the rendering


class TokenizedSplit(NamedTuple):
    """Tokenized examples, without the dropped ones."""

    examples: list[Tokens]
    num_truncated: int  # cut at max_length
    dropped: list[str]  # where those stand that were cut before their response began
    num_naming_special: int = 0  # whose text names special tokens, which stay text
    notes: tuple[str, ...] = ()  # what a reader of the results must know of the chat template

    @property
    def num_dropped(self) -> int:
        return len(self.dropped)


class EncodedExamples(NamedTuple):
    """Examples as tokens, not cut, and where they stand; likewise those that cannot be rendered, and why."""

    tokens: list[Tokens]
    names: list[str]
    unusable: list[str]
    problem: UnusableExampleError | None = None  # of the first


class _Encoded(NamedTuple):
    ids: list[int]
    spans: list[tuple[int, int]]  # of each token in the text; the tokenizer's own first tokens are before it


def _render_example(example: Example, style: str, tokenizer: Any, *, mask_prompt: bool = True) -> Rendering:
    """`example` as text in `style`, with what of it is learned. Raises `ConfigError` where the style does not fit."""
    if style == "template":
        return render_by_template(example, tokenizer, mask_prompt=mask_prompt)
    own = CHATML_NAMES if style == "chatml" else ()
    names = find_special_names(tokenizer, " ".join(own))
    content = json.dumps([example.messages, example.input_text], ensure_ascii=False)
    if compile_names(names).search(content) is None:
        return render_plainly(example, style, names)
    marks = choose_marks(content)
    messages, input_text = marks.put_around([example.messages, example.input_text], compile_names(names))
    marked = render_plainly(example._replace(messages=messages, input_text=input_text), style, names)
    bare = remove_marks(marked.text, marks)
    moved = [
        [Span(bare.move(start), bare.move(end)) for start, end in spans] for spans in (marked.targets, marked.unlearned)
    ]
    return marked._replace(text=bare.text, literal=bare.literal, targets=moved[0], unlearned=moved[1])


def _untrim_end(end: int, token: int, tokenizer: Any, text: str) -> int:
    """Where a token ends in `text`: byte-level tokenizers may leave white space at its end out of its offsets."""
    if not text[end - 1 : end].isspace():
        decoded = tokenizer.decode([token], clean_up_tokenization_spaces=False)
        return min(end + len(decoded) - len(decoded.rstrip()), len(text))
    return end


def _encode_with_offsets(rendering: Rendering, tokenizer: Any) -> _Encoded:
    text = rendering.text
    encoding = tokenizer(
        text, add_special_tokens=not rendering.has_first_token, verbose=False, return_offsets_mapping=True
    ).encodings[0]
    first, last = _find_own_tokens(encoding)
    ids, spans = encoding.ids[:last], encoding.offsets[first:last]
    for border in {span.start for span in rendering.targets if text[span.start : span.start + 1].isspace()}:
        spans = [
            (start, _untrim_end(end, token, tokenizer, text))
            if end <= border and text[end : border + 1].isspace()
            else (start, end)
            for (start, end), token in zip(spans, ids[first:], strict=True)
        ]
    return _Encoded(ids, [(0, 0)] * first + spans)


def _find_own_tokens(encoding: Any) -> tuple[int, int]:
    """Where the tokens of the text itself begin and end, among those that the tokenizer puts around it."""
    owners = encoding.sequence_ids  # None for tokens that are put around the text
    own = [index for index, owner in enumerate(owners) if owner is not None] if None in owners else range(len(owners))
    return (own[0], own[-1] + 1) if own else (len(owners), len(owners))


def _list_first_tokens(tokenizer: Any) -> list[int]:
    """What the tokenizer puts before a text."""
    encoding = tokenizer("a", add_special_tokens=True).encodings[0]
    ids: list[int] = encoding.ids[: _find_own_tokens(encoding)[0]]
    return ids


def _encode_without_offsets(rendering: Rendering, tokenizer: Any) -> _Encoded:
    """A token belongs to what is before a border where the tokenizer gives it for that part of the text too."""
    special = not rendering.has_first_token
    ids: list[int] = tokenizer.encode(rendering.text, add_special_tokens=special, verbose=False)
    if special and ids and ids[-1] == tokenizer.eos_token_id:
        ids = ids[:-1]
    borders = sorted({border for span in (*rendering.targets, *rendering.unlearned) for border in span})
    spans: list[tuple[int, int]] = []
    for border in borders:
        part = tokenizer.encode(rendering.text[:border], add_special_tokens=special, verbose=False)
        num_before = len(ids) if border == len(rendering.text) else count_shared(part, ids)
        start = spans[-1][1] if spans else 0
        spans += [(start, border)] * (num_before - len(spans))
    spans += [(len(rendering.text), len(rendering.text))] * (len(ids) - len(spans))
    return _Encoded(ids, spans)


def _encode_rendering(rendering: Rendering, tokenizer: Any, names: frozenset[str]) -> _Encoded:
    """The text as one, so that its tokens are those of a model in use.

    Raises `UnusableExampleError` where names of special tokens cannot stay text.
    """
    if rendering.literal:
        ids, spans = encode_literally(rendering.text, rendering.literal, names, tokenizer)
        first = [] if rendering.has_first_token else _list_first_tokens(tokenizer)
        return _Encoded([*first, *ids], [(0, 0)] * len(first) + spans)
    return (_encode_with_offsets if tokenizer.is_fast else _encode_without_offsets)(rendering, tokenizer)


def _find_tokens(spans: Sequence[tuple[int, int]], parts: Iterable[Span]) -> set[int]:
    """The tokens that hold a character of one of `parts`; a token of no character belongs to the part that it ends.

    A token across the border before an answer belongs to the answer, as in lm-eval, which moves a prompt's last spaces
    to the answer.
    """
    return {
        index
        for first, last in parts
        for index, (start, end) in enumerate(spans)
        if first < end and (end <= last or start < last)
    }


def _encode_example(example: Example, tokenizer: Any, style: str, mask_prompt: bool) -> Tokens:
    """Prompt and response as one text, the response's tokens found by where they stand in it.

    A chat template writes its own special tokens; else the tokenizer's first one, if it has one, stands before the text
    and its end token after it. Nothing follows the last answer.
    """
    rendering = _render_example(example, style, tokenizer, mask_prompt=mask_prompt)
    template = tokenizer.get_chat_template(None, list(example.tools) or None) if style == "template" else None
    names = find_special_names(tokenizer, template if template is not None else " ".join(CHATML_NAMES))
    ids, spans = _encode_rendering(rendering, tokenizer, names)
    counted = _find_tokens(spans, rendering.targets)
    last = rendering.targets[-1].end
    stop = max(counted) + 1 if counted else sum(end <= last for _, end in spans)  # none: the tokenizer drops the answer
    if not mask_prompt:
        counted = set(range(stop)) - _find_tokens(spans, rendering.unlearned)
    labels = [id_ if index in counted else IGNORED for index, id_ in enumerate(ids[:stop])]
    end = [] if rendering.has_end_token else [tokenizer.eos_token_id]
    tokens = Tokens(ids[:stop] + end, labels + end, len(rendering.literal))
    tokens.notes = rendering.notes
    return tokens


def _truncate(tokens: Tokens, max_length: int) -> Tokens:
    """The first `max_length` tokens of an example, as a copy, so that the memory of the others is freed."""
    if tokens.num_tokens <= max_length:
        return tokens
    return Tokens(tokens.ids[:max_length].clone(), tokens.labels[:max_length].clone(), tokens.num_literal)


def encode_examples(examples: list[Example], tokenizer: Any, style: str, mask_prompt: bool) -> EncodedExamples:
    """Raises `ConfigError` for what a damaged tokenizer raises."""
    found = EncodedExamples([], [], [])
    for example in examples:
        try:
            with refuses_any_error(f"{example.where} cannot become tokens", _COPY_TOKENIZER):
                found.tokens.append(_encode_example(example, tokenizer, style, mask_prompt))
        except UnusableExampleError as error:
            found = found if found.problem else found._replace(problem=error)
            found.unusable.append(example.where)
            if len(found.unusable) == _MOST_COUNTED:
                break
        else:
            found.names.append(example.where)
    return found


def refuse_unusable(parts: Sequence[EncodedExamples], num_examples: int) -> None:
    """Raises `ConfigError` with how many examples cannot be rendered, and the first of them, if there is one."""
    records = [name for part in parts for name in part.unusable]
    first = next((part.problem for part in parts if part.problem), None)
    if first is not None:
        least = "at least " if any(len(part.unusable) == _MOST_COUNTED for part in parts) else ""
        raise ConfigError(
            f"{first} ({least}{len(records):,} of {num_examples:,} examples: {name_records(records)})"
        ) from first


def cut_examples(encoded: EncodedExamples, max_length: int) -> TokenizedSplit:
    """The examples cut at `max_length` tokens, without those whose response was cut off.

    Raises `ConfigError` where there are examples and none has a target left.
    """
    whole = encoded.tokens
    cut = [_truncate(tokens, max_length) for tokens in whole]
    kept = [tokens for tokens in cut if tokens.num_targets > 0]
    if whole and not kept:
        longest = max(tokens.num_tokens for tokens in whole)
        raise ConfigError(
            f"training.max_length={max_length} cuts off every response; raise it (the longest example has {longest})"
        )
    dropped = [name for name, tokens in zip(encoded.names, cut, strict=True) if tokens.num_targets == 0]
    num_truncated = sum(tokens.num_tokens > max_length for tokens in whole)
    num_naming_special = sum(tokens.num_literal > 0 for tokens in whole)
    notes = tuple(dict.fromkeys(note for tokens in whole for note in tokens.notes))
    return TokenizedSplit(kept, num_truncated, dropped, num_naming_special, notes)


def tokenize_examples(
    examples: list[Example], tokenizer: Any, style: str, mask_prompt: bool, max_length: int
) -> TokenizedSplit:
    """The examples, cut at `max_length` tokens, without those whose response was cut off.

    Raises `ConfigError` where an example cannot be rendered, and where no example has a target left.
    """
    encoded = encode_examples(examples, tokenizer, style, mask_prompt)
    refuse_unusable([encoded], len(examples))
    return cut_examples(encoded, max_length)


def refuse_unknown_tokens(examples: list[Tokens], vocab_size: int) -> None:
    """Raises `ConfigError` where the tokenizer gives a token for which the model has no embedding."""
    largest = max(int(tokens.ids.max()) for tokens in examples)
    if largest >= vocab_size:
        raise ConfigError(
            f"the tokenizer writes the data with token {largest}, and the model knows {vocab_size} tokens only; use "
            "the tokenizer that belongs to the model"
        )
