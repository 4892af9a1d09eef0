"""The recommended setting for other trainers: each file is read by its own library, and says what was trained."""

import ast
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from peft import LoraConfig, PeftConfig, get_peft_model
from transformers import TrainingArguments

from sweeplab.adapters.attach import attach_adapter
from sweeplab.adapters.lora import describe_adapter_layers
from sweeplab.config.model import HubModel
from sweeplab.records.record import Status, TrialRecord
from sweeplab.report.recipes.files import build_recipe_files
from tests.architectures import build_tiny_model
from tests.configs import PLAIN

WORDS = "Use rank=8."
LAYERS = [f"model.layers.{number}.self_attn.{name}" for number in (0, 1) for name in ("q_proj", "v_proj")]
QLORA = ("quantization=nf4_dq", "adapter.rank=8", "adapter.alpha_ratio=2", "adapter.dropout=0.1")


def record_of(compose_trial: Any, *overrides: str, ranks: list[int] | None = None) -> TrialRecord:
    layers = [
        {"name": name, "rank": rank, "alpha": 16.0, "scaling": 16 / rank, "lr_A": 1e-3, "lr_B": 1e-3}
        for name, rank in zip(LAYERS, ranks or [8] * 4, strict=True)
    ]
    return TrialRecord(3, Status.FINISHED, 7, {}, compose_trial(*overrides).to_dict(), adapter_layers=layers)


@pytest.fixture
def written(compose_trial: Any, tmp_path: Path) -> Path:
    for name, text in build_recipe_files(record_of(compose_trial, *QLORA), WORDS).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_peft_reads_its_file_and_has_what_was_trained(written: Path) -> None:
    config = PeftConfig.from_pretrained(str(written))
    assert isinstance(config, LoraConfig)
    assert sorted(config.target_modules or []) == sorted(LAYERS)
    assert (config.r, config.lora_alpha, config.lora_dropout) == (8, 16.0, 0.1)
    assert (config.use_rslora, config.use_dora, config.init_lora_weights) == (False, False, True)


def test_matrices_of_their_own_rank_are_in_the_pattern(compose_trial: Any, tmp_path: Path) -> None:
    record = record_of(compose_trial, *QLORA, ranks=[8, 8, 8, 4])
    files = build_recipe_files(record, WORDS)
    assert json.loads(files["adapter_config.json"])["rank_pattern"] == {LAYERS[3]: 4}
    assert "# Not expressed: matrices of other ranks" in files["axolotl.yml"]


