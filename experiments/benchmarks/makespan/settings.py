"""The trials that every way runs, what they have in common, and the models that they are of."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from hydra import initialize_config_dir

from sweeplab.config.compose import trial_config
from sweeplab.config.conf import CONF
from sweeplab.config.trial import TrialConfig

NAME: Final = "makespan"
RATES: Final = (1e-3, 3e-3)
LAYERS: Final = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
TOGGLES: Final = ("query", "key", "value", "projection", "mlp")
GLOBAL_FACTS: Final = {  # four answers to each question, as ARC has them, whose items are on the hub only
    "task": "global_facts",
    "test_split": "test",
    "output_type": "multiple_choice",
    "doc_to_text": "Question: {{question}}\nAnswer:",
    "doc_to_choice": "choices",
    "doc_to_target": "answer",
    "metric_list": [
        {"metric": "acc", "aggregation": "mean", "higher_is_better": True},
        {"metric": "acc_norm", "aggregation": "mean", "higher_is_better": True},
    ],
    "metadata": {"version": 1.0},
}


class Trial(NamedTuple):
    rank: int
    rate: float
    seed: int


class Model(NamedTuple):
    """A base with what is trained on it, and what it is scored on."""

    title: str
    overrides: tuple[str, ...]
    ranks: tuple[int, ...]
    seeds: tuple[int, ...]
    num_steps: int
    target_modules: tuple[str, ...]
    tasks: tuple[str, ...]
    items: str | None = None  # of the task global_facts; None: the tasks are those of the small world
    limit: int | None = None

    @property
    def trials(self) -> list[Trial]:
        return [Trial(rank, rate, seed) for seed in self.seeds for rank in self.ranks for rate in RATES]

    @property
    def base(self) -> str:
        """The folder of its weights."""
        from sweeplab.models.base import _EMBEDDED

        given = [one.removeprefix("model.path=") for one in self.overrides if one.startswith("model.path=")]
        return str(Path(given[0]).absolute()) if given else str(_EMBEDDED)


TINY: Final = Model(
    "the embedded base",
    ("adapter.lora_head=true",),
    ranks=(2, 8, 16, 32),
    seeds=(0, 1),
    num_steps=50,
    target_modules=(*LAYERS, "lm_head"),
    tasks=("tiny_new_facts", "tiny_new_facts_choice", "tiny_old_facts", "tiny_old_facts_choice"),
)


def on_real_model(title: str, model: str, data: str, items: str, style: str) -> Model:
    """Four trials of 20 steps of 8 records on a base of a folder, scored on 50 questions with four answers."""
    where = {name: str(Path(path).absolute()) for name, path in (("model", model), ("data", data))}
    return Model(
        title,
        (
            *("model=local", f"model.path={where['model']}", "data=json", f"data.path={where['data']}"),
            *(f"data.style={style}", "data.num_examples=1000", "data.num_heldout=50", "data.max_skipped=0.05"),
            *("training.micro_batch_size=8", "evaluation.batch_size=16"),
            "study.objectives=[heldout_loss_nats_per_token]",
        ),
        ranks=(8, 16),
        seeds=(0,),
        num_steps=20,
        target_modules=LAYERS,
        tasks=("global_facts",),
        items=str(Path(items).absolute()),
        limit=50,
    )


_HERE: Final = ("models/alpaca_5000.json", "models/eval/mmlu_global_facts_test.jsonl")
MODELS: Final[Mapping[str, Model]] = {
    "tiny_base": TINY,
    "smollm2": on_real_model("SmolLM2-135M-Instruct", "models/smollm2", *_HERE, "template"),
    "stories260k": on_real_model("stories260K", "models/stories260K", *_HERE, "alpaca"),
}


def overrides(model: Model, num_steps: int) -> list[str]:
    """LoRA on all matrices in 32 bits, AdamW, half a cosine without warmup, as the peers have it by default too."""
    study = [one for one in model.overrides if not one.startswith("study.")]
    return [
        *(f"adapter.lora_{name}=true" for name in TOGGLES),
        *study,
        "quantization=none",
        "training.precision=float32",
        "schedule=cosine",
        "schedule.warmup_steps=0",
        "training.gradient_clip=1.0",
        f"training.max_steps={num_steps}",
    ]


def of_study(model: Model, tasks: Path) -> list[str]:
    """What the study is asked for beside its trials; `tasks`: the folder with the tasks' files."""
    axes = [f"space.adapter.rank.choices={list(model.ranks)}", f"space.optimizer.lr.choices={list(RATES)}"]
    scored = []
    if model.items is not None:
        scored = [f"evaluation.tasks={list(model.tasks)}", f"evaluation.include_path={tasks}"]
        scored += [f"evaluation.limit={model.limit}", "evaluation.limit_seed=null"]  # the first ones, as lm-eval's
    return [*axes, *scored, *(one for one in model.overrides if one.startswith("study."))]


def config_of(trial: Trial, num_steps: int, model: Model = TINY) -> TrialConfig:
    params: dict[str, Any] = {"adapter.rank": trial.rank, "optimizer.lr": trial.rate}
    none = [] if model.items is None else ["evaluation.tasks=[]"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return trial_config([*overrides(model, num_steps), *none], params)


def named(folder: Path, trial: Trial) -> Path:
    """Where a way leaves what it made of a trial."""
    return folder / f"rank{trial.rank}-lr{trial.rate:g}-seed{trial.seed}"


def write_tasks(folder: Path, model: Model) -> None:
    """The tasks as files for lm-eval's command line, whose items are JSON lines."""
    from sweeplab.builtin.tasks import WORLD_TASKS, make_documents

    folder.mkdir()
    for name in model.tasks:
        data = folder / f"{name}.jsonl"
        if model.items is not None:
            data.write_text(Path(model.items).read_text())
        else:
            make_documents(name.removeprefix("tiny_").removesuffix("_choice"))["test"].to_json(str(data))
        asked = GLOBAL_FACTS if model.items is not None else WORLD_TASKS[name]
        task = {key: value for key, value in asked.items() if key != "custom_dataset"}
        task |= {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(data)}}}
        (folder / f"{name}.yaml").write_text(json.dumps(task))  # which is YAML too
