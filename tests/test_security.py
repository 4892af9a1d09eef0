"""Nothing that sweeplab is given can run code, and a report shows names and texts as they are.

A marker file would be touched by whatever ran.
"""

import json
import os
import pickle
import re
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

import pytest
import torch

from sweeplab.adapters.merging import attach_trained
from sweeplab.config.model import EmbeddedModel, LocalModel, ModelConfig
from sweeplab.data.sources import load_splits
from sweeplab.models.base import _EMBEDDED, load_base, load_tokenizer
from sweeplab.records.quarantine import read_study
from sweeplab.records.record import Status, StudyFacts, TrialRecord
from sweeplab.report import write_report
from sweeplab.runtime.errors import ConfigError
from sweeplab.search.rebuild import is_safe_cma_state
from sweeplab.trial.lifecycle import run_cohort
from sweeplab.trial.resources import Resources
from tests.configs import quantize
from tests.records.test_record import full_record
from tests.records.test_store import FACTS
from tests.trials import Compose, SpecFactory, no_words, run_alone

BROWSER: Final = shutil.which("chromium") or shutil.which("google-chrome")
PAYLOAD: Final = (
    "</script></style></title></text></textarea>-->"
    "<script>document.documentElement.setAttribute('data-owned', '1')</script>"
    "<img src=x onerror=\"document.documentElement.setAttribute('data-owned', '2')\">"
    "<svg onload=\"document.documentElement.setAttribute('data-owned', '3')\">\"'`{{7*7}}${7*7}&lt;"
)


