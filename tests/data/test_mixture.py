"""Shares and mixtures: exact counts, nothing twice, a smaller one within a larger one."""

import json
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeplab.config.data import DataPart, MixtureData
from sweeplab.config.parse import trial_config_from_dict
from sweeplab.config.trial import TrialConfig
from sweeplab.data.mixture import _mix_by_weight
from sweeplab.data.prompts import Example
from sweeplab.data.sources import load_splits
from sweeplab.runtime.errors import ConfigError

Mix = Callable[..., MixtureData]


def pool(name: str, count: int) -> list[Example]:
    return [Example([], f"{name}{place}") for place in range(count)]


def origins(examples: list[Example]) -> Counter[str]:
    return Counter(one.input_text[0] for one in examples)


@pytest.mark.parametrize(
    ("sizes", "weights", "counts"),
    [
        ((30, 100), (3, 1), (30, 10)),
        ((300, 10), (3, 1), (30, 10)),
        ((40, 40), (1, 1), (40, 40)),
        ((9, 100), (0.1, 0.2), (9, 18)),
        ((50, 50, 50), (5, 3, 2), (50, 30, 20)),
        ((7, 100), (2, 3), (7, 11)),  # 10.5 is the share
        ((1, 1), (1, 1), (1, 1)),
    ],
)
def test_as_many_as_the_weights_allow(sizes: Any, weights: Any, counts: Any) -> None:
    pools = [pool(name, size) for name, size in zip("abc", sizes, strict=False)]
    found = origins(_mix_by_weight(pools, weights))
    assert tuple(found[name] for name in "abc"[: len(sizes)]) == counts


WEIGHTS = st.lists(st.integers(1, 6), min_size=2, max_size=4)


@given(WEIGHTS, st.data())
def test_every_beginning_has_the_proportions_and_nothing_comes_twice(weights: list[int], data: Any) -> None:
    sizes = [data.draw(st.integers(1, 40)) for _ in weights]
    order = _mix_by_weight([pool(chr(97 + place), size) for place, size in enumerate(sizes)], weights)
    assert len(set(map(str, order))) == len(order)
    whole = sum(weights)
    for rounds in range(1, len(order) // whole + 1):
        found = origins(order[: rounds * whole])
        assert [found[chr(97 + place)] for place in range(len(weights))] == [rounds * weight for weight in weights]
    for end in range(1, len(order) + 1):
        found = origins(order[:end])
        for place, weight in enumerate(weights):
            assert abs(found[chr(97 + place)] - Fraction(end * weight, whole)) < 2
    used = origins(order)
    scale = min(Fraction(size, weight) for size, weight in zip(sizes, weights, strict=True))
    assert all(abs(used[chr(97 + place)] - weight * scale) <= Fraction(1, 2) for place, weight in enumerate(weights))


@pytest.fixture
def mix(compose_trial: Any, tmp_path: Path) -> Mix:
    """`data=mixture` of a.json, 40 records, weight 3, and b.jsonl, 100 records, weight 1."""
    rows = {
        name: [{"instruction": f"{name} {place}?", "output": "x"} for place in range(count)]
        for name, count in (("a", 40), ("b", 100))
    }
    (tmp_path / "a.json").write_text(json.dumps(rows["a"]))
    (tmp_path / "b.jsonl").write_text("\n".join(map(json.dumps, rows["b"])))
    parts = f"data.parts=[{{path: {tmp_path}/a.json, weight: 3}}, {{path: {tmp_path}/b.jsonl, weight: 1}}]"

    def make(*overrides: str) -> MixtureData:
        config: TrialConfig = compose_trial(
            "data=mixture", *([] if "data.parts" in str(overrides) else [parts]), *overrides
        )
        assert isinstance(config.data, MixtureData)
        return config.data

    return make


def files(examples: list[Example]) -> Counter[str]:
    return Counter(one.messages[0]["content"][0] for one in examples)


def test_each_part_sets_its_own_share_aside(mix: Mix) -> None:
    splits = load_splits(mix("data.heldout_fraction=0.25"))
    assert files(splits.heldout) == {"a": 10, "b": 25}
    assert files(splits.train) == {"a": 30, "b": 10}
    assert not {str(one) for one in splits.heldout} & {str(one) for one in splits.train}


@pytest.mark.parametrize(("count", "counts"), [(4, (3, 1)), (20, (15, 5)), (48, (36, 12)), (47, (35, 12)), (2, (2, 0))])
def test_num_examples_keeps_the_proportions(mix: Mix, count: int, counts: tuple[int, int]) -> None:
    found = files(load_splits(mix(f"data.num_examples={count}")).train)
    assert (found["a"], found["b"]) == counts


def test_more_than_the_weights_allow_is_refused(mix: Mix) -> None:
    with pytest.raises(
        ConfigError, match=r"data\.num_examples must be at most 48 .*, got 49 .*a\.json has 36, .*b\.jsonl has 90"
    ):
        load_splits(mix("data.num_examples=49"))


def test_a_tiny_weight_may_come_to_no_example(mix: Mix) -> None:
    data = mix()
    parts = [data.parts[0].replaced(weight=1e-9), data.parts[1].replaced(weight=1.0)]
    assert files(load_splits(data.replaced(parts=parts)).train) == {"b": 90}


def test_a_mixture_comes_back_from_its_record(compose_trial: Any, mix: Mix) -> None:

    config = compose_trial().replaced(data=mix())
    assert config.data.parts[0] == DataPart(path=config.data.parts[0].path, weight=3.0)
    assert trial_config_from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.parts=[]", r"data\.parts must name at least two files, got 0; give data\.parts="),
        (
            "data.parts=[{path: no.json, weight: 1}, {path: A, weight: 1}]",
            r"data\.parts\[0\]\.path must be a file, got no\.json",
        ),
        ("data.parts=[{path: A, weight: 1}, {path: A, weight: 1}]", r"data\.parts names a file twice"),
        (
            "data.parts=[{path: A, weight: 1}, {path: B, weight: 0}]",
            r"data\.parts\[1\]\.weight must be a number above 0, got 0",
        ),
        ("data.heldout_path=A", r"data\.heldout_path has no effect with data=mixture"),
        ("data.source=json", r"data\.parts has no effect with data=json"),
        ("data.fraction=0", r"data\.fraction must be above 0 and at most 1, got 0"),
        ("data.fraction=1.5", r"data\.fraction must be above 0 and at most 1, got 1\.5"),
        ("data.fraction=nan", r"data\.fraction must be above 0 and at most 1, got nan"),
    ],
)
def test_mistakes_in_one_line(mix: Mix, tmp_path: Path, override: str, message: str) -> None:
    said = (
        override.replace(" A", f" {tmp_path}/a.json")
        .replace("=A", f"={tmp_path}/a.json")
        .replace(" B", f" {tmp_path}/b.jsonl")
    )
    with pytest.raises(ConfigError, match=message) as mistake:
        mix(said)
    assert "\n" not in str(mistake.value)


