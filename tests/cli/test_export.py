"""Exports of a study that ran: reloaded from disk they are what was trained, and mistakes are one line."""

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from sweeplab.adapters.attach import save_adapter
from sweeplab.adapters.merging import attach_combined, compute_probe_logits, find_largest_difference
from sweeplab.cli.export import (
    _TOLERANCES,
    compare_logits,
    compute_exported_logits,
    describe_loading,
    export_to,
)
from sweeplab.cli.finished_trials import FinishedTrial
from sweeplab.cli.model_card import Verdict, write_card
from sweeplab.config.model import LocalModel
from sweeplab.config.trial import TrialConfig
from sweeplab.config.trial_spec import TrialSpec
from sweeplab.models.base import Base, load_base
from sweeplab.records.record import Score, Status, StudyFacts, TrialRecord
from sweeplab.records.store import read_records, trial_folder, write_facts, write_record
from sweeplab.runtime.errors import ConfigError
from sweeplab.trial.resources import Resources
from tests.configs import adapter_of, quantize
from tests.hostile import answer
from tests.study_runs import QUICK, SHORT, run_cli
from tests.trials import run_alone

STUDY: Final = (*SHORT, *QUICK, "quantization=nf4_dq", "optimizer.lr=0.01", "study.name=made", "adapter.lora_head=true")
CPU: Final = torch.device("cpu")
SENTENCE: Final = r"Reloaded from disk, its logits differ by at most (\S+) from the trained model's on a fixed batch"


class Made(NamedTuple):
    """A study of three finished trials, of ranks 4, 8 and 8, a diverged one and one without an adapter."""

    folder: Path
    configs: list[TrialConfig]
    logits: list[Tensor]  # of each trial as it stood at its end, quantized base and adapter apart


