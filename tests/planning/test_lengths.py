"""Lengths: measured where data and tokenizer are here, an upper bound elsewhere."""

import json
from pathlib import Path
from typing import Any

import pytest

from sweeplab.builtin import world
from sweeplab.planning import lengths
from sweeplab.planning.lengths import DataExtent, measure_data_extent
from sweeplab.runtime.errors import ConfigError
from tests.trials import Compose


def test_the_small_world_is_measured_in_characters(compose_trial: Compose) -> None:
    rows = world.make_target_examples("new_facts")
    num_tokens = [len(row["instruction"]) + len(row["output"]) + 2 for row in rows]  # a line's end, and the text's
    extent = measure_data_extent(compose_trial())
    assert extent.measured
    assert extent.num_examples == len(rows)
    assert extent.longest == pytest.approx(max(num_tokens), abs=2)
    assert extent.mean == pytest.approx(sum(num_tokens) / len(rows), abs=2)
    assert extent.most_targets == max(len(row["output"]) for row in rows) + 1
    num_targets = sum(len(row["output"]) + 1 for row in rows)
    assert extent.target_share == pytest.approx(num_targets / (extent.mean * len(rows)))


def test_max_length_cuts(compose_trial: Compose) -> None:
    whole = measure_data_extent(compose_trial("data.mask_prompt=false"))
    cut = measure_data_extent(compose_trial("data.mask_prompt=false", "training.max_length=20"))
    assert (cut.longest, cut.mean, cut.most_targets) == (20, 20, 19)
    assert whole.longest > 20
    assert (whole.num_truncated, cut.num_truncated) == (0, whole.num_examples)


def test_special_names_are_counted_and_heldout_records_are_rendered_too(compose_trial: Compose, tmp_path: Path) -> None:
    path, heldout = tmp_path / "data.json", tmp_path / "heldout.json"
    row = {"instruction": "a", "output": "b"}
    path.write_text(json.dumps([row, {**row, "output": "b<eos>"}]))
    heldout.write_text(json.dumps([row, row]))
    options = ("data=json", f"data.path={path}", f"data.heldout_path={heldout}", "data.style=chatml")
    assert measure_data_extent(compose_trial(*options)).num_naming_special == 1
    call = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}
    chats: list[dict[str, Any]] = [
        {"messages": [{"role": "user", "content": "a"}, end]} for end in ({"role": "assistant", "content": "b"}, call)
    ]
    path.write_text(json.dumps([chats[0]] * 2))
    heldout.write_text(json.dumps([*chats, *[chats[0]] * 8, *[chats[1]] * 9]))
    first = r"\(10 of 21 examples: \S*heldout.json, record 2; \S*heldout.json, record 11; .*, record 12 and 7 more\)$"
    with pytest.raises(ConfigError, match=r"style=chatml has no words .*" + first):
        measure_data_extent(compose_trial(*options, "data.messages_field=messages"))


def test_a_tokenizer_of_the_hub_leaves_the_bound_and_the_number_of_examples(
    compose_trial: Compose, tmp_path: Path
) -> None:
    path = tmp_path / "data.json"
    path.write_text(json.dumps([{"instruction": f"a{place}", "output": "b"} for place in range(20)]))
    config = compose_trial("model=llama2_7b", "data=json", f"data.path={path}", "training.max_length=300")
    assert measure_data_extent(config) == DataExtent(
        18,
        300,
        300,
        299,
        None,
        False,
        num_heldout=2,
        num_skipped=0,
        notes=(f"read {path} as Alpaca: instruction, output",),
    )


@pytest.mark.parametrize("model", [(), ("model=llama2_7b",)], ids=["embedded", "hub"])
def test_records_that_teach_nothing_are_counted_with_and_without_a_tokenizer(
    model: tuple[str, ...], compose_trial: Compose, tmp_path: Path
) -> None:
    path = tmp_path / "data.json"
    rows = [{"instruction": f"a{place}", "output": "" if place == 3 else "b"} for place in range(20)]
    path.write_text(json.dumps(rows))
    config = compose_trial(*model, "data=json", f"data.path={path}", "data.max_skipped=0.05")
    extent = measure_data_extent(config)
    assert (extent.num_examples, extent.num_skipped) == (17, 1)
    assert extent.notes[1] == (
        f"skipped 1 of 20 records of {path}, which teach nothing (record 4: field 'output' is empty)"
    )


def test_data_of_the_hub_is_not_looked_at(compose_trial: Compose) -> None:
    assert measure_data_extent(compose_trial("data=alpaca")) == DataExtent(None, 256, 256, 255, None, measured=False)


def test_a_large_file_is_not_tokenized(compose_trial: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lengths, "_MOST_EXAMPLES", 3)
    extent = measure_data_extent(compose_trial("data.num_examples=4"))
    assert (extent.num_examples, extent.longest, extent.measured) == (4, 256, False)
