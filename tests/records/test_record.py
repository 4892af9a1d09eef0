"""Records and metrics: what is written is what is read, and every metric means one number."""

import json
from copy import deepcopy
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeplab.config.parse import trial_config_from_dict
from sweeplab.records.metrics import METRICS, direction, known_metric
from sweeplab.records.record import (
    BaseScore,
    HeldoutPoint,
    LargerBatch,
    Phase,
    RungScores,
    Score,
    Solo,
    Status,
    TrainPoint,
    TrialRecord,
    base_key,
    metric_value,
)

REPORTS = Path(__file__).parents[2] / "reports"
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


def full_record(**others: Any) -> TrialRecord:
    """A record with every field set."""
    values: dict[str, Any] = {
        "number": 3,
        "status": Status.DIVERGED,
        "seed": 7,
        "params": {"adapter.rank": 8, "optimizer": "sgd", "training.gradient_clip": None},
        "config": {"adapter": {"rank": 8}},
        "reason": "the training loss became nan",
        "step": 12,
        "kept_step": 8,
        "phase": "train",
        "num_trainable_params": 2048,
        "num_total_params": 885_888,
        "larger_batches": [LargerBatch(32, 1, "CUDA out of memory")],
        "cohort": [3, 4],
        "solo": Solo(0.25, 3, 512, 700_000_000, 650_000_000, 600_000_000, 0.375, 0.5, 0.75),
        "base_bits_per_param": 5.25,
        "adapter_layers": [{"name": "q_proj", "rank": 4, "alpha": 8.0, "scaling": 2.0, "lr_A": 0.1, "lr_B": 0.2}],
        "adapter_bytes": 11_303,
        "num_train_tokens": 1398,
        "num_train_examples": 16,
        "num_truncated": 2,
        "num_dropped": 1,
        "num_naming_special": 1,
        "num_skipped": 2,
        "num_learned": 3,
        "num_heldout_examples": 5,
        "num_heldout_truncated": 1,
        "tokens_per_second": 2434.5,
        "phases": {"train": Phase(0.5, 573_685_760, 11, 12, 0.25)},
        "losses": [TrainPoint(1, 2.75, 3e-3)],
        "heldout_losses": [HeldoutPoint(1, 2.5)],
        "rung_scores": [RungScores(1, {"tiny_addition": {"exact_match": Score(0.125, 0.1, 8)}})],
        "heldout_loss_nats_per_token": 2.5,
        "scores": {
            "tiny_addition": {"exact_match": Score(0.25, None, 8)},
            "mmlu.v2": {"acc": Score(0.5, None, 8)},
        },
        "notes": ["answers did not share their question's tokens in evaluation: this model has a window"],
        "provenance": {"commit": "abc", "versions": {"torch": "2.13.0"}},
    }
    return TrialRecord(**(values | others))


def through_json(record: TrialRecord) -> TrialRecord:
    return TrialRecord.from_dict(json.loads(json.dumps(record.to_dict(), allow_nan=False)))


def test_every_field_survives_json() -> None:
    record = full_record()
    empty = [one.name for one in fields(record) if getattr(record, one.name) in (None, {}, [])]
    assert empty == []  # a new field must be given a value above
    assert through_json(record) == record


@given(loss=NUMBERS, rate=NUMBERS, stderr=st.none() | NUMBERS, reason=st.none() | st.text())
def test_numbers_and_words_survive_json_bit_for_bit(
    loss: float, rate: float, stderr: float | None, reason: str | None
) -> None:
    record = full_record(
        losses=[TrainPoint(1, loss, rate)], scores={"t": {"acc": Score(loss, stderr, 2)}}, reason=reason
    )
    assert through_json(record) == record