@pytest.fixture(scope="module")
def made(compose_trial: Any, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("exported")
    study = folder / "runs" / "made"
    said = [one for one in STUDY if not one.startswith(("study.", "tracking", "executor."))]
    chosen = {one.partition("=")[0]: one for one in said}.values()
    configs = [compose_trial(*chosen, f"adapter.rank={rank}") for rank in (4, 8, 8)]
    resources, logits = Resources(CPU), []
    for number, config in enumerate(configs):
        spec = TrialSpec(number, number, {"adapter.rank": config.adapter.rank}, config, trial_folder(study, number))
        record = run_alone(spec, resources)
        assert record.status is Status.FINISHED, record.reason
        write_record(study, record)
        logits.append(
            compute_probe_logits(PeftModel.from_pretrained(base_of(config).model, str(spec.folder / "adapter")))
        )
    write_record(study, TrialRecord(3, Status.DIVERGED, 0, {}, configs[0].to_dict()))
    full = configs[0].replaced(adapter=adapter_of("prefix"))
    write_record(study, TrialRecord(4, Status.FINISHED, 0, {}, full.to_dict()))
    lost = configs[0].replaced(quantization=quantize("int8"))
    write_record(study, TrialRecord(5, Status.FINISHED, 0, {}, lost.to_dict()))
    return Made(folder, configs, logits)


def base_of(config: TrialConfig) -> Base:
    return load_base(config.model, config.quantization, torch.float32, CPU)


Export = Callable[..., Any]


@pytest.fixture
def export(made: Made, tmp_path: Path) -> Export:
    """The command line, in a process of its own where that is asked for; its exit code, what it said, the folder."""

    def run(*arguments: str, own_process: bool = False) -> tuple[int, str, str, Path]:
        path = tmp_path / "out"
        given = [] if any(one.startswith("export.path=") for one in arguments) else [f"export.path={path}"]
        command = (*STUDY, "action=export", *given, *arguments)
        if own_process:  # all that it needs is imported in it, which takes most of its time
            done = run_cli(made.folder, *command)
            return done.returncode, done.stdout, done.stderr, path
        code, out, err, _ = answer(list(command), made.folder)
        return code, out, err, path

    return run


def printed_difference(said: str) -> float:
    found = re.search(SENTENCE, said)
    assert found is not None, said
    return float(found.group(1))


@pytest.mark.parametrize(
    ("dtype", "most"),
    [
        ("float32", 1e-3),
        ("bfloat16", 4.0),
        pytest.param("float16", 1.0, marks=pytest.mark.slow),  # slow: another half precision, beside bfloat16
    ],
)
def test_a_merged_model_reloads_as_what_was_trained(made: Made, export: Export, dtype: str, most: float) -> None:
    code, out, err, path = export("trial=1", "export.kind=merged", f"export.dtype={dtype}")
    assert (code, err) == (0, ""), err
    model = AutoModelForCausalLM.from_pretrained(path, dtype="auto")
    assert out.endswith(f'load it in Python: AutoModelForCausalLM.from_pretrained("{path}")\n')
    assert {weight.dtype for weight in model.parameters()} == {getattr(torch, dtype)}
    difference = find_largest_difference(compute_probe_logits(model), made.logits[1])
    assert difference < most
    assert printed_difference(out) == pytest.approx(difference, rel=0.1, abs=1e-4)
    plain = AutoModelForCausalLM.from_config(model.config)
    assert {name: type(module) for name, module in model.named_modules()} == {
        name: type(module) for name, module in plain.named_modules()
    }
    assert not hasattr(model.config, "quantization_config")
    assert model.config.use_cache
    tokenizer = AutoTokenizer.from_pretrained(path)
    assert tokenizer.encode("1+2") == base_of(made.configs[1]).tokenizer.encode("1+2")
    assert find_largest_difference(made.logits[1], compute_probe_logits(base_of(made.configs[1]).model)) > most


# slow: a process that has imported nothing yet takes ten seconds to import what the others have
@pytest.mark.parametrize("own_process", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_an_adapter_loads_with_peft_onto_a_fresh_base(made: Made, export: Export, own_process: bool) -> None:
    code, out, err, path = export("trial=0", own_process=own_process)
    assert (code, err) == (0, ""), err
    model = PeftModel.from_pretrained(base_of(made.configs[0]).model, str(path))
    assert torch.equal(compute_probe_logits(model), made.logits[0])
    assert printed_difference(out) == 0
    assert out.endswith('load it in Python: sweeplab.open_study("runs/made").load_adapter(0)\n')
    assert sorted(one.name for one in path.iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    ]


@pytest.mark.parametrize("kind", ["adapter", "merged"])
def test_several_adapters_become_one(made: Made, export: Export, kind: str) -> None:
    code, _, err, path = export("export.trials=[2,0]", "export.weights=[0.25,0.75]", f"export.kind={kind}")
    assert (code, err) == (0, ""), err
    base = base_of(made.configs[0]).model
    folders = [trial_folder(made.folder / "runs" / "made", number) / "adapter" for number in (0, 2)]
    expected = compute_probe_logits(attach_combined(base, folders, [0.75, 0.25], "cat"))
    fresh = base_of(made.configs[0]).model
    model = (
        AutoModelForCausalLM.from_pretrained(path) if kind == "merged" else PeftModel.from_pretrained(fresh, str(path))
    )
    assert find_largest_difference(compute_probe_logits(model), expected) < 1e-3
    assert "0.25 × trial 2 + 0.75 × trial 0, combined by PEFT's `cat`" in (path / "README.md").read_text()


def test_how_an_adapter_is_loaded_is_said_by_base_and_method(made: Made, compose_study: Any, tmp_path: Path) -> None:
    settings = compose_study(*STUDY, "action=export", "trial=0", f"export.path={tmp_path}/out")
    base_of(made.configs[0].replaced(quantization=quantize("none"))).model.save_pretrained(tmp_path / "base")
    folder = trial_folder(made.folder / "runs" / "made", 0) / "adapter"
    local = made.configs[0].replaced(model=LocalModel(name="mine", path=f"{tmp_path}/base"))
    chosen = [FinishedTrial(TrialRecord(0, Status.FINISHED, 0, {}, {}), local, folder)]
    expected = f'PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("{tmp_path}/base"), "{tmp_path}/out")'
    assert describe_loading(settings, chosen) == expected
    made_of_two = [one._replace(config=made.configs[0]) for one in chosen * 2]
    assert describe_loading(settings, made_of_two) == f'PeftModel.from_pretrained(BASE, "{tmp_path}/out")'
    no_peft = [chosen[0]._replace(config=local.replaced(adapter=adapter_of("norms")))]
    assert describe_loading(settings, no_peft).startswith("sweeplab.open_study(")


MISTAKES: Final = [
    (["trial=9"], r"trial=9 does not exist in runs/made; finished trials: 0, 1, 2, 4, 5"),
    (["trial=3"], r"trial=3 did not finish, it diverged; finished trials: 0, 1, 2, 4, 5"),
    (
        ["trial=4", "export.kind=merged"],
        r"trial=4 trained adapter\.method=prefix, whose virtual tokens are no weights of the base; choose exp",
    ),
    (["trial=5"], r"trial=5 has no adapter in runs/made/trials/00005/adapter; restore the folder, or run"),
    (["trial=0", "export.kind=gguf"], r"export\.kind is unknown, got 'gguf'; choose one of adapter, merged"),
    (
        ["trial=0", "export.dtype=int8"],
        r"export\.dtype is unknown, got 'int8'; choose one of float32, bfloat16, float16",
    ),
    (["trial=0", "export.combination=mean"], r"export\.combination is unknown, got 'mean'; choose one of linear, cat"),
    (
        [],
        r"action=export needs one of trial=N and export\.trials=\[N,M\], got trial=null and export\.trials=\[\]; give",
    ),
    (["trial=0", "export.trials=[0,1]"], r"action=export needs one of trial=N and export\.trials"),
    (
        ["export.trials=[1]", "export.weights=[1]"],
        r"export\.trials must be two or more different trials, got \[1\]; use",
    ),
    (["export.trials=[1,2]"], r"export\.weights must be one number for each of export\.trials=\[1, 2\], got \[\]; try"),
    (
        ["export.trials=[1,2]", "export.weights=[1,0]"],
        r"export\.weights must be numbers other than 0, got \[1\.0, 0\.0\]",
    ),
    (
        ["trial=0", "export.path=null"],
        r"export\.path is missing; give a folder that is not there yet: export\.path=DIR",
    ),
    (["trial=0", "export.path=runs"], r"export\.path must not exist yet, got runs; choose another folder"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES, ids=[" ".join(one) for one, _ in MISTAKES])
def test_a_mistake_is_one_line_and_exit_code_2(made: Made, export: Export, arguments: list[str], message: str) -> None:
    code, out, err, path = export(*arguments)
    assert (code, out) == (2, ""), err
    assert re.fullmatch(rf"sweeplab: {message}[^\n]*\n", err), err
    assert not path.exists()


def test_bases_that_differ_are_not_combined(made: Made, export: Export) -> None:
    folder = trial_folder(made.folder / "runs" / "made", 5) / "adapter"
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text("{}")
    try:
        code, _, err, _ = export("export.trials=[0,5]", "export.weights=[1,1]")
    finally:
        (folder / "adapter_config.json").unlink()
        folder.rmdir()
    assert code == 2
    assert re.fullmatch(r"sweeplab: export\.trials must share one base: trials 0 and 5 differ in quant[^\n]*\n", err), (
        err
    )


def test_an_export_that_moved_the_logits_is_refused() -> None:
    expected = torch.tensor([10.0, -20.0])
    assert compare_logits(expected + 1e-4, expected, {"float32"}).difference == pytest.approx(1e-4, rel=0.1)
    for found, kinds in (
        (expected + 0.1, {"float32"}),
        (expected + 1, {"float16", "float32"}),
        (expected * torch.nan, {"int8"}),
    ):
        with pytest.raises(
            ConfigError, match=r"the export's logits differ by .* so nothing was kept; try export\.dtype"
        ):
            compare_logits(found, expected, kinds)
    assert compare_logits(expected + 1, expected, {"float32", "bfloat16"}).coarsest == "bfloat16"
    assert sorted(_TOLERANCES.values()) == [_TOLERANCES[one] for one in ("float32", "float16", "bfloat16", "int8")]


def test_the_card_says_what_the_record_knows(made: Made, compose_study: Any) -> None:
    record = read_records(made.folder / "runs" / "made")[1]
    record.scores = {"tiny_addition": {"exact_match": Score(0.25, 0.125, 8), "ppl": Score(3.5, None, 8)}}
    settings = compose_study(*STUDY).export
    page = write_card([record], settings, Verdict(1.25e-5, 1e-3, "float32"), None, "python -m sweeplab x")
    for line in (
        "library_name: peft",
        f"| base fingerprint | {record.provenance['base_fingerprint']} |",
        f"| data fingerprint | {record.provenance['data_fingerprint']} |",
        "| trained on a base in | nf4_dq |",
        "| rank | 8 |",
        "| alpha | 16 |",
        "| targets | query, value, head |",
        "| seed | 1 |",
        "| tiny_addition exact_match | 0.25 ± 0.12 (8 items) |",
        "| tiny_addition ppl | 3.5 ± – (8 items) |",
        "python -m sweeplab x",
        f"torch {torch.__version__}",
    ):
        assert line in page
    assert f"| held-out loss, nats/target | {record.heldout_loss_nats_per_token:.4g} |" in page


METHODS: Final = {
    "norms": ("adapter=norms",),
    "top_layers": ("adapter=top_layers", "adapter.num_layers=1"),
    "bitfit": ("adapter=bitfit", "model=tiny_vit", "data=digits"),
    "prompt": ("adapter=prompt",),
    "prefix": ("adapter=prefix",),
    "lora_prefix": ("adapter=lora_prefix",),
    "pissa": ("adapter.initialization=pissa",),
    "olora": ("adapter.initialization=olora",),
}


@pytest.mark.parametrize(
    ("method", "kind"),
    [("lora_prefix", "adapter"), ("pissa", "adapter"), ("top_layers", "merged"), ("bitfit", "merged")]
    # slow: the other half of each, which is merged or loaded by the same code; virtual tokens without LoRA beside
    # them; another initialization that changes the base, beside PiSSA
    + [
        pytest.param(method, kind, marks=pytest.mark.slow)
        for method, kind in (
            *((one, "adapter") for one in ("norms", "top_layers", "bitfit", "prompt", "prefix", "olora")),
            *((one, "merged") for one in ("norms", "pissa", "olora")),
        )
    ],
)
def test_every_method_is_exported_as_it_was_trained(compose_study: Any, tmp_path: Path, method: str, kind: str) -> None:
    """`expected` is taken from the trial's own model, before it is taken apart."""
    chosen = {one.partition("=")[0]: one for one in (*SHORT, *QUICK, "optimizer.lr=0.01", *METHODS[method])}
    export = ("action=export", "trial=0", f"export.kind={kind}", "export.path=out")
    settings = compose_study(*chosen.values(), *export)
    config = settings.trial_config()
    spec = TrialSpec(0, 3, {}, config, tmp_path / "trial")
    expected = []
    with pytest.MonkeyPatch.context() as patch:

        def saved(model: Any, folder: Path) -> int:
            expected.append(compute_probe_logits(model))
            return save_adapter(model, folder)

        patch.setattr("sweeplab.trial.scoring.save_adapter", saved)
        record = run_alone(spec, Resources(CPU))
    assert record.status is Status.FINISHED, record.reason
    made = FinishedTrial(record, config, spec.folder / "adapter")
    (tmp_path / "out").mkdir()
    verdict = export_to(tmp_path / "out", [made], settings)
    assert verdict.difference <= verdict.tolerance
    found = compute_exported_logits(made, settings.export, tmp_path / "out", CPU)
    torch.testing.assert_close(found, expected[0], rtol=1e-4, atol=1e-4)
    base = compute_probe_logits(base_of(config).model)
    assert find_largest_difference(found[..., -base.shape[1] :, :] if found.ndim == 3 else found, base) > 1e-3


def test_the_card_says_the_rank_that_a_budget_chose(compose_study: Any) -> None:
    settings = compose_study(*STUDY)
    layers = [{"name": name, "rank": rank, "alpha": 2.0 * rank} for name, rank in (("a", 3), ("b", 12), ("c", 3))]
    record = TrialRecord(0, Status.FINISHED, 0, {}, settings.trial_config().to_dict(), adapter_layers=layers)
    page = write_card([record], settings.export, Verdict(0, 1, "float32"), None, "")
    assert "| rank | 3, 12 |" in page
    assert "| alpha | 6, 24 |" in page


def test_the_best_is_the_best_seed_of_the_setting_that_leads(made: Made, tmp_path: Path) -> None:
    study, loss = tmp_path / "runs" / "made", "heldout_loss_nats_per_token"
    space = {"adapter.rank": {"choices": [4, 8]}}
    facts = StudyFacts("made", None, "", {loss: "minimize"}, [0, 1, 2], space, 3, {})
    write_facts(study, facts)
    records = read_records(made.folder / "runs" / "made")[:3]
    for record in records:
        value = 2.0 if record.params["adapter.rank"] == 4 else 1.0 + record.number / 100
        write_record(study, replace(record, heldout_loss_nats_per_token=value))
        shutil.copytree(
            trial_folder(made.folder / "runs" / "made", record.number) / "adapter",
            trial_folder(study, record.number) / "adapter",
        )
    path = tmp_path / "out"
    code, out, err, _ = answer([*STUDY, "action=export", "trial=best", f"export.path={path}"], tmp_path)
    assert (code, err) == (0, "")
    best = min(record.number for record in records if record.params["adapter.rank"] == 8)
    assert f"trial {best} as adapter" in out
    write_facts(study, replace(facts, constraints={loss: {"max": 0.5}}))
    code, _, err, _ = answer([*STUDY, "action=export", "trial=best", f"export.path={path}2"], tmp_path)
    assert code == 2
    assert "trial=best: no setting leads" in err
