from copy import deepcopy
from typing import Any

import pytest
from tokenizers.processors import TemplateProcessing

from sweeplab.data.prompts import Example, render_prompt
from sweeplab.data.tokens import IGNORED, _encode_example, tokenize_examples
from sweeplab.models.base import Base
from sweeplab.runtime.errors import ConfigError

EOS = 1


def question(instruction: str, response: str) -> Example:
    return Example([{"role": "user", "content": instruction}, {"role": "assistant", "content": response}])


def characters(tokenizer: Any, text: str) -> list[int]:
    """Ids by the vocabulary alone: the embedded tokenizer has one token per character."""
    vocabulary = tokenizer.get_vocab()
    return [vocabulary[character] for character in text]


@pytest.mark.parametrize("style", ["plain", "alpaca", "chatml"])
def test_mask_ends_exactly_where_the_response_begins(embedded_base: Base, style: str) -> None:
    tokenizer = embedded_base.tokenizer
    example = question("Where does Ann live?", "Boville")
    prompt = characters(tokenizer, render_prompt(example, style))
    response = [*characters(tokenizer, "Boville"), EOS]
    tokens = _encode_example(example, tokenizer, style, mask_prompt=True)
    assert tokens.ids.tolist() == prompt + response
    assert tokens.labels.tolist() == [IGNORED] * len(prompt) + response
    assert tokens.num_targets == len("Boville") + 1


def test_a_text_longer_than_the_model_reads_is_encoded_quietly(
    embedded_base: Base, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    text = "a" * (embedded_base.tokenizer.model_max_length + 1)
    tokens = _encode_example(question(text, text), deepcopy(embedded_base.tokenizer), "plain", mask_prompt=True)
    assert tokens.ids[-len(text) - 1 : -1].tolist() == characters(embedded_base.tokenizer, text)
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


def test_unmasked_prompt_counts_all_but_the_first_token(embedded_base: Base) -> None:
    tokens = _encode_example(question("Hi?", "Yes"), embedded_base.tokenizer, "plain", mask_prompt=False)
    assert tokens.labels.tolist() == tokens.ids.tolist() == [*characters(embedded_base.tokenizer, "Hi?\nYes"), EOS]
    assert tokens.num_targets == len("Hi?\nYes")


@pytest.fixture
def wrapping(embedded_base: Base) -> Any:
    """A tokenizer that puts a token before and its end token after every text, as T5's and some Llamas' do."""
    tokenizer: Any = deepcopy(embedded_base.tokenizer)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<unk> $A <eos>", special_tokens=[("<unk>", 2), ("<eos>", EOS)]
    )
    tokenizer.chat_template = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    assert tokenizer.encode("a")[0] == 2
    assert tokenizer.encode("a")[-1] == EOS
    return tokenizer


def test_special_tokens_stand_once_and_none_between_prompt_and_response(wrapping: Any) -> None:
    plain = characters(wrapping, "Hi?\n")
    response = [*characters(wrapping, "Yes"), EOS]
    assert _encode_example(question("Hi?", "Yes"), wrapping, "plain", True).ids.tolist() == [2, *plain, *response]
    templated = characters(wrapping, "[user]Hi?[assistant]Yes")  # which writes no end, so that none is learned
    assert _encode_example(question("Hi?", "Yes"), wrapping, "template", True).ids.tolist() == templated


def test_truncation_counts_by_hand(embedded_base: Base) -> None:
    # prompts of 4 tokens; responses with their end token of 2, 4, 5 and 7: 6, 8, 9 and 11 in all
    examples = [question("Hi?", "y" * length) for length in (1, 3, 4, 6)]
    split = tokenize_examples(examples, embedded_base.tokenizer, "plain", True, max_length=8)
    assert [len(tokens.ids) for tokens in split.examples] == [6, 8, 8, 8]
    assert [tokens.num_targets for tokens in split.examples] == [2, 4, 4, 4]
    assert (split.num_truncated, split.num_dropped) == (2, 0)
    assert [tokens.ids[-1] == EOS for tokens in split.examples] == [True, True, False, False]


def test_examples_cut_before_their_response_are_dropped(embedded_base: Base) -> None:
    examples = [question("Hi?", "yes"), question("A longer question?", "no")]
    split = tokenize_examples(examples, embedded_base.tokenizer, "plain", True, max_length=5)
    assert [tokens.ids.tolist() for tokens in split.examples] == [characters(embedded_base.tokenizer, "Hi?\ny")]
    assert (split.num_truncated, split.num_dropped) == (2, 1)


def test_nothing_left_to_learn_is_refused_with_the_length_that_would_do(embedded_base: Base) -> None:
    with pytest.raises(ConfigError, match=r"training.max_length=4 cuts off every response; raise it .* has 8\)"):
        tokenize_examples([question("Hi?", "yes")], embedded_base.tokenizer, "plain", True, max_length=4)
