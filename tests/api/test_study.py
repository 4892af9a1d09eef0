"""Data frames against the records they come from, intervals against SciPy's, an adapter against what was trained."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from peft import PeftModel
from scipy import stats

from sweeplab import open_study
from sweeplab.adapters.merging import compute_probe_logits, find_largest_difference
from sweeplab.models.base import load_base
from sweeplab.records.record import Status, TrialRecord
from sweeplab.records.store import StoreError, trial_folder, write_json, write_record
from sweeplab.runtime.errors import ConfigError
from sweeplab.trial.resources import Resources
from tests.report_records import FactsFactory
from tests.trials import SpecFactory, run_alone

REPORT = Path(__file__).parents[2] / "reports" / "rank_sweep"
LOSS = "heldout_loss_nats_per_token"
RECALL = "scores.tiny_new_facts.exact_match"


class SmallStudy(NamedTuple):
    """A study of a finished trial and of one that diverged."""

    folder: Path
    logits: torch.Tensor  # of the finished trial as it stood at its end


@pytest.fixture
def small_study(make_spec: SpecFactory, resources: Resources, make_facts: FactsFactory, tmp_path: Path) -> SmallStudy:
    study = tmp_path / "runs" / "small"
    spec = replace(make_spec(0, "optimizer.lr=0.05", "adapter.rank=4"), folder=trial_folder(study, 0))
    record = run_alone(spec, resources)
    assert record.status is Status.FINISHED, record.reason
    write_record(study, record)
    reason = "the training loss became nan after 1 steps"
    write_record(study, TrialRecord(1, Status.DIVERGED, 1, {}, record.config, reason=reason))
    write_json(study / "study.json", make_facts(name="small", seeds=[0, 1], space={}).to_dict())
    config = spec.config
    base = load_base(config.model, config.quantization, torch.float32, torch.device("cpu"))
    logits = compute_probe_logits(PeftModel.from_pretrained(base.model, str(spec.folder / "adapter")))
    return SmallStudy(study, logits)


@pytest.fixture(scope="module")
def stored() -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = json.loads((REPORT / "records.json").read_text())["records"]
    return records


def test_trials_are_the_records(stored: list[dict[str, Any]]) -> None:
    trials = open_study(REPORT).trials()
    assert trials.index.tolist() == sorted(one["number"] for one in stored)
    for one in stored:
        row = trials.loc[one["number"]]
        assert row["adapter.rank"] == one["params"]["adapter.rank"]
        assert (row["seed"], row["status"], row["step"]) == (one["seed"], one["status"], one["step"])
        assert row[LOSS] == one[LOSS]
        for task, metrics in one["scores"].items():
            for metric, score in metrics.items():
                assert row[f"scores.{task}.{metric}"] == score["value"]


def test_settings_have_intervals_that_hold_for_all_at_once(stored: list[dict[str, Any]]) -> None:
    """Seven settings of three seeds that spread alike share one variance, of 6 x 2 freedoms; a seed's effect on all
    settings has 2. The error of the third look is a sixth of 5 %, Sidak's for seven means where they are their own."""
    settings = open_study(REPORT).settings(RECALL)
    values: dict[int, list[float]] = {}
    for one in stored:
        values.setdefault(one["params"]["adapter.rank"], []).append(
            one["scores"]["tiny_new_facts"]["exact_match"]["value"]
        )
    table = np.array([values[rank] for rank in sorted(values)])
    by_seed = table.mean(axis=0) - table.mean()
    pooled = ((table - table.mean(axis=1, keepdims=True) - by_seed) ** 2).sum() / 12
    common = max(by_seed.var(ddof=1) - pooled / 7, 0.0)
    of_all = 1 - 0.05 / 6
    own = stats.t.ppf((1 + of_all ** (1 / 7)) / 2, 12) * math.sqrt(pooled / 3)
    half = math.hypot(own, stats.t.ppf((1 + of_all) / 2, 2) * math.sqrt(common / 3))
    assert settings["adapter.rank"].tolist() == sorted(values) == [1, 2, 4, 8, 16, 32, 64]
    assert settings["num_seeds"].tolist() == [3] * 7
    assert settings["covers"].tolist() == ["seeds"] * 7
    for row in settings.to_dict("records"):
        mean = float(np.mean(values[row["adapter.rank"]]))
        assert row["mean"] == pytest.approx(mean, rel=1e-9)
        for end, plain in ((row["low"], max(0.0, mean - half)), (row["high"], min(1.0, mean + half))):
            assert end == pytest.approx(plain, abs=0.03)  # each own variance is moderated, which widens some


def test_the_report_prints_the_same_numbers() -> None:
    text = (REPORT / "report.md").read_text()
    for row in open_study(REPORT).settings(RECALL).to_dict("records"):
        cell = f"{row['mean']:.3f} (\\[{row['low']:.3f}, {row['high']:.3f}\\])"
        assert f"| rank={row['adapter.rank']} | {cell} |" in text


def test_the_first_objective_is_the_default() -> None:
    study = open_study(str(REPORT))
    pd.testing.assert_frame_equal(study.settings(), study.settings(RECALL))
    with pytest.raises(KeyError, match="no finished trial has scores"):
        study.settings("scores.nothing.acc")


def test_a_folder_without_a_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="holds no study"):
        open_study(tmp_path)


def test_an_adapter_comes_back_onto_its_base(small_study: SmallStudy) -> None:
    study = open_study(small_study.folder)
    model = study.load_adapter(0, device="cpu")
    assert isinstance(model, PeftModel)
    assert torch.equal(compute_probe_logits(model), small_study.logits)
    with model.disable_adapter():
        assert find_largest_difference(compute_probe_logits(model), small_study.logits) > 0.01
    with pytest.raises(ConfigError, match=r"^trial=7 does not exist"):
        study.load_adapter(7, device="cpu")


def test_a_trial_that_failed_has_a_row_and_no_numbers(small_study: SmallStudy) -> None:
    trials = open_study(small_study.folder).trials()
    assert trials.loc[1, "status"] == "diverged"
    assert trials.loc[1, "reason"] == "the training loss became nan after 1 steps"
    assert math.isnan(trials.loc[1, LOSS])
    settings = open_study(small_study.folder).settings(LOSS)
    assert settings["num_seeds"].tolist() == [1]
    assert Status(trials.loc[0, "status"]) is Status.FINISHED
    assert isinstance(open_study(small_study.folder).records[0], TrialRecord)
