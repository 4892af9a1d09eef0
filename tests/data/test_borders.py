"""Prompt and answer are one text: against lm-eval's own encoding of a pair, and against offsets counted by hand."""

import copy
from typing import Any

import pytest
from lm_eval.models.huggingface import HFLM
from tokenizers import normalizers
from transformers import ByT5Tokenizer

from sweeplab.data.prompts import Example, Rendering, Span, UnusableExampleError
from sweeplab.data.tokens import IGNORED, _encode_example, _encode_rendering
from tests.data.families import FAMILIES, make_tokenizer


def encode_pair(tokenizer: Any, context: str, answer: str) -> tuple[list[int], list[int]]:
    """As lm-eval encodes a question and an answer for scoring, with nothing of ours."""
    lm = HFLM.__new__(HFLM)
    lm.tokenizer, lm.backend, lm.add_bos_token, lm.custom_prefix_token_id = tokenizer, "causal", None, None
    asked, answered = lm._encode_pair(context, answer)
    return asked, answered


def split_ids(tokenizer: Any, prompt: str, answer: str) -> tuple[list[int], list[int]]:
    """Ids of the prompt and of the answer, as training has them."""
    text = prompt + answer
    names: frozenset[str] = frozenset()
    ids, spans = _encode_rendering(Rendering(text, [Span(len(prompt), len(text))]), tokenizer, names)
    border = next(place for place, span in enumerate(spans) if span[1] > len(prompt))
    return ids[:border], ids[border:]


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        ("How warm is Rome?\nAnswer:", " It is warm."),
        ("How warm is Rome?\nAnswer: ", "It is warm."),  # lm-eval moves the space to the answer
        ("What does a cat like", ", and the sun"),
        ("Question: where is the town? Answer:", " the river\n"),
    ],
)
def test_training_and_scoring_learn_the_same_tokens(name: str, prompt: str, answer: str) -> None:
    tokenizer = make_tokenizer(name)
    context, scored = encode_pair(tokenizer, prompt, answer)
    before, learned = split_ids(tokenizer, prompt, answer)
    assert before + learned == context + scored == tokenizer.encode(prompt + answer)
    if FAMILIES[name].kind in ("bytes", "trimming") or not prompt.endswith(" "):
        assert learned == scored


@pytest.mark.parametrize("name", ["llama2", "mistral_v1"])
def test_no_space_stands_before_an_answer_that_has_none(name: str) -> None:
    tokenizer = make_tokenizer(name)
    messages = [{"role": "user", "content": "How warm is Rome?"}, {"role": "assistant", "content": "It is warm."}]
    tokens = _encode_example(Example(messages), tokenizer, "plain", True)
    learned = [label for label in tokens.labels.tolist() if label != IGNORED]
    assert tokens.ids.tolist() == [*tokenizer.encode("How warm is Rome?\nIt is warm."), tokenizer.eos_token_id]
    assert not tokenizer.convert_ids_to_tokens(learned)[0].startswith("▁")
    assert len(learned) < len([*tokenizer.encode("It is warm."), tokenizer.eos_token_id])


@pytest.mark.parametrize("name", ["chatml", "llama3"])  # offsets with and without white space
def test_a_token_across_the_border_belongs_to_the_answer(name: str) -> None:
    tokenizer = make_tokenizer(name)
    assert len(tokenizer.encode("\n\n", add_special_tokens=False)) == 1
    before, learned = split_ids(tokenizer, "A cat\n", "\n")
    assert tokenizer.decode(before, skip_special_tokens=True) == "A cat"
    assert tokenizer.decode(learned) == "\n\n"


def test_an_answer_that_the_tokenizer_drops_leaves_the_end_token() -> None:
    tokenizer = make_tokenizer("chatml")
    messages = [{"role": "user", "content": "How?"}, {"role": "assistant", "content": "\x00"}]
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace("\x00", "")
    tokens = _encode_example(Example(messages), tokenizer, "plain", True)
    assert tokens.ids.tolist() == [*tokenizer.encode("How?\n"), tokenizer.eos_token_id]
    assert tokens.num_targets == 1


def test_a_tokenizer_without_offsets_learns_the_same() -> None:
    tokenizer: Any = ByT5Tokenizer()
    assert not tokenizer.is_fast
    messages = [{"role": "user", "content": "How warm is Rome?"}, {"role": "assistant", "content": "Warm."}]
    expected = [*tokenizer.encode("How warm is Rome?\nWarm.", add_special_tokens=False), tokenizer.eos_token_id]
    for mask_prompt, num_learned in ((True, len("Warm.") + 1), (False, len(expected))):
        tokens = _encode_example(Example(messages), tokenizer, "plain", mask_prompt)
        assert tokens.ids.tolist() == expected
        assert [label for label in tokens.labels.tolist() if label != IGNORED] == expected[-num_learned:]
    tokenizer.chat_template = FAMILIES["dialogpt"].template.replace("[GEN]", "").replace("[/GEN]", "")
    tokens = _encode_example(Example(messages), tokenizer, "template", True)
    assert tokenizer.decode(tokens.ids) == "How warm is Rome?</s>Warm.</s>"
    assert tokenizer.decode([label for label in tokens.labels.tolist() if label != IGNORED]) == "Warm.</s>"
    messages[1]["content"] += "</s>"
    with pytest.raises(UnusableExampleError, match="which this tokenizer cannot read as text"):
        _encode_example(Example(messages), tokenizer, "plain", True)
