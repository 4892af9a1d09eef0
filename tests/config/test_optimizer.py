"""The table of arguments against the classes themselves, and what is refused from it."""

import inspect

import pytest
from hydra.utils import get_class

from sweeplab.config.conf import CONF
from sweeplab.config.optimizer import OPTIMIZERS
from sweeplab.config.parse import parse_section
from sweeplab.config.schema import key_names
from sweeplab.runtime.errors import ConfigError


@pytest.mark.parametrize("target", OPTIMIZERS)
def test_the_table_is_the_class_own_signature(target: str) -> None:
    assert key_names(OPTIMIZERS[target]).keys() - {"_target_"} == inspect.signature(
        get_class(target)
    ).parameters.keys() - {"params"}


def test_every_optimizer_of_conf_is_in_the_table() -> None:
    texts = [path.read_text() for path in (CONF / "optimizer").glob("*.yaml")]
    said = {line.split()[1] for text in texts for line in text.splitlines() if line.startswith("_target_: ")}
    assert said == set(OPTIMIZERS)


def test_an_argument_of_another_optimizer_is_named_with_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match=r"^optimizer\.betas is no argument of torch\.optim\.SGD, which takes lr, m"):
        parse_section("optimizer", {"_target_": "torch.optim.SGD", "lr": 0.1, "betas": [0.9, 0.99]})
    parse_section("optimizer", {"_target_": "torch.optim.RAdam", "lr": 0.1, "anything": 1})  # torch itself will say
