"""The files: PEFT's adapter_config.json, arguments for TRL and transformers, an axolotl YAML, an Unsloth script.

Field names: peft 0.21 (LoraConfig), transformers 5 (TrainingArguments), trl 1.16 (SFTConfig), axolotl's and Unsloth's
documentation, 2026-11.
"""

import json
from collections.abc import Iterator
from typing import Any, Final

import yaml

from sweeplab.records.record import TrialRecord
from sweeplab.report.recipes.facts import LoraFacts, RecipeFacts, read_recipe

_SCHEDULES: Final = {"constant": "constant_with_warmup", "linear": "linear", "cosine": "cosine"}


def build_recipe_files(record: TrialRecord, words: str) -> dict[str, str]:
    """The text of each file by name, for a finished trial of the setting. `words` say what the setting is."""
    facts = read_recipe(record)
    files = {"README.md": _write_readme(facts, words), "trl_sft.json": _to_json(list_sft_arguments(facts))}
    if facts.lora is not None:
        files["adapter_config.json"] = _to_json(list_peft_fields(facts, facts.lora))
        files["axolotl.yml"] = _write_axolotl(facts, facts.lora, words)
        files["unsloth.py"] = _write_unsloth(facts, facts.lora, words)
    return files


def _to_json(values: dict[str, Any]) -> str:
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def list_peft_fields(facts: RecipeFacts, lora: LoraFacts) -> dict[str, Any]:
    """The fields of `peft.LoraConfig`."""
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": facts.model,
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "bias": lora.bias,
        "target_modules": lora.targets,
        "rank_pattern": lora.rank_pattern,
        "alpha_pattern": lora.alpha_pattern,
        "use_rslora": lora.uses_rslora,
        "use_dora": lora.uses_dora,
        "init_lora_weights": lora.initialization,
    } | ({"target_parameters": lora.parameters} if lora.parameters else {})


def list_sft_arguments(facts: RecipeFacts) -> dict[str, Any]:
    """Arguments of `trl.SFTConfig`; without the last three they are those of `transformers.TrainingArguments`."""
    training = facts.training
    arguments: dict[str, Any] = {
        "learning_rate": facts.lr,
        "lr_scheduler_type": _SCHEDULES[facts.schedule],
        "warmup_steps": facts.warmup,
        "optim": facts.optimizer,
        "per_device_train_batch_size": training["micro_batch_size"] // training["num_devices"],
        "gradient_accumulation_steps": training["accumulation"],
        "max_grad_norm": training["gradient_clip"] or 0.0,
        "seed": facts.seed,
    }
    if training["precision"] != "auto":
        arguments["bf16"] = training["precision"] == "bfloat16"
    if facts.schedule == "cosine" and facts.end_factor:
        arguments["lr_scheduler_type"] = "cosine_with_min_lr"
        arguments["lr_scheduler_kwargs"] = {"min_lr_rate": facts.end_factor}
    if facts.betas is not None:
        arguments |= {"adam_beta1": facts.betas[0], "adam_beta2": facts.betas[1]}
    if facts.eps is not None:
        arguments["adam_epsilon"] = facts.eps
    if facts.weight_decay is not None:
        arguments["weight_decay"] = facts.weight_decay
    whole = training["max_steps"] is not None
    arguments |= {"max_steps": training["max_steps"]} if whole else {"num_train_epochs": training["epochs"]}
    return arguments | {
        "max_length": training["max_length"],
        "packing": facts.packing,
        "completion_only_loss": facts.masks_prompt,
    }


