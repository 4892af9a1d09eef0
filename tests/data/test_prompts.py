from typing import Any

import pytest
from transformers import PreTrainedTokenizerBase

from sweeplab.data.prompts import Example, render_prompt
from sweeplab.data.tokens import _render_example
from sweeplab.models.base import Base
from sweeplab.runtime.errors import ConfigError

# Word for word from tatsu-lab/stanford_alpaca, train.py, PROMPT_DICT.
ALPACA_INPUT = """\
Below is an instruction that describes a task, paired with an input that provides further context. \
Write a response that appropriately completes the request.

### Instruction:
Sort the numbers.

### Input:
3, 1, {2}

### Response:
"""
ALPACA_NO_INPUT = """\
Below is an instruction that describes a task. Write a response that appropriately completes the request.

### Instruction:
Say {hello}.

### Response:
"""
CHATML = """\
<|im_start|>system
Be brief.<|im_end|>
<|im_start|>user
Hi<|im_end|>
<|im_start|>assistant
Hello.<|im_end|>
<|im_start|>user
Add.

1 and 2<|im_end|>
<|im_start|>assistant
"""
TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }};{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


def question(instruction: str, given: str = "") -> Example:
    return Example([{"role": "user", "content": instruction}, {"role": "assistant", "content": "answer"}], given)


def conversation() -> Example:
    turns = (("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello."), ("user", "Add."), ("assistant", "3"))
    return Example([{"role": role, "content": content} for role, content in turns], "1 and 2")


@pytest.mark.parametrize(
    ("example", "style", "expected"),
    [
        (question("Say {hello}."), "plain", "Say {hello}.\n"),
        (question("Reverse the word.", "bada"), "plain", "Reverse the word.\nbada\n"),
        (question("Say {hello}."), "alpaca", ALPACA_NO_INPUT),
        (question("Sort the numbers.", "3, 1, {2}"), "alpaca", ALPACA_INPUT),
        (conversation(), "chatml", CHATML),
        (question("Hi", "x"), "chatml", "<|im_start|>user\nHi\n\nx<|im_end|>\n<|im_start|>assistant\n"),
    ],
)
def test_styles_word_for_word(example: Example, style: str, expected: str) -> None:
    assert render_prompt(example, style) == expected


@pytest.fixture
def templated(embedded_base: Base) -> PreTrainedTokenizerBase:
    from copy import deepcopy

    tokenizer: PreTrainedTokenizerBase = deepcopy(embedded_base.tokenizer)
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def test_template_is_the_tokenizers_own(templated: Any) -> None:
    expected = "[system]Be brief.;[user]Hi;[assistant]Hello.;[user]Add.\n\n1 and 2;[assistant]"
    rendering = _render_example(conversation(), "template", templated)
    (answer,) = rendering.targets
    assert rendering.text[: answer.start] == expected
    assert rendering.text[answer.start :] == "3;"


def test_template_needs_one(embedded_base: Base) -> None:
    with pytest.raises(ConfigError, match=r"data.style=template needs a tokenizer with a chat template.*try chatml"):
        _render_example(question("Hi"), "template", embedded_base.tokenizer)


@pytest.mark.parametrize("style", ["plain", "alpaca"])
def test_single_question_styles_refuse_conversations(style: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"^data\.style={style} writes one question and .*; write data\.style=template, the "
    ):
        render_prompt(conversation(), style)
