"""What a trial's style cannot write or its length cuts off is skipped up to a share of all examples, and named."""

from typing import Any

import pytest

from sweeplab.config.data import TextData
from sweeplab.data.prompts import Example
from sweeplab.data.tokenized import TokenizedSplits, tokenize_splits
from sweeplab.models.base import Base
from sweeplab.runtime.errors import ConfigError
from tests.trials import Compose

CALL = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}


def make_examples(count: int, begin: int = 1) -> list[Example]:
    examples = []
    for number in range(begin, begin + count):
        messages: list[dict[str, Any]] = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        examples.append(Example(messages))
        examples[-1].where = f"FILE, line {number}"
    return examples


def lengthen(example: Example) -> None:
    example.messages[0]["content"] = "a" * 60


def make_unusable(example: Example) -> None:
    example.messages[1] = CALL


@pytest.fixture
def data(compose_trial: Compose, tmp_path: Any) -> TextData:
    path = tmp_path / "a.json"
    path.write_text("[]")
    data = compose_trial("data=json", f"data.path={path}", "data.style=plain", "data.max_skipped=0.1").data
    assert isinstance(data, TextData)
    return data


@pytest.fixture
def tokenize(embedded_base: Base) -> Any:
    def make(train: list[Example], heldout: list[Example], data: TextData) -> TokenizedSplits:
        return tokenize_splits(train, heldout, embedded_base.tokenizer, data, 40)

    return make


def test_what_is_cut_or_cannot_be_written_is_skipped_up_to_the_share_of_both_parts(
    data: TextData, tokenize: Any
) -> None:
    """Two of ten held-out examples are many, two of twenty in all are not more than a tenth."""
    train, heldout = make_examples(10), make_examples(10, 11)
    lengthen(heldout[2])
    make_unusable(heldout[4])
    found = tokenize(train, heldout, data)
    assert (len(found.train.examples), len(found.heldout.examples)) == (10, 8)
    assert (found.num_unusable, found.train.num_dropped, found.heldout.num_dropped) == (1, 0, 1)
    assert found.skipping == (
        "skipped 1 example that cannot be written (FILE, line 15): data.style=plain has no words for tools and "
        "tool_calls; choose template, or remove them",
        "skipped 1 example whose whole response training.max_length=40 cuts off (FILE, line 13)",
    )
    lengthen(train[0])
    message = (
        r"^data\.max_skipped=0\.1 is the share of records that may teach nothing, got 0\.15: skipped 1 .*; skipped "
        r"2 examples .* \(FILE, line 1; FILE, line 13\); raise training\.max_length or data\.max_skipped$"
    )
    with pytest.raises(ConfigError, match=message):
        tokenize(train, heldout, data)


def test_more_that_cannot_be_written_are_refused_with_the_reason(data: TextData, tokenize: Any) -> None:
    train = make_examples(19)
    for example in train[3:6]:
        make_unusable(example)
    with pytest.raises(ConfigError, match=r"^data\.style=plain has no words .* \(3 of 20 examples: FILE, line 4;"):
        tokenize(train, make_examples(1, 20), data)


def test_without_a_file_any_number_is_cut_and_none_may_fail(compose_trial: Compose, tokenize: Any) -> None:
    world, train = compose_trial().data, make_examples(4)
    assert isinstance(world, TextData)
    for example in train[1:]:
        lengthen(example)
    found = tokenize(train, make_examples(4), world)
    assert (found.train.num_dropped, found.skipping) == (3, ())
    make_unusable(train[0])
    with pytest.raises(ConfigError, match=r"\(1 of 8 examples: FILE, line 1\)$"):
        tokenize(train, make_examples(4), world)


def test_a_part_of_which_nothing_is_left_is_refused(data: TextData, tokenize: Any) -> None:
    train, heldout = make_examples(99), make_examples(1)
    lengthen(heldout[0])
    with pytest.raises(ConfigError, match=r"training\.max_length=40 cuts off every response; raise it"):
        tokenize(train, heldout, data)
    make_unusable(heldout[0])
    with pytest.raises(ConfigError, match=r"\(1 of 100 examples: FILE, line 1\)$"):
        tokenize(train, heldout, data)
    assert tokenize(train, [], data).heldout.examples == []
