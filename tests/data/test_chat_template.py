"""What is learned of a conversation, held against transformers' own rendering and against answers written by hand."""

from typing import Any

import pytest

from sweeplab.data.prompts import Example
from sweeplab.data.tokens import IGNORED, encode_example
from tests.data.families import FAMILIES, make_tokenizer

Message = dict[str, Any]


def chat(*turns: str, system: str | None = None) -> list[Message]:
    roles = ("user", "assistant") * len(turns)
    messages = [{"role": role, "content": turn} for role, turn in zip(roles, turns, strict=False)]
    return messages if system is None else [{"role": "system", "content": system}, *messages]


CONVERSATIONS = [
    chat("How warm is Rome?", "It is warm."),
    chat("What does a cat like?", "Fish.", "How warm is Rome?", "It is warm."),
    chat("How warm is Rome?", "It is warm.", system="Answer in few words."),
]


def learned(tokenizer: Any, example: Example, mask_prompt: bool = True) -> tuple[list[int], list[int]]:
    """All ids, and those that are learned."""
    tokens = encode_example(example, tokenizer, "template", mask_prompt)
    ids, labels = tokens.ids.tolist(), tokens.labels.tolist()
    assert all(label in (IGNORED, id_) for id_, label in zip(ids, labels, strict=True))
    return ids, [label for label in labels if label != IGNORED]


def whole_ids(tokenizer: Any, messages: list[Message], **settings: Any) -> list[int]:
    ids: list[int] = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False, **settings)
    return ids


def cases() -> list[tuple[str, list[Message]]]:
    return [
        (name, messages)
        for name, family in FAMILIES.items()
        for messages in CONVERSATIONS
        if family.takes_system or messages[0]["role"] != "system"
    ]


@pytest.mark.parametrize(("name", "messages"), cases())
def test_the_answer_as_the_template_writes_it_is_learned(name: str, messages: list[Message]) -> None:
    tokenizer = make_tokenizer(name)
    ids, targets = learned(tokenizer, Example(messages))
    whole = whole_ids(tokenizer, messages)
    assert ids == whole[: len(ids)]
    assert tokenizer.decode(whole[len(ids) :]).strip() == ""  # nothing but the end of a line
    assert targets == ids[-len(targets) :]
    assert tokenizer.decode(targets).lstrip(" ") == FAMILIES[name].answer.lstrip(" ")
    assert ids.count(tokenizer.bos_token_id) == whole.count(tokenizer.bos_token_id)


@pytest.mark.parametrize(("name", "messages"), cases())
def test_prompt_and_answer_meet_where_the_prompt_in_use_ends(name: str, messages: list[Message]) -> None:
    tokenizer = make_tokenizer(name)
    ids, targets = learned(tokenizer, Example(messages))
    prompt = whole_ids(tokenizer, messages[:-1], add_generation_prompt=True)
    if name != "qwen3_thinking":  # whose prompt's last token is another one once an answer follows
        assert ids[: -len(targets)] == prompt
    assert len(ids) - len(targets) in (len(prompt), len(prompt) - 1)


@pytest.mark.parametrize(("name", "messages"), cases())
def test_generation_marks_say_what_is_learned(name: str, messages: list[Message]) -> None:
    tokenizer = make_tokenizer(name, generation=True)
    ids, targets = learned(tokenizer, Example(messages))
    expected = tokenizer.apply_chat_template(
        messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    marked = [place for place, mark in enumerate(expected["assistant_masks"]) if mark]
    last = [place for place in marked if all(between in marked for between in range(place, marked[-1] + 1))]
    assert ids == expected["input_ids"][: marked[-1] + 1]
    assert targets == [expected["input_ids"][place] for place in last]
