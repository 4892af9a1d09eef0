"""Examples, and how each style turns an example into a prompt; the response follows it and is learned."""

from typing import Any, Final, NamedTuple

from jinja2 import TemplateError

from sweeplab.runtime.errors import ConfigError, describe_error

_ALPACA_WITH_INPUT: Final = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"
)
_ALPACA_WITHOUT_INPUT: Final = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:\n"
)


class Example(NamedTuple):
    """A conversation that ends with a message of the assistant, the response."""

    messages: list[dict[str, str]]  # role (system, user or assistant) and content
    input_text: str = ""  # the field `input` of an instruction record

    @property
    def response(self) -> str:
        return self.messages[-1]["content"]


def _read_instruction(example: Example) -> str:
    """The single user message of an instruction record. Raises `ConfigError` for a longer conversation."""
    if len(example.messages) != 2 or example.messages[0]["role"] != "user":
        raise ConfigError("data.style must be chatml or template for chat messages; plain and alpaca take one question")
    return example.messages[0]["content"]


def _render_chatml(messages: list[dict[str, str]]) -> str:
    turns = [f"<|im_start|>{message['role']}\n{message['content']}<|im_end|>\n" for message in messages]
    return "".join(turns) + "<|im_start|>assistant\n"


def _add_input(example: Example) -> list[dict[str, str]]:
    """The conversation before the response, with the input of a record below its instruction."""
    *before, last = example.messages[:-1]
    content = f"{last['content']}\n\n{example.input_text}" if example.input_text else last["content"]
    return [*before, {"role": last["role"], "content": content}]


def render_prompt(example: Example, style: str, tokenizer: Any) -> str:
    """The prompt of `example`; the response follows it directly.

    Styles: plain, instruction and input on a line each; alpaca, the wording of Stanford Alpaca; chatml, OpenAI's
    markup; template, the chat template of `tokenizer`. Raises `ConfigError` where the style does not fit.
    """
    if style == "plain":
        parts = (_read_instruction(example), example.input_text)
        return "".join(f"{part}\n" for part in parts if part)
    if style == "alpaca":
        wording = _ALPACA_WITH_INPUT if example.input_text else _ALPACA_WITHOUT_INPUT
        return wording.format(instruction=_read_instruction(example), input=example.input_text)
    if style == "chatml":
        return _render_chatml(_add_input(example))
    if tokenizer.chat_template is None:
        raise ConfigError("data.style=template needs a tokenizer with a chat template, got one without; try chatml")
    try:
        prompt: str = tokenizer.apply_chat_template(_add_input(example), tokenize=False, add_generation_prompt=True)
    except TemplateError as error:  # templates run in jinja2's sandbox; many raise for roles that they do not know
        reason = describe_error(error)
        raise ConfigError(
            f"data.style=template: the tokenizer's chat template refuses the messages: {reason}; try chatml"
        ) from error
    return prompt