def test_experts_in_one_tensor_are_parameters(compose_trial: Any, tmp_path: Path) -> None:
    """PEFT adapts by the file what the trial had adapted."""
    model, adapter = build_tiny_model("mixtral"), PLAIN.replaced(rank=2, dropout=0.0, lora_query=True, lora_mlp=True)
    adapted = attach_adapter(model, adapter, HubModel(name="mixtral"), 0)
    trained = {name: weight.shape for name, weight in adapted.named_parameters() if weight.requires_grad}
    layers = describe_adapter_layers(adapted, lambda name: 1e-3)
    record = replace(record_of(compose_trial, "adapter.lora_mlp=true"), adapter_layers=layers)
    files = build_recipe_files(record, WORDS)
    (tmp_path / "adapter_config.json").write_text(files["adapter_config.json"], encoding="utf-8")
    config = PeftConfig.from_pretrained(str(tmp_path))
    config.base_model_name_or_path = None  # a model without a name
    by_file = get_peft_model(build_tiny_model("mixtral"), config)
    assert {name: weight.shape for name, weight in by_file.named_parameters() if weight.requires_grad} == trained
    assert any("experts" in name for name in trained)
    gap = "# Not expressed: experts in one tensor (target_parameters): only adapter_config.json has them"
    assert gap in files["axolotl.yml"]
    assert "experts" not in files["unsloth.py"].partition("import")[2]


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing` is deprecated:FutureWarning")  # TRL's own default
@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (("optimizer=adamw", "schedule=cosine"), {"optim": "adamw_torch", "lr_scheduler_type": "cosine"}),
        (("optimizer=paged_adamw_8bit", "schedule=constant"), {"optim": "paged_adamw_8bit"}),
        (("optimizer=sgd", "schedule=linear", "schedule.warmup_steps=3"), {"optim": "sgd", "warmup_steps": 3}),
        (("schedule.end_factor=0.1",), {"lr_scheduler_type": "cosine_with_min_lr"}),
        (("training.precision=float32", "++optimizer.eps=1e-7"), {"bf16": False, "adam_epsilon": 1e-7}),
        (("training.max_steps=5", "training.accumulation=2"), {"max_steps": 5, "gradient_accumulation_steps": 2}),
    ],
)
def test_trl_and_transformers_take_the_arguments(
    compose_trial: Any, tmp_path: Path, overrides: tuple[str, ...], expected: dict[str, Any]
) -> None:
    trl = pytest.importorskip("trl")
    arguments = json.loads(build_recipe_files(record_of(compose_trial, *overrides), WORDS)["trl_sft.json"])
    said = {name: value for name, value in arguments.items() if name != "optim"}
    assert {name: said[name] for name in expected if name != "optim"} == {
        name: value for name, value in expected.items() if name != "optim"
    }
    assert arguments["optim"].startswith(expected.get("optim", ""))
    of_trl = ("max_length", "packing", "completion_only_loss")
    plain = {name: value for name, value in arguments.items() if name not in of_trl}
    read = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to=[], **{"bf16": False} | plain)
    assert (read.learning_rate, read.seed) == (arguments["learning_rate"], 7)
    sft = trl.SFTConfig(output_dir=str(tmp_path), use_cpu=True, report_to=[], **{"bf16": False} | arguments)
    assert (sft.max_length, sft.packing, sft.completion_only_loss) == (256, False, True)


def test_axolotl_and_unsloth_say_the_same(written: Path) -> None:
    fields = yaml.safe_load((written / "axolotl.yml").read_text(encoding="utf-8"))
    assert (fields["adapter"], fields["load_in_4bit"]) == ("qlora", True)
    assert (fields["lora_r"], fields["lora_alpha"]) == (8, 16.0)
    assert fields["lora_target_modules"] == LAYERS
    script = (written / "unsloth.py").read_text(encoding="utf-8")
    calls = [node for node in ast.walk(ast.parse(script)) if isinstance(node, ast.Call)]
    named = {one.arg: one.value for call in calls for one in call.keywords}
    assert ast.literal_eval(named["target_modules"]) == ["q_proj", "v_proj"]
    assert (ast.literal_eval(named["r"]), ast.literal_eval(named["load_in_4bit"])) == (8, True)


@pytest.mark.parametrize(
    ("overrides", "gap"),
    [
        (("adapter=loraplus",), "adapter.lr_ratio="),
        (("optimizer=sophia",), "optimizer sweeplab.training.sophia.SophiaG"),
        (("schedule=linear", "schedule.end_factor=0.2"), "schedule.end_factor=0.2"),
        (("adapter=bitfit",), "adapter bitfit"),
    ],
)
def test_what_others_cannot_express_is_said(compose_trial: Any, overrides: tuple[str, ...], gap: str) -> None:
    record = record_of(compose_trial, *overrides)
    files = build_recipe_files(record, WORDS)
    assert gap in files["README.md"]
    if "axolotl.yml" in files:
        assert f"# Not expressed: {gap}" in files["axolotl.yml"]
    else:
        assert set(files) == {"README.md", "trl_sft.json"}


def test_words_of_a_study_stay_in_their_comment(compose_trial: Any) -> None:
    record = replace(record_of(compose_trial, *QLORA), seed=0)
    record.config["model"]["name"] = "a'b\nimport os"
    files = build_recipe_files(record, WORDS)
    ast.parse(files["unsloth.py"])
    assert yaml.safe_load(files["axolotl.yml"])["base_model"] == "a'b\nimport os"