class Touch:
    """Unpickled, it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def as_torch_file(path: Path, payload: bytes) -> None:
    """What `torch.save` writes, with another pickle in it."""
    torch.save({"step": 1}, path)
    with zipfile.ZipFile(path) as whole:
        members = {name: whole.read(name) for name in whole.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as changed:
        for name, data in members.items():
            changed.writestr(name, payload if name.endswith("data.pkl") else data)


def test_the_payload_would_run(tmp_path: Path) -> None:
    """Else nothing below could fail."""
    marker = tmp_path / "marker"
    pickle.loads(pickle.dumps(Touch(marker)))
    assert marker.exists()
    marker.unlink()
    as_torch_file(tmp_path / "x.pt", pickle.dumps(Touch(marker), 2))
    torch.load(tmp_path / "x.pt", weights_only=False)
    assert marker.exists()


@pytest.mark.parametrize(
    ("method", "kind"),
    [
        # slow: all end in one refusal; a pickle in PyTorch's archive, a bare one and half a file are enough
        ("lora", "torch"),
        ("lora", "cut"),
        pytest.param("lora", "other", marks=pytest.mark.slow),
        pytest.param("lora", "empty", marks=pytest.mark.slow),
        ("norms", "pickle"),
        pytest.param("norms", "garbage", marks=pytest.mark.slow),
    ],
)
def test_a_checkpoint_that_is_none_is_set_aside_and_the_trial_starts_anew(
    method: str, kind: str, make_spec: SpecFactory, resources: Resources, tmp_path: Path
) -> None:
    options = ("quantization=none", f"adapter={method}", "training.max_steps=2", "evaluation=none")
    calm = run_alone(make_spec(0, *options), resources)
    spec, marker, said = make_spec(1, *options), tmp_path / "marker", list[str]()
    path = spec.folder / "checkpoint.pt"
    path.parent.mkdir(parents=True)
    payload = pickle.dumps(Touch(marker), 2)
    if kind == "torch":
        as_torch_file(path, payload)
    elif kind == "other":
        torch.save({"weights": [torch.ones(3)]}, path)
    elif kind == "cut":
        torch.save({"weights": [torch.ones(3)]}, path)
        path.write_bytes(path.read_bytes()[:-300])
    else:
        path.write_bytes({"pickle": payload, "garbage": b"PK\x03\x04" + b"x" * 500, "empty": b""}[kind])
    before = path.read_bytes()
    (record,) = run_cohort([spec], resources, lambda *_: None, said.append, list)
    assert not marker.exists()
    assert not path.exists()
    assert path.with_name("checkpoint.pt.set-aside").read_bytes() == before
    assert record.losses == calm.losses
    assert record.heldout_loss_nats_per_token == calm.heldout_loss_nats_per_token
    (sentence,) = said
    assert sentence.startswith(f"{path} is no checkpoint (")
    assert sentence.endswith("), kept as checkpoint.pt.set-aside; trial 1 starts again")


def test_a_pickle_in_the_place_of_a_record_or_data_does_not_run(compose_trial: Compose, tmp_path: Path) -> None:
    marker, payload = tmp_path / "marker", pickle.dumps(Touch(tmp_path / "marker"))
    of_a_trial = [f"trials/00000/{name}" for name in ("trial.json", "record.json", "items.jsonl")]
    for name in ("study.json", "search.json", *of_a_trial, "base/0.json", "optuna.db"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(payload)
    assert len(read_study(tmp_path).sentences) == 6  # the database is not read at all
    assert not is_safe_cma_state({"cma:optimizer:0": payload.hex()})
    (tmp_path / "data.json").write_bytes(payload)
    with pytest.raises(ConfigError, match="cannot be read as UTF-8 or UTF-16 text"):
        load_splits(compose_trial("data=json", f"data.path={tmp_path / 'data.json'}").data)
    assert not marker.exists()


def test_a_data_sets_own_script_does_not_run(compose_trial: Compose, tmp_path: Path) -> None:
    folder, marker = tmp_path / "evil", tmp_path / "marker"
    folder.mkdir()
    (folder / "evil.py").write_text(f"from pathlib import Path\nPath({str(marker)!r}).touch()\n")
    with pytest.raises(ConfigError, match="cannot be loaded from the hub"):
        load_splits(compose_trial("data=hub", f"data.name={folder}").data)
    assert not marker.exists()


def hostile_model(folder: Path, marker: Path) -> ModelConfig:
    """The embedded base with code of its own beside it, which its files ask for."""
    shutil.copytree(_EMBEDDED, folder)
    for name in ("modeling_evil.py", "configuration_evil.py", "tokenization_evil.py"):
        (folder / name).write_text(f"from pathlib import Path\nPath({str(marker)!r}).touch()\n")
    classes = {"AutoModelForCausalLM": "modeling_evil.Evil", "AutoConfig": "configuration_evil.Evil"}
    for name, changes in (
        ("config.json", {"auto_map": classes}),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["tokenization_evil.Evil", None]}}),
    ):
        values = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(values | changes))
    return LocalModel(name="evil", path=str(folder))


def test_a_models_own_code_does_not_run(tmp_path: Path) -> None:
    model, marker = hostile_model(tmp_path / "model", tmp_path / "marker"), tmp_path / "marker"
    base = load_base(model, quantize("none", False), torch.float32, torch.device("cpu"))
    assert load_tokenizer(model).encode("a")
    assert type(base.model).__module__.startswith("transformers.")
    assert not marker.exists()


def absurd_header(path: Path) -> None:
    """A safetensors file that says its header has 2^62 bytes."""
    path.write_bytes((2**62).to_bytes(8, "little") + b"{}")


def overlong(path: Path) -> None:
    header = json.dumps({"x": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)


def test_an_adapter_is_safetensors_or_refused(make_spec: SpecFactory, resources: Resources, tmp_path: Path) -> None:
    spec, marker = make_spec(0, "quantization=none", "training.max_steps=1", "evaluation=none"), tmp_path / "marker"
    run_alone(spec, resources)
    adapter = spec.folder / "adapter"
    weights = adapter / "adapter_model.safetensors"
    base = load_base(spec.config.model, spec.config.quantization, torch.float32, torch.device("cpu")).model
    payload = pickle.dumps(Touch(marker), 2)
    weights.unlink()
    as_torch_file(adapter / "adapter_model.bin", payload)
    with pytest.raises(ConfigError, match=r"holds no adapter_model\.safetensors \(pickled weights are not loaded\)"):
        attach_trained(base, spec.config.adapter, spec.config.model, 0, adapter)
    for spoil in (absurd_header, overlong, lambda path: as_torch_file(path, payload)):
        base = load_base(spec.config.model, spec.config.quantization, torch.float32, torch.device("cpu")).model
        spoil(weights)
        with pytest.raises(ConfigError, match=r"holds no adapter of this trial: .*; run the trial again"):
            attach_trained(base, spec.config.adapter, spec.config.model, 0, adapter)
    assert not marker.exists()


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{% for x in cycler.__init__.__globals__.os.popen('touch marker') %}{% endfor %}",
        "{{ raise_exception('roles must alternate') }}",
        "{% if %}",
    ],
)
def test_a_chat_template_stays_in_its_sandbox(
    template: str, compose_trial: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sweeplab.data.tokens import tokenize_examples

    monkeypatch.chdir(tmp_path)
    tokenizer = load_tokenizer(EmbeddedModel(name="tiny_base"))
    tokenizer.chat_template = template
    examples = load_splits(compose_trial().data).train[:1]
    with pytest.raises(
        ConfigError, match=r"data\.style=template: the tokenizer's chat template refuses the messages: "
    ):
        tokenize_examples(examples, tokenizer, "template", True, 64)
    assert list(tmp_path.iterdir()) == []


def hostile_record(number: int) -> TrialRecord:
    record = full_record(number=number, reason=PAYLOAD, params={"adapter.rank": number, PAYLOAD: PAYLOAD})
    record.scores = {PAYLOAD: record.scores.popitem()[1]}
    record.config |= {"training": {"max_length": 64}, PAYLOAD: PAYLOAD}
    record.provenance |= {PAYLOAD: PAYLOAD}
    return record


def hostile_facts() -> StudyFacts:
    values = FACTS.to_dict() | {"name": PAYLOAD, "question": PAYLOAD, "command": PAYLOAD}
    values["space"] = {"adapter.rank": {"choices": [1, 2]}, PAYLOAD: {"choices": [PAYLOAD]}}
    values["config"] = {"training": {"epochs": 3}, "data": {PAYLOAD: PAYLOAD}}
    return StudyFacts(**values)


def dom(page: Path, profile: Path) -> str:
    """The document as a browser has it once its scripts have run."""
    assert BROWSER is not None
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", "--virtual-time-budget=3000")
    command = [BROWSER, *flags, f"--user-data-dir={profile}", page.as_uri()]
    environment = os.environ | {"HOME": str(profile)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=True, env=environment)
    return done.stdout


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here; apt-get install chromium")
def test_names_and_texts_stay_text_in_a_browser(tmp_path: Path) -> None:
    page = write_report(hostile_facts(), [hostile_record(0), hostile_record(1)], tmp_path)
    found = dom(page, tmp_path / "profile")
    owned = re.compile(r"<html[^>]*data-owned")
    assert owned.search(found) is None
    assert "setAttribute('data-owned'" in found  # it is shown
    control = tmp_path / "control.html"
    control.write_text(f"<html><body>{PAYLOAD}</body></html>")
    assert owned.search(dom(control, tmp_path / "control")) is not None


def test_names_and_texts_stay_text_in_files(tmp_path: Path) -> None:
    write_report(hostile_facts(), [hostile_record(0), hostile_record(1)], tmp_path)
    markdown = re.sub(r"(?ms)^(`{3,}).*?^\1$", "", (tmp_path / "report.md").read_text())
    assert "data-owned" in markdown
    assert re.findall(r"</?(?:script|img|svg|style|title|textarea)", markdown) == []
    if (tmp_path / "score.svg").exists():
        names = {one.tag.rpartition("}")[2] for one in ElementTree.parse(tmp_path / "score.svg").iter()}
        assert names.isdisjoint({"script", "img", "foreignObject"})
    page = (tmp_path / "report.html").read_text()
    assert "<script>document.documentElement" not in page
    assert 'onerror="document' not in page


def test_no_words_are_said_of_a_whole_checkpoint(make_spec: SpecFactory, resources: Resources) -> None:
    """The checks above would pass if every checkpoint was set aside."""
    from sweeplab.training.checkpoints import continue_from_checkpoint, write_checkpoint
    from sweeplab.trial.beginning import begin_trial

    spec = make_spec(0, "quantization=none", "training.max_steps=2", "evaluation=none")
    run = begin_trial(spec, spec.new_record(Status.FAILED), resources, lambda *_: None)
    run.step = 1
    write_checkpoint(run)
    fresh = begin_trial(spec, spec.new_record(Status.FAILED), resources, lambda *_: None)
    continue_from_checkpoint(fresh)
    assert fresh.step == 1
    list(run_cohort([spec], resources, lambda *_: None, no_words, list))
