"""A real model and lm-eval's own way to score it."""

import json
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

import pytest
import torch
from peft import LoraConfig, get_peft_model

from sweeplab.config.evaluation import EvaluationConfig
from sweeplab.config.model import LocalModel
from sweeplab.evaluation.harness import run_lm_eval
from sweeplab.evaluation.results import Evaluation
from sweeplab.models.base import Base, load_base
from tests.configs import quantize
from tests.trials import SHARED_DATA

SOURCES: Final = {  # task -> lm-eval's file, and the splits of our files
    "truthfulqa_mc1": ("truthfulqa/truthfulqa_mc1", {"validation": "truthfulqa_mc"}),
    "truthfulqa_mc2": ("truthfulqa/truthfulqa_mc2", {"validation": "truthfulqa_mc"}),
    "arithmetic_2ds": ("arithmetic/arithmetic_2ds", {"validation": "two_digit_subtraction"}),
    "arithmetic_4ds": ("arithmetic/arithmetic_4ds", {"validation": "four_digit_subtraction"}),
    "blimp_causative": ("blimp/causative", {"train": "blimp_causative"}),
    "mmlu_global_facts": (
        "mmlu/default/mmlu_global_facts",
        {"test": "mmlu_global_facts_test", "dev": "mmlu_global_facts_dev"},
    ),
}


def settings(*tasks: str, limit: int | None = 40, **changes: Any) -> EvaluationConfig:
    values = {"batch_size": 32, "bootstrap_iters": 1000, "apply_chat_template": False} | changes
    return EvaluationConfig(tasks=list(tasks), limit=limit, **values)


def evaluated(model: torch.nn.Module, tokenizer: Any, asked: EvaluationConfig) -> Evaluation:
    """A cohort of one."""
    (made,) = run_lm_eval(model, tokenizer, asked, 1, lambda places: nullcontext())
    return made


def task_folder(folder: Path, tasks: Sequence[str], data: Path) -> Path:
    """A folder for lm-eval's `--include_path`: its own tasks, with their data from files by the `datasets` library."""
    import lm_eval

    home = Path(str(lm_eval.__file__)).parent / "tasks"
    for task in tasks:
        source, splits = SOURCES[task]
        files = {split: str(data / f"{name}.jsonl") for split, name in splits.items()}
        changes = {
            "include": str(home / f"{source}.yaml"),
            "task": task,
            "dataset_path": "json",
            "dataset_name": None,
            "dataset_kwargs": {"data_files": files, "cache_dir": str(folder / "cache")},
        }
        (folder / f"{task}.yaml").write_text(json.dumps(changes))  # JSON is YAML
    return folder


@pytest.fixture(scope="session")
def stories() -> Base:
    """A small real Llama."""
    if not SHARED_DATA.is_dir():
        pytest.skip("no folder shared/data beside the checkout")
    model = LocalModel(name="stories", path=str(SHARED_DATA / "stories260K"), random_init=False, modules={})
    return load_base(model, quantize("none", False), torch.float32, torch.device("cpu"))


def with_adapter(model: Any, spread: float = 0.1) -> Any:
    """The model with a LoRA whose B is not zero."""
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "down_proj"]))
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, spread)
    return adapted.eval()