def test_status_is_written_as_its_word() -> None:
    assert full_record().to_dict()["status"] == "diverged"
    assert through_json(full_record()).status is Status.DIVERGED


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"unheard_of": 1}, "unheard_of"),
        ({"status": "exploded"}, "exploded"),
        ({"phases": {"train": {"hours": 1}}}, "hours"),
        ({"phases": {"train": 3}}, "malformed"),
        ({"losses": [{"step": 1, "loss": 2.0}]}, "lr"),
        ({"scores": {"task": [1]}}, "malformed"),
    ],
)
def test_a_malformed_record_is_refused_by_name(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        TrialRecord.from_dict(full_record().to_dict() | change)


def test_a_missing_field_is_refused_by_name() -> None:
    values = full_record().to_dict()
    del values["seed"], values["config"]
    with pytest.raises(ValueError, match="config, seed"):
        TrialRecord.from_dict(values)


def test_a_record_of_an_earlier_version_has_defaults_for_what_it_did_not_know() -> None:
    values = full_record().to_dict()
    del values["solo"], values["larger_batches"]
    assert TrialRecord.from_dict(values) == full_record(solo=None, larger_batches=[])


def test_a_measurement_of_before_tensors_were_counted_reads_and_is_written_as_it_was() -> None:
    values = full_record().to_dict()
    values["solo"] = {name: values["solo"][name] for name in list(values["solo"])[:5]}
    record = TrialRecord.from_dict(values)
    assert record.solo == Solo(0.25, 3, 512, 700_000_000, 650_000_000)
    assert metric_value(record, "solo.evaluation_peak_allocated_bytes") is None
    assert record.to_dict() == values


def test_a_committed_record_of_version_1_reads_whole_with_the_keys_of_every_option() -> None:
    report = json.loads((REPORTS / "alpha" / "records.json").read_text())
    for values in report["records"]:
        record = TrialRecord.from_dict(values)
        assert record.version == 1
        assert {"rank", "num_layers", "num_virtual_tokens"} <= record.config["adapter"].keys()
        assert {name: record.to_dict()[name] for name in values} == values
        assert trial_config_from_dict(record.config).adapter.rank == record.params["adapter.rank"]


def test_a_new_record_is_of_version_2_with_the_keys_of_its_own_options() -> None:
    old = json.loads((REPORTS / "alpha" / "records.json").read_text())["records"][0]["config"]
    record = full_record(config=trial_config_from_dict(old).to_dict())
    assert (record.version, record.to_dict()["version"]) == (2, 2)
    assert record.config["adapter"].items() <= old["adapter"].items()
    assert record.config["adapter"].keys().isdisjoint({"num_layers", "num_virtual_tokens"})
    assert record.config["quantization"] == {"scheme": "nf4", "double": True}
    again = TrialRecord.from_dict(json.loads(json.dumps(record.to_dict())))
    assert again == record
    assert trial_config_from_dict(again.config) == trial_config_from_dict(old)


@pytest.mark.parametrize("values", [None, 3, "record", [1], [{}]])
def test_what_is_no_object_is_no_record(values: Any) -> None:
    with pytest.raises(ValueError, match="an object with fields"):
        TrialRecord.from_dict(values)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("heldout_loss_nats_per_token", 2.5),
        ("num_trainable_params", 2048),
        ("adapter_bytes", 11_303),
        ("tokens_per_second", 2434.5),
        ("phases.train.seconds", 0.5),
        ("phases.train.peak_resident_bytes", 573_685_760),
        ("phases.train.peak_allocated_bytes", 11),
        ("phases.train.peak_reserved_bytes", 12),
        ("phases.evaluate.seconds", None),  # it never got there
        ("scores.tiny_addition.exact_match", 0.25),
        ("scores.tiny_addition.acc", None),
        ("scores.mmlu.v2.acc", 0.5),  # a task's name may hold dots
        ("scores.other.exact_match", None),
    ],
)
def test_a_metric_means_one_number_of_the_record(name: str, value: float | None) -> None:
    assert known_metric(name)
    assert metric_value(full_record(), name) == value


def test_every_known_metric_can_be_read_from_an_empty_record() -> None:
    empty = TrialRecord(0, Status.FAILED, 0, {}, {})
    assert {name: metric_value(empty, name) for name in METRICS} == dict.fromkeys(METRICS)


