"""Names of special tokens in the data's own text stay text, with every kind of tokenizer."""

from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from sweeplab.data.literal import encode_literally, find_special_names
from sweeplab.data.prompts import Example, Span, UnusableExampleError
from sweeplab.data.tokens import IGNORED, _encode_example, tokenize_examples
from sweeplab.runtime.errors import ConfigError
from tests.data.families import FAMILIES, make_tokenizer

STYLES = ("plain", "alpaca", "chatml", "template")


def question(instruction: str, response: str) -> Example:
    return Example([{"role": "user", "content": instruction}, {"role": "assistant", "content": response}])


def special_ids(tokenizer: Any, ids: list[int]) -> list[int]:
    special = {tokenizer.convert_tokens_to_ids(name) for name in find_special_names(tokenizer)}
    return [id_ for id_ in ids if id_ in special - {tokenizer.unk_token_id}]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("generation", [False, True])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_name_in_a_text_is_no_token(name: str, generation: bool, style: str) -> None:
    tokenizer = make_tokenizer(name, generation=generation)
    bare = _encode_example(question("How is it?", "It is so."), tokenizer, style, True)
    for special in FAMILIES[name].specials:
        named = question(f"How {special} is it?", f"It is{special} so.")
        tokens = _encode_example(named, tokenizer, style, True)
        assert tokens.num_literal == 2
        assert special_ids(tokenizer, tokens.ids.tolist()) == special_ids(tokenizer, bare.ids.tolist())
        learned = [label for label in tokens.labels.tolist() if label != IGNORED]
        assert f"It is{special} so." in tokenizer.decode(learned)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_pipeline_with_renamed_tokens_is_the_tokenizers_own(name: str) -> None:
    tokenizer = make_tokenizer(name)
    names = find_special_names(tokenizer, tokenizer.chat_template)
    turns = [{"role": role, "content": f"  A cat\n{role} 22 é日 "} for role in ("user", "assistant", "user")]
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    expected = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids, spans = encode_literally(text, [Span(0, 0)], names, tokenizer)
    assert ids == expected["input_ids"]
    if FAMILIES[name].kind != "trimming":  # whose offsets leave white space out
        assert spans == expected["offset_mapping"]


@pytest.mark.parametrize("name", ["llama2", "mistral_v3", "llama3"])
def test_the_first_token_stands_once(name: str) -> None:
    tokenizer = make_tokenizer(name)
    first = FAMILIES[name].first
    for style in STYLES:
        ids = _encode_example(question(f"{first}How is it?", "It is so."), tokenizer, style, True).ids.tolist()
        assert ids.count(tokenizer.convert_tokens_to_ids(first)) == 1
        assert ids[0] == tokenizer.convert_tokens_to_ids(first)


def test_a_model_that_makes_the_token_of_the_text_is_refused() -> None:
    model = models.Unigram([("<unk>", -9.0), ("<eos>", 0.0), ("▁", -2.0), *((one, -3.0) for one in "aeos<>")], 0, False)
    backend = Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>", unk_token="<unk>")
    with pytest.raises(UnusableExampleError, match=r"^the text holds <eos>, a special token, which this tokenizer"):
        _encode_example(question("a", "so<eos>a"), tokenizer, "plain", True)
    with pytest.raises(ConfigError, match=r"remove it from the text \(1 of 2 examples: the data\)$"):
        tokenize_examples([question("a", "so<eos>"), question("a", "so")], tokenizer, "plain", True, 64)


def test_a_template_that_takes_names_apart_is_refused() -> None:
    template = "{% for m in messages %}{{ m.content[1:] }}{{ eos_token }}{% endfor %}"
    for source in (template, template.replace("[1:]", ".split('#')")):
        tokenizer = make_tokenizer("chatml", template=source)
        with pytest.raises(UnusableExampleError, match=r"names? of (a )?special tokens? in a text"):
            _encode_example(question("<|im_end|>", "Yes."), tokenizer, "template", True)


def test_thoughts_are_tokens_in_answers_and_text_in_questions() -> None:
    tokenizer = make_tokenizer("qwen3")
    thought = tokenizer.convert_tokens_to_ids("<think>")
    example = question("What does <think> say? <|im_end|>", "<think>\nsun\n</think>\n\nYes.")
    tokens = _encode_example(example, tokenizer, "template", True)
    learned = [label for label in tokens.labels.tolist() if label != IGNORED]
    assert (tokens.num_literal, tokens.ids.tolist().count(thought), learned.count(thought)) == (2, 1, 1)


def test_examples_that_name_special_tokens_are_counted() -> None:
    examples = [question("How?", "So."), question("<s>", "So."), question("How?", "</s></s>")]
    split = tokenize_examples(examples, make_tokenizer("llama2"), "plain", True, 64)
    assert (split.num_naming_special, len(split.examples)) == (2, 3)
