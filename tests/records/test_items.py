"""Results item by item: read from the trials' files, made small beside a report, and back."""

import json
from base64 import b64decode
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweeplab.records.items import (
    ItemTable,
    items_from_dict,
    items_to_dict,
    make_loss_row,
    read_items,
    read_trial_items,
)
from sweeplab.records.store import StoreError, trial_folder, write_json_lines

METRIC = "scores.new.acc"


def hits(trial: int) -> list[float]:
    return [float(draw < 0.4 + trial / 10) for draw in np.random.default_rng(trial).random(20)]


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """The items of four trials, 20 each, by two filters."""
    for trial in range(4):
        rows: list[dict[str, Any]] = [
            {"task": "new", "item": item, "filter": name, "target": "t", "responses": [], "metrics": {"acc": hit}}
            for item, hit in enumerate(hits(trial))
            for name in ("none", "strict")
        ]
        write_json_lines(trial_folder(tmp_path, trial) / "items.jsonl", rows)
    return tmp_path


@pytest.mark.parametrize("counts", [[3], [3, -1], [0, 0], [3, 10**20], 7])
def test_losses_of_an_impossible_number_of_targets_are_a_damaged_file(tmp_path: Path, counts: Any) -> None:
    path = tmp_path / "items.jsonl"
    write_json_lines(path, [make_loss_row([1.0, 2.0], [1, 1]) | {"counts": counts}])
    with pytest.raises(StoreError, match="cannot be read"):
        read_trial_items(path)


def test_items_are_read_by_metric_and_trial(study: Path) -> None:
    found = read_items(study)
    assert sorted(found) == [METRIC, "scores.new.acc@strict"]
    assert found[METRIC].items == list(range(20))
    assert found[METRIC].values == {trial: hits(trial) for trial in range(4)}


def test_a_trial_with_other_items_is_left_out_and_a_damaged_file_is_named(study: Path) -> None:
    path = trial_folder(study, 3) / "items.jsonl"
    path.write_text("\n".join(path.read_text().splitlines()[:-2]))
    assert sorted(read_items(study)[METRIC].values) == [0, 1, 2]
    path.write_text("{}\n")
    with pytest.raises(StoreError, match=r"00003/items.jsonl cannot be read: KeyError"):
        read_items(study)


def test_small_items_come_back_as_they_were() -> None:
    tables = {"a": ItemTable([0, 1, 2], {0: [1.0, 0.0, 1.0]}), "b": ItemTable([5, 7], {10: [0.25, 1.0], 2: [0.0, 1.0]})}
    stored = items_to_dict(tables)
    assert stored["a"] == {"items": 3, "trials": {"0": "101"}}
    assert stored["b"]["items"] == "5 7"
    assert items_from_dict({"b": stored["b"] | {"items": [5, 7]}})["b"] == tables["b"]  # as earlier versions have them
    assert items_from_dict(json.loads(json.dumps(stored))) == tables
    with pytest.raises(ValueError, match="malformed"):
        items_from_dict({"a": {"items": 3}})


def test_the_items_of_a_group_are_those_of_its_tasks(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"task": task, "item": item, "filter": "none", "metrics": {"acc": value}, "inputs": {"f1": "(1, 0)"}}
        for task, values in (("old", [1.0, 0.0]), ("new", [0.0, 0.0, 1.0]))
        for item, value in enumerate(values)
    ]
    groups = [
        {"group": name, "metric": "acc", "filter": "none", "tasks": tasks}
        for name, tasks in (("both", ["new", "old"]), ("unknown", ["new", "other"]))
    ]
    write_json_lines(trial_folder(tmp_path, 0) / "items.jsonl", rows + groups)
    tables = read_items(tmp_path)
    assert sorted(tables) == ["scores.both.acc", METRIC, "scores.old.acc"]
    assert tables["scores.both.acc"] == ItemTable([0, 1, 2, 3, 4], {0: [0.0, 0.0, 1.0, 1.0, 0.0]})
    assert sorted(read_trial_items(trial_folder(tmp_path, 0) / "items.jsonl")) == [METRIC, "scores.old.acc"]