@pytest.mark.parametrize(
    "name", ["loss", "scores", "scores.task", "scores..acc", "scores.a..c", "scores.a.b.", "phases.train", ""]
)
def test_an_unknown_metric_is_unknown(name: str) -> None:
    assert not known_metric(name)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("heldout_loss_nats_per_token", "minimize"),
        ("num_trainable_params", "minimize"),
        ("adapter_bytes", "minimize"),
        ("tokens_per_second", "maximize"),
        ("phases.train.seconds", "minimize"),
        ("phases.train.peak_reserved_bytes", "minimize"),
        ("scores.tiny_addition.exact_match", "maximize"),
        ("scores.truthfulqa_mc1.acc", "maximize"),
        ("scores.wikitext.word_perplexity", "minimize"),
        ("scores.wikitext.bits_per_byte", "minimize"),
        ("scores.wmt16-en-de.ter", "minimize"),
        ("scores.wmt16-en-de.chrf", "maximize"),
        ("scores.speech.wer,clean", "minimize"),
        ("scores.truth.brier_score", "minimize"),
        ("scores.bbq.amb_bias_score_Age", "minimize"),
        ("scores.perplexity_of_words.acc", "maximize"),  # what the task is called does not count
    ],
)
def test_direction(name: str, wanted: str) -> None:
    assert direction(name) == wanted


def base_facts() -> dict[str, Any]:
    """What a base's key is of."""
    config: dict[str, Any] = {
        name: {"name": name} for name in ("model", "quantization", "data", "evaluation", "adapter")
    }
    versions = {"sweeplab": "1", "torch": "2", "transformers": "5", "bitsandbytes": "0", "hqq": None, "lm_eval": "0.4"}
    prints = {"base_fingerprint": "sha256:a", "data_fingerprint": "sha256:b", "commit": "c", "device": {"type": "cpu"}}
    return {
        "config": config | {"training": {"max_length": 64, "epochs": 1}, "optimizer": {"lr": 1e-3}},
        "dtype": "torch.float32",
        "task_data": None,
        "provenance": prints | {"versions": versions | {"datasets": "4", "wandb": "1"}, "python": "3.11"},
    }


def changed(*keys: str) -> str:
    facts: Any = deepcopy(base_facts())
    inner = facts
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = "another"
    return base_key(**facts)


def test_a_base_has_another_key_where_it_could_score_otherwise() -> None:
    matters = [
        *(("config", name, "name") for name in ("model", "quantization", "data", "evaluation")),
        ("config", "training", "max_length"),
        ("dtype",),
        ("task_data",),
        *(("provenance", name) for name in ("base_fingerprint", "data_fingerprint", "commit")),
        ("provenance", "device", "type"),
        ("provenance", "versions", "lm_eval"),
        ("provenance", "versions", "torch"),
    ]
    keys = [base_key(**base_facts()), *(changed(*one) for one in matters)]
    assert len(set(keys)) == len(keys)
    assert all(len(key) == 32 for key in keys)


def test_a_base_has_one_key_for_all_trials_on_it() -> None:
    same = [
        ("config", "adapter", "name"),
        ("config", "optimizer", "lr"),
        ("config", "training", "epochs"),
        ("provenance", "versions", "wandb"),
        ("provenance", "python"),
    ]
    assert {changed(*one) for one in same} == {base_key(**base_facts())}


def base_score(key: str = "0" * 32) -> BaseScore:
    return BaseScore(key, 2.5, {"tiny_addition": {"exact_match": Score(0.25, None, 8)}}, 1.5, {"commit": "abc"})


def test_a_base_score_survives_json() -> None:
    assert BaseScore.from_dict(json.loads(json.dumps(base_score().to_dict()))) == base_score()


@pytest.mark.parametrize("change", [{"seconds_": 1}, {"scores": {"task": {"acc": {"value": 1}}}}, {"scores": [1]}])
def test_a_malformed_base_score_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"do not match|malformed"):
        BaseScore.from_dict(base_score().to_dict() | change)


def test_records_of_before_processor_seconds_stay_as_they_are() -> None:
    before = full_record(phases={"train": Phase(0.5, 1, 2, 3)}, num_heldout_examples=None)
    values = before.to_dict()
    assert set(values["phases"]["train"]) == {
        "seconds",
        "peak_resident_bytes",
        "peak_allocated_bytes",
        "peak_reserved_bytes",
    }
    assert "num_heldout_examples" not in values
    assert through_json(before) == before