def test_fraction_and_num_examples_contradict_each_other(mix: Mix) -> None:
    with pytest.raises(ConfigError, match=r"data\.fraction=0\.5 and data\.num_examples=4 both say how many"):
        mix("data.fraction=0.5", "data.num_examples=4")


@pytest.mark.parametrize("overrides", [("data=tiny_facts",), ()], ids=["world", "mixture"])
def test_fractions_are_nested_and_seeded(mix: Mix, compose_trial: Any, overrides: tuple[str, ...]) -> None:
    def train(fraction: float | None) -> list[Example]:
        data = compose_trial(*overrides).data if overrides else mix()
        return load_splits(data.replaced(fraction=fraction)).train

    whole = train(None)
    chosen = [train(fraction) for fraction in (1e-6, 0.1, 0.25, 0.5, 1.0)]
    sizes = [max(1, round(fraction * len(whole))) for fraction in (1e-6, 0.1, 0.25, 0.5, 1.0)]
    assert [len(one) for one in chosen] == sizes
    for smaller, larger in pairwise(chosen):
        assert not Counter(map(str, smaller)) - Counter(map(str, larger))
    assert Counter(map(str, chosen[-1])) == Counter(map(str, whole))
    assert train(0.25) == chosen[2]
    assert load_splits(mix()).heldout == load_splits(mix().replaced(fraction=0.1)).heldout


def test_a_fraction_is_no_beginning_of_the_file(compose_trial: Any) -> None:
    data = compose_trial("data=tiny_facts").data
    whole, half = (load_splits(data.replaced(fraction=fraction)).train for fraction in (None, 0.5))
    assert half != whole[: len(half)]


def test_a_fraction_of_a_mixture_keeps_the_proportions(mix: Mix) -> None:
    assert files(load_splits(mix().replaced(fraction=0.5)).train) == {"a": 18, "b": 6}
