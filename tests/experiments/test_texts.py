"""What experiments/ says, what conf/experiment/ runs and what reports/ keeps agree."""

import json
import re
from pathlib import Path
from typing import Any, Final

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from sweeplab.config.conf import CONF

ROOT: Final = Path(__file__).parents[2]
NAMES: Final = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))
REPORTED: Final = [
    name for name in NAMES if name != "asha" and (ROOT / "reports" / name / "records.json").exists()
]  # ASHA's is a comparison of studies
FIXED: Final = {  # what a text may say is fixed -> the key that says so
    r"(\d+) steps of (?:\d+) (?:examples|images)": "training.max_steps",
    r"cosine over (\d+) steps": "training.max_steps",
    r"AdamW at ([\d.e-]+)": "optimizer.lr",
    r"[Rr]ank (\d+)(?:, alpha| on)": "adapter.rank",
    r"dropout ([\d.]+)": "adapter.dropout",
    r"micro-batch(?:es of)? (\d+)": "training.micro_batch_size",
    r"alpha = ([\d.]+) x rank": "adapter.alpha_ratio",
    r"rows of ([\d,]+) tokens": "training.max_length",
    r"([\d,]+) parameters(?: in all)?": "adapter.budget",
}


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Leaves by their dotted keys; an axis of a space is a leaf."""
    leaves: dict[str, Any] = {}
    for key, value in values.items():
        nested = isinstance(value, dict) and value and not {"choices", "low"} & set(value)
        leaves |= flatten(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return leaves


@pytest.fixture(scope="module")
def experiments() -> dict[str, dict[str, Any]]:
    """Every experiment as Hydra composes it, by name."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return {name: OmegaConf.to_container(compose("config", [f"+experiment={name}"])) for name in NAMES}  # type: ignore[misc]


def read_paragraph(name: str, title: str) -> str:
    """The text after a bold title, up to the next one, on one line."""
    text = " ".join((ROOT / "experiments" / name / "README.md").read_text().split())
    return re.split(r"\*\*[A-Z][a-z ]+\.\*\*", text.split(f"**{title}.**", 1)[1], maxsplit=1)[0].strip()


def numbers(text: str) -> set[float]:
    return {float(one.replace(",", "")) for one in re.findall(r"\d[\d,]*(?:\.\d+)?(?:e-?\d+)?", text)}


@pytest.mark.parametrize("name", NAMES)
def test_the_question_is_the_experiments(name: str, experiments: dict[str, dict[str, Any]]) -> None:
    assert read_paragraph(name, "Question").startswith(experiments[name]["study"]["question"])


@pytest.mark.parametrize("name", NAMES)
def test_the_seeds_are_the_experiments(name: str, experiments: dict[str, dict[str, Any]]) -> None:
    said = read_paragraph(name, "Seeds")
    if said.startswith("None"):
        assert experiments[name]["action"] == "plan"
        return
    ends = re.match(r"(\d+) to (\d+)", said)
    listed = re.match(r"\d+(?:, \d+)*", said)
    assert ends or listed
    seeds = list(range(int(ends[1]), int(ends[2]) + 1)) if ends else [int(one) for one in listed[0].split(", ")]  # type: ignore[index]
    assert seeds == experiments[name]["study"]["seeds"]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_fixed_is_what_runs(name: str, experiments: dict[str, dict[str, Any]]) -> None:
    said = read_paragraph(name, "Fixed")
    values = flatten(experiments[name])
    varied = flatten(experiments[name]["space"])
    found = [(key, match[1]) for pattern, key in FIXED.items() for match in re.finditer(pattern, said)]
    wrong = {key: (text, values[key]) for key, text in found if key not in varied and numbers(text) != {values[key]}}
    assert not wrong
    rows = re.findall(r"steps(?: an epoch)? of (\d+) (?:examples|images)", said)
    batch = values["training.micro_batch_size"] * values["training.accumulation"]
    assert {int(one) for one in rows} <= {batch}
    assert found or rows, "a text says something that can be checked"


@pytest.mark.parametrize("name", NAMES)
def test_what_is_varied_is_what_runs(name: str, experiments: dict[str, dict[str, Any]]) -> None:
    said = read_paragraph(name, "Varied")
    one = experiments[name]
    if one["study"]["enqueue"]:
        return  # settings are listed, not crossed
    for key, axis in flatten(one["space"]).items():
        tried = axis.get("choices") or [axis["low"], axis["high"]]
        needed = {float(value) for value in tried if type(value) in (int, float)}
        if key == "training.accumulation" or needed:
            assert needed <= numbers(said), f"{key}: {sorted(needed - numbers(said))} not in {said}"


@pytest.mark.parametrize("name", REPORTED)
def test_the_committed_report_was_made_with_the_experiments_values(
    name: str, experiments: dict[str, dict[str, Any]]
) -> None:
    """Keys that came or went since are not compared."""
    study = json.loads((ROOT / "reports" / name / "records.json").read_text())["study"]
    now = experiments[name]
    assert study["seeds"] == now["study"]["seeds"]
    assert study["question"] == now["study"]["question"]
    space: dict[str, Any] = {}
    for key, axis in flatten(now["space"]).items():  # a group has its own choices, and keys of its options
        parts = {f"{key}.{name}": part for name, part in axis.items() if isinstance(part, dict) and "choices" in part}
        space |= {name: {"choices": part["choices"]} for name, part in {key: axis, **parts}.items()}
    assert {key: {"choices": axis["choices"]} for key, axis in study["space"].items()} == space
    values, kept = flatten(now), flatten(study["config"])
    if values["evaluation.limit"] is None:  # a seed of no sample is stored as none
        values["evaluation.limit_seed"] = None
    both = [key for key in kept if key in values and "${" not in str(values[key])]
    assert len(both) > 50
    assert {key: (kept[key], values[key]) for key in both if kept[key] != values[key]} == {}


def test_a_difference_would_be_seen() -> None:
    assert numbers("60 steps of 1,024 at 3e-3 and 0.5") == {60.0, 1024.0, 3e-3, 0.5}
    assert flatten({"a": {"b": {"choices": [1]}, "c": 2}}) == {"a.b": {"choices": [1]}, "a.c": 2}
