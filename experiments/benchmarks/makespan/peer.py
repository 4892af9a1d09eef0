"""What a user would script today: PEFT and transformers' Trainer on the same base, rows and settings.

`peer.py JOB.json`: trains the trials that the job names, one after another, and writes held-out losses and times; with
`evaluate`, scores each with lm-eval in the same process, else leaves that to lm-eval's command line.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch.utils.data import Sampler, SequentialSampler
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

IGNORED = -100


class InOrder(Trainer):
    """Rows come in the order of the job's file, so that every way sees the same batches."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        return SequentialSampler(self.train_dataset)  # type: ignore[arg-type]


def padded(rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    """Rows of ids and labels as a batch, padded on the right."""
    width = max(len(row["ids"]) for row in rows)

    def column(name: str, filler: int) -> torch.Tensor:
        return torch.tensor([row[name] + [filler] * (width - len(row[name])) for row in rows])

    mask = torch.tensor([[1] * len(row["ids"]) + [0] * (width - len(row["ids"])) for row in rows])
    return {"input_ids": column("ids", 0), "labels": column("labels", IGNORED), "attention_mask": mask}


@torch.no_grad()
def heldout_loss(model: Any, rows: list[dict[str, list[int]]], batch_size: int) -> float:
    """Nats per target token."""
    model.eval()
    total, count = 0.0, 0
    for start in range(0, len(rows), batch_size):
        batch = padded(rows[start : start + batch_size])
        num_targets = int((batch["labels"][:, 1:] != IGNORED).sum())
        total += model(**batch).loss.item() * num_targets
        count += num_targets
    return total / count


def train(base: Any, trial: dict[str, Any], job: dict[str, Any], folder: Path) -> Any:
    """PEFT's model after training."""
    torch.manual_seed(trial["seed"])
    model = get_peft_model(
        base,
        LoraConfig(
            task_type="CAUSAL_LM",
            r=trial["rank"],
            lora_alpha=2 * trial["rank"],
            target_modules=job["target_modules"],
        ),
    )
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=job["num_steps"],
        per_device_train_batch_size=job["micro_batch_size"],
        learning_rate=trial["rate"],
        weight_decay=job["weight_decay"],
        lr_scheduler_type="cosine",
        optim="adamw_torch_fused",
        max_grad_norm=1.0,
        logging_steps=10,
        save_strategy="no",
        report_to=[],
        seed=trial["seed"],
        use_cpu=True,
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    InOrder(model=model, args=arguments, train_dataset=trial["rows"], data_collator=padded).train()
    return model


def score(model: Any, tokenizer: Any, job: dict[str, Any]) -> dict[str, Any]:
    """lm-eval in this process, on the tasks that its command line gets too."""
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=job["tasks_folder"], include_defaults=False)
    lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=job["evaluation_batch_size"])
    found: Any = simple_evaluate(model=lm, tasks=job["tasks"], task_manager=manager, limit=job.get("limit"))
    results: dict[str, Any] = found["results"]
    return results


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    tokenizer = AutoTokenizer.from_pretrained(job["base"])
    base = AutoModelForCausalLM.from_pretrained(job["base"], dtype=torch.float32)
    told = []
    for trial in job["trials"]:
        folder = Path(trial["folder"])
        started = time.perf_counter()
        model = train(base, trial, job, folder)
        trained = time.perf_counter()
        loss = heldout_loss(model, job["heldout"], job["evaluation_batch_size"])
        model.save_pretrained(str(folder))
        scores = score(model, tokenizer, job) if job["evaluate"] else None
        told.append({"heldout_loss": loss, "train_seconds": trained - started, "scores": scores})
        base = model.unload()
    Path(job["out"]).write_text(json.dumps(told))


if __name__ == "__main__":
    main()
