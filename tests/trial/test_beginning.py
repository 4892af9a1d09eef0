"""What a record says of the base and the data that its trial begins with."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sweeplab.builtin.world import make_skill_items, make_target_examples, render_plain_prompt
from sweeplab.config.trial_spec import TrialSpec
from sweeplab.records.inputs import KnownInputs
from sweeplab.records.record import Status
from sweeplab.runtime.errors import StudyRefused
from sweeplab.trial import beginning
from sweeplab.trial.lifecycle import run_cohort
from sweeplab.trial.resources import Resources
from tests.models.folders import copy_base
from tests.trials import run_alone

SpecFactory = Callable[..., TrialSpec]
QUIET = "evaluation=none"


def test_provenance_names_what_ran_and_nothing_private(make_spec: SpecFactory, resources: Resources) -> None:
    spec = make_spec(0, "quantization=none", QUIET)
    facts = run_alone(spec, resources).provenance
    assert facts["versions"]["torch"].partition("+")[0] == torch.__version__.partition("+")[0]  # CPU or CUDA
    assert facts["base_fingerprint"].startswith("sha256:")
    written = json.dumps(facts) + (spec.folder / "adapter" / "adapter_config.json").read_text()
    assert str(Path.home()) not in written
    assert str(Path(beginning.__file__).parent) not in written


def test_a_record_says_what_was_skipped_and_the_user_reads_it_before_training(
    make_spec: SpecFactory, resources: Resources, tmp_path: Path
) -> None:
    path = tmp_path / "dirty.json"
    rows = [{"prompt": f"{place}", "completion": "" if place == 3 else "a"} for place in range(50)]
    rows[5]["prompt"] = "b" * 500
    path.write_text(json.dumps(rows))
    overrides = (
        "data=json",
        f"data.path={path}",
        "data.style=plain",
        "data.max_skipped=0.05",
        "data.num_examples=null",
    )
    spec, said = make_spec(0, *overrides, "quantization=none", QUIET, "training.max_steps=1"), list[str]()
    (record,) = run_cohort([spec], resources, lambda *_: None, said.append, list)
    assert record.status is Status.FINISHED, record.reason
    assert (record.num_skipped, record.num_dropped) == (1, 1)
    skipped = [
        f"skipped 1 of 50 records of {path}, which teach nothing (record 4: field 'completion' is empty)",
        f"skipped 1 example whose whole response training.max_length=256 cuts off ({path}, record 6)",
    ]
    assert record.notes == [f"read {path} as prompt and completion: prompt, completion", *skipped]
    assert said == [f"S{one[1:]}." for one in skipped]


def test_a_model_whose_template_was_edited_is_another_one(
    make_spec: SpecFactory, resources: Resources, tmp_path: Path
) -> None:
    """Its seeds must not be averaged with those of before."""
    folder = copy_base(tmp_path / "model")
    spec = make_spec(0, "model=local", f"model.path={folder}", "quantization=none", QUIET, "training.max_steps=1")
    first = run_alone(spec, resources)
    assert first.status is Status.FINISHED, first.reason
    inputs = KnownInputs()
    inputs.note(first)
    (folder / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    again = replace(spec, number=1, folder=tmp_path / "00001", fingerprints=inputs.find(first.config))
    with pytest.raises(StudyRefused, match=r"^model\.path=.* has changed since this study began"):
        run_alone(again, Resources(torch.device("cpu")))


def test_held_out_examples_that_are_trained_on_are_counted_and_told(
    make_spec: SpecFactory, resources: Resources, tmp_path: Path
) -> None:
    paths = tmp_path / "train.jsonl", tmp_path / "heldout.jsonl"
    for path, places in zip(paths, (range(12), range(10, 14)), strict=True):
        rows = [{"prompt": f"{place}", "completion": "a"} for place in places]
        path.write_text("\n".join(map(json.dumps, rows)))
    overrides = "data=json", f"data.path={paths[0]}", f"data.heldout_path={paths[1]}", "data.num_examples=null"
    spec, said = make_spec(0, *overrides, "quantization=none", QUIET, "training.max_steps=1"), list[str]()
    (record,) = run_cohort([spec], resources, lambda *_: None, said.append, list)
    assert (record.num_learned, record.num_heldout_examples) == (2, 4)
    sentence = (
        "2 of 4 held-out examples stand in training too, prompt and response alike: their loss says how well they were "
        "learned by heart"
    )
    assert said == [f"{sentence}."]
    assert sentence in record.notes


def test_a_record_counts_what_was_cut(make_spec: SpecFactory, resources: Resources) -> None:
    """A character is a token here, and every response ends with one more."""
    taught, asked = make_target_examples("new_facts")[:40], make_skill_items("new_facts")
    lengths, heldout = (
        [len(render_plain_prompt(item)) + len(item["output"]) + 1 for item in part] for part in (taught, asked)
    )
    longest = sorted(lengths)[16]
    record = run_alone(make_spec(0, "quantization=none", f"training.max_length={longest}", QUIET), resources)
    assert record.num_train_examples == 40
    assert record.num_truncated == sum(length > longest for length in lengths) > 0
    assert record.num_heldout_truncated == sum(length > longest for length in heldout) > 0
