"""The line of what all trials had in common."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from sweeplab.records.record import Status, TrialRecord
from sweeplab.report.findings.setup import describe_setup

CONFIG: dict[str, Any] = {
    "model": {"source": "embedded", "name": "tiny_base", "path": None},
    "quantization": {"scheme": "nf4", "double": True, "pattern": {}},
    "data": {"name": "tiny_facts", "path": None},
    "training": {"micro_batch_size": 8, "accumulation": 2},
}
CPU = {"device": {"type": "cpu", "processor": "EPYC"}}


def trial(make_record: Callable[..., TrialRecord], number: int = 0, **sections: Any) -> TrialRecord:
    record = make_record(number, {}, 0, 1.0)
    made: dict[str, Any] = {"config": CONFIG | sections, "provenance": CPU, "num_train_examples": 1400, "step": 200}
    return replace(record, **made)


def test_it_names_model_bits_data_training_and_machine(make_record: Callable[..., TrialRecord]) -> None:
    told = "tiny_base, nf4_dq · 1,400 examples of tiny_facts · 200 steps of 16 examples · EPYC"
    assert describe_setup([trial(make_record), trial(make_record, 1)]) == told


def test_what_differs_or_is_not_known_is_left_out(make_record: Callable[..., TrialRecord]) -> None:
    here = trial(make_record)
    gpu = replace(trial(make_record, 1), step=100, provenance={"device": {"type": "cuda", "gpu": "H100"}})
    assert describe_setup([here, gpu]) == "tiny_base, nf4_dq · 1,400 examples of tiny_facts"
    assert describe_setup([here, replace(gpu, status=Status.FAILED)]) == describe_setup([here])
    assert describe_setup([replace(here, config={}, provenance={})]) == ""
    assert describe_setup([]) == ""


def test_a_folder_is_named_by_its_last_part(make_record: Callable[..., TrialRecord]) -> None:
    sections: dict[str, Any] = {
        "model": {"name": "local", "path": "/home/me/llama"},
        "data": {"name": "json", "path": "/home/me/mine.json"},
        "quantization": {"scheme": "none", "double": False},
    }
    told = describe_setup([trial(make_record, **sections)])
    assert told.startswith("llama, not quantized · 1,400 examples of mine.json · ")
    mixed = trial(make_record, quantization={"scheme": "nf4", "double": False, "pattern": {"mlp": "int8"}})
    assert describe_setup([mixed]).startswith("tiny_base, layers quantized differently · ")


def test_how_many_examples_were_held_out_is_said_where_known(make_record: Callable[..., TrialRecord]) -> None:
    known = replace(trial(make_record), num_heldout_examples=200)
    assert "1,400 examples of tiny_facts, 200 held out" in describe_setup([known])