def _list_axolotl_fields(facts: RecipeFacts, lora: LoraFacts) -> dict[str, Any]:
    """Fields of an axolotl YAML; the data's format is left to the user."""
    training, arguments = facts.training, list_sft_arguments(facts)
    fields: dict[str, Any] = {
        "base_model": facts.model,
        "load_in_4bit": facts.is_four_bit,
        "load_in_8bit": facts.scheme == "int8",
        "adapter": "qlora" if facts.is_four_bit else "lora",
        "lora_r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "lora_target_modules": lora.targets,
        "peft_use_rslora": lora.uses_rslora,
        "peft_use_dora": lora.uses_dora,
        "datasets": [{"path": facts.data, "type": "alpaca"}],
        "train_on_inputs": not facts.masks_prompt,
        "sequence_len": training["max_length"],
        "sample_packing": facts.packing,
        "micro_batch_size": arguments["per_device_train_batch_size"],
        "gradient_accumulation_steps": training["accumulation"],
        "learning_rate": facts.lr,
        "lr_scheduler": "cosine" if facts.schedule == "cosine" else arguments["lr_scheduler_type"],
        "optimizer": facts.optimizer,
        "max_grad_norm": arguments["max_grad_norm"],
        "gradient_checkpointing": training["gradient_checkpointing"],
        "seed": facts.seed,
        "output_dir": "out",
    }
    fields |= {"warmup_steps": int(facts.warmup)} if facts.warmup >= 1 else {"warmup_ratio": facts.warmup}
    if facts.weight_decay is not None:
        fields["weight_decay"] = facts.weight_decay
    if facts.schedule == "cosine" and facts.end_factor:
        fields["cosine_min_lr_ratio"] = facts.end_factor
    whole = training["max_steps"] is not None
    return fields | ({"max_steps": training["max_steps"]} if whole else {"num_epochs": training["epochs"]})


def _list_gaps(facts: RecipeFacts, lora: LoraFacts | None) -> Iterator[str]:
    yield from facts.not_expressed
    if lora is not None and (lora.rank_pattern or lora.alpha_pattern):
        yield "matrices of other ranks or alphas: only adapter_config.json has them"
    if lora is not None and lora.parameters:
        yield "experts in one tensor (target_parameters): only adapter_config.json has them"
    if facts.schedule == "linear" and facts.end_factor:
        yield f"schedule.end_factor={facts.end_factor:g}: these trainers' linear schedule ends at 0"


def _comment(facts: RecipeFacts, lora: LoraFacts, words: str) -> str:
    gaps = [f"# Not expressed: {gap}" for gap in _list_gaps(facts, lora)]
    return "\n".join([f"# {words}", *gaps]) + "\n"


def _write_axolotl(facts: RecipeFacts, lora: LoraFacts, words: str) -> str:
    fields = yaml.safe_dump(_list_axolotl_fields(facts, lora), sort_keys=False, allow_unicode=True)
    return f"{_comment(facts, lora, words)}# Name the format of your data in datasets.\n{fields}"


def _write_unsloth(facts: RecipeFacts, lora: LoraFacts, words: str) -> str:
    targets = sorted({name.rpartition(".")[2] for name in lora.targets})
    arguments = "".join(f"    {name}={value!r},\n" for name, value in list_sft_arguments(facts).items())
    return (
        f"{_comment(facts, lora, words)}"
        "from unsloth import FastLanguageModel\n"
        "from trl import SFTConfig, SFTTrainer\n\n"
        "model, tokenizer = FastLanguageModel.from_pretrained(\n"
        f"    model_name={facts.model!r}, max_seq_length={facts.training['max_length']}, "
        f"load_in_4bit={facts.is_four_bit}\n)\n"
        "model = FastLanguageModel.get_peft_model(\n"
        f"    model, r={lora.rank}, lora_alpha={lora.alpha:g}, lora_dropout={lora.dropout:g}, bias={lora.bias!r},\n"
        f"    target_modules={targets!r},\n"
        f"    use_rslora={lora.uses_rslora}, random_state={facts.seed},\n)\n"
        f"arguments = SFTConfig(\n    output_dir='out',\n{arguments})\n"
        "# trainer = SFTTrainer(model=model, args=arguments, train_dataset=..., processing_class=tokenizer)\n"
    )


def _write_readme(facts: RecipeFacts, words: str) -> str:
    gaps = "".join(f"- {gap}\n" for gap in _list_gaps(facts, facts.lora)) or "- nothing\n"
    rows = ["| trl_sft.json | `trl.SFTConfig(output_dir='out', **json.load(open('trl_sft.json')))` |"]
    if facts.lora is not None:
        rows += [
            "| adapter_config.json | `peft.PeftConfig.from_pretrained(FOLDER)` |",
            "| axolotl.yml | `axolotl train axolotl.yml` |",
            "| unsloth.py | a script to complete |",
        ]
    table = "\n".join(["| file | read it with |", "| --- | --- |", *rows])
    return f"# The setting for other trainers\n\n{words}\n\n{table}\n\nNot expressed in all of them:\n\n{gaps}"
