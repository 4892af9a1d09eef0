"""A chat template that lm-eval would use in another way than asked is refused."""

import pytest

from sweeplab.evaluation.harness import _refuse_template
from sweeplab.runtime.errors import ConfigError
from tests.data.families import FAMILIES, make_tokenizer


@pytest.mark.parametrize("name", FAMILIES)
def test_an_instruction_that_the_template_does_not_write_is_refused(name: str) -> None:
    tokenizer = make_tokenizer(name)
    _refuse_template(tokenizer, None)
    if FAMILIES[name].takes_system:
        _refuse_template(tokenizer, "Answer in few words.\n")
        return
    with pytest.raises(
        ConfigError, match=r"refuses the messages: no system role; leave evaluation.system_instruction n"
    ):
        _refuse_template(tokenizer, "Answer in few words.")


def test_an_instruction_that_is_left_out_is_refused() -> None:
    template = "{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}"
    with pytest.raises(ConfigError, match=r"chat template leaves out evaluation.system_instruction; leave"):
        _refuse_template(make_tokenizer("chatml", template=template), "Answer in few words.")
    with pytest.raises(ConfigError, match=r"refuses the messages: .*; use false$"):
        _refuse_template(make_tokenizer("chatml", template="{{ messages[0].content + 1 }}"), None)