def test_losses_and_perplexities_are_read_with_what_they_are_sums_over(tmp_path: Path) -> None:
    """Nats and targets of the held-out loss, log-likelihoods with words and bytes of lm-eval's ratios."""
    inputs = [{"perplexity": -2.5, "word_perplexity": "(-2.5, 4)", "bits_per_byte": "(-2.5, 16)", "f1": "(1, 2)"}] * 2
    rows = [make_loss_row([1.5, 2.0], [3, 1])] + [
        {"task": "t", "item": item, "filter": "none", "metrics": {}, "inputs": one} for item, one in enumerate(inputs)
    ]
    for trial in (0, 1):
        write_json_lines(trial_folder(tmp_path, trial) / "items.jsonl", rows)
    write_json_lines(trial_folder(tmp_path, 2) / "items.jsonl", [make_loss_row([1.5, 2.0], [3, 2])])  # other text
    tables = read_items(tmp_path)
    assert tables == {
        "heldout_loss_nats_per_token": ItemTable([0, 1], {0: [1.5, 2.0], 1: [1.5, 2.0]}, [3, 1]),
        "scores.t.perplexity": ItemTable([0, 1], {0: [2.5, 2.5], 1: [2.5, 2.5]}, is_log=True),
        "scores.t.word_perplexity": ItemTable([0, 1], {0: [2.5, 2.5], 1: [2.5, 2.5]}, [4, 4], is_log=True),
        "scores.t.bits_per_byte": ItemTable([0, 1], {trial: [2.5 / np.log(2)] * 2 for trial in (0, 1)}, [16, 16]),
    }
    assert read_trial_items(trial_folder(tmp_path, 0) / "items.jsonl") == {}


def test_clusters_are_read_and_those_of_a_group_lie_within_its_tasks(tmp_path: Path) -> None:
    """An item without a cluster is one by itself."""
    rows: list[dict[str, Any]] = [
        {"task": task, "item": item, "filter": "none", "metrics": {"acc": 1.0}}
        | ({} if one is None else {"cluster": one})
        for task, clusters in (("old", [0, 1, 0]), ("new", [0, 0]), ("plain", [None, None]))
        for item, one in enumerate(clusters)
    ]
    group = {"group": "all", "metric": "acc", "filter": "none", "tasks": ["old", "new", "plain"]}
    write_json_lines(trial_folder(tmp_path, 0) / "items.jsonl", [*rows, group])
    tables = read_items(tmp_path)
    assert {name: table.clusters for name, table in tables.items()} == {
        "scores.old.acc": [0, 1, 0],
        METRIC: [0, 0],
        "scores.plain.acc": None,
        "scores.all.acc": [0, 1, 0, 2, 2, 3, 4],
    }
    assert items_from_dict(json.loads(json.dumps(items_to_dict(tables)))) == tables
    stored = items_to_dict(tables)["scores.old.acc"]
    assert stored["clusters"] == "0 1 0"
    for broken in ("0 1", "0 2 0", "-1 0 0", [0, 2, 0]):
        with pytest.raises(ValueError, match="malformed"):
            items_from_dict({"a": stored | {"clusters": broken}})


def test_sums_in_32_bits_take_four_bytes_each_and_come_back_exactly() -> None:
    single = np.random.default_rng(0).exponential(30.0, 300).astype(np.float32).astype(float).tolist()
    double = [value / 3 for value in single]
    tables = {"loss": ItemTable(list(range(300)), {0: single, 1: double}, [7] * 300)}
    stored = items_to_dict(tables)
    assert len(stored["loss"]["trials"]["0"]) == 4 * 300 * 4 / 3
    assert np.array_equal(np.frombuffer(b64decode(stored["loss"]["trials"]["0"]), "<f4"), np.float32(single))
    assert items_from_dict(json.loads(json.dumps(stored))) == tables
    for counts in ("7 " * 299 + "-1", "7 " * 299 + str(2**31), "0 " * 300, "7"):
        with pytest.raises(ValueError, match=r"^counts are from 0 to|another number$"):
            items_from_dict({"loss": stored["loss"] | {"counts": counts}})
    for broken in ("AAA=", "AAAA", "?"):
        with pytest.raises(ValueError, match=r"malformed|base64|ncorrect padding|non-base64"):
            items_from_dict({"loss": stored["loss"] | {"trials": {"0": broken}}})


def test_a_response_may_hold_a_separator_of_lines(tmp_path: Path) -> None:
    row = {"task": "t", "item": 3, "filter": "none", "responses": ["a\u2028b\u0085c"], "metrics": {"acc": 1.0}}
    write_json_lines(tmp_path / "items.jsonl", [row, row | {"item": 4}])
    assert read_trial_items(tmp_path / "items.jsonl") == {"scores.t.acc": {3: 1.0, 4: 1.0}}
