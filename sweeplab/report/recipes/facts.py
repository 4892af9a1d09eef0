"""What a trial was trained with, in the words that most trainers share."""

from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

from sweeplab.records.record import TrialRecord

_OPTIMIZERS: Final = {  # names of transformers.TrainingArguments.optim, which TRL, axolotl and Unsloth share
    "torch.optim.AdamW": "adamw_torch",
    "bitsandbytes.optim.AdamW8bit": "adamw_bnb_8bit",
    "bitsandbytes.optim.Lion": "lion_32bit",
    "bitsandbytes.optim.PagedAdamW32bit": "paged_adamw_32bit",
    "bitsandbytes.optim.PagedAdamW8bit": "paged_adamw_8bit",
    "torch.optim.SGD": "sgd",
}
_READ_OF_OPTIMIZER: Final = ("_target_", "lr", "betas", "eps", "weight_decay", "fused")
NEEDED: Final = frozenset(("model", "data", "adapter", "quantization", "optimizer", "schedule", "training"))
_FOUR_BITS: Final = ("nf4", "fp4")


@dataclass(frozen=True)
class LoraFacts:
    """The adapter: PEFT's words. Matrices of another rank or alpha than most are in the patterns, by full name."""

    targets: list[str]  # full names of the matrices
    parameters: list[str]  # of those that PEFT adapts as parameters: experts in one tensor
    rank: int
    alpha: float
    rank_pattern: dict[str, int]
    alpha_pattern: dict[str, float]
    dropout: float
    bias: str
    uses_rslora: bool
    uses_dora: bool
    initialization: str | bool


@dataclass(frozen=True)
class RecipeFacts:
    """A trial's configuration, and what of it no other trainer has a word for."""

    model: str
    data: str
    lora: LoraFacts | None  # None: the adapter is no LoRA
    scheme: str  # of the quantized base
    is_double: bool
    optimizer: str
    lr: float
    betas: tuple[float, float] | None
    eps: float | None
    weight_decay: float | None
    schedule: str
    warmup: float  # steps, or a share of them below 1
    end_factor: float
    training: dict[str, Any]
    seed: int
    packing: bool
    masks_prompt: bool
    not_expressed: list[str]

    @property
    def is_four_bit(self) -> bool:
        return self.scheme in _FOUR_BITS


def read_recipe(record: TrialRecord) -> RecipeFacts:
    """The facts of a finished trial."""
    config = record.config
    adapter, optimizer, schedule = config["adapter"], config["optimizer"], config["schedule"]
    target, quantization = str(optimizer["_target_"]), config["quantization"]
    betas = optimizer.get("betas")
    steps = schedule.get("warmup_steps")
    missing = [f"optimizer {key}={value}" for key, value in optimizer.items() if key not in _READ_OF_OPTIMIZER]
    if target not in _OPTIMIZERS:
        missing.append(f"optimizer {target}")
    if quantization.get("pattern") or quantization["scheme"] not in (*_FOUR_BITS, "int8", "none"):
        missing.append(f"quantization {quantization}")
    missing += _list_odd_adapter(adapter)
    is_fused = optimizer.get("fused") is True and target == "torch.optim.AdamW"
    return RecipeFacts(
        model=str(config["model"].get("path") or config["model"]["name"]),
        data=str(config["data"].get("path") or config["data"]["name"]),
        lora=_read_lora(record),
        scheme=quantization["scheme"],
        is_double=bool(quantization.get("double")),
        optimizer=_OPTIMIZERS.get(target, "adamw_torch") + ("_fused" if is_fused else ""),
        lr=float(optimizer["lr"]),
        betas=None if betas is None else (float(betas[0]), float(betas[1])),
        eps=optimizer.get("eps"),
        weight_decay=optimizer.get("weight_decay"),
        schedule=schedule["shape"],
        warmup=float(schedule.get("warmup_ratio") or 0.0) if steps is None else float(steps),
        end_factor=float(schedule.get("end_factor") or 0.0),
        training=config["training"],
        seed=record.seed,
        packing=bool(config["data"].get("packing")),
        masks_prompt=bool(config["data"].get("mask_prompt", True)),
        not_expressed=missing,
    )


def _list_odd_adapter(adapter: dict[str, Any]) -> list[str]:
    """Parts of an adapter for which PEFT's configuration has no word."""
    missing = [] if adapter["method"] == "lora" else [f"adapter {adapter['method']}"]
    if adapter.get("lr_ratio", 1.0) != 1.0:
        missing.append(f"adapter.lr_ratio={adapter['lr_ratio']:g}: a rate of B that is not A's (LoRA+)")
    missing += [f"adapter.{key}={adapter[key]}" for key in ("lr_pattern", "train_norms") if adapter.get(key)]
    return missing


def _read_lora(record: TrialRecord) -> LoraFacts | None:
    """The adapter as it stood on the base: every matrix by its full name. None for what is no LoRA."""
    adapter, layers = record.config["adapter"], record.adapter_layers
    if adapter["method"] != "lora" or not layers:
        return None
    rank = Counter(int(one["rank"]) for one in layers).most_common(1)[0][0]
    alpha = Counter(float(one["alpha"]) for one in layers).most_common(1)[0][0]
    initialization = adapter.get("initialization", "default")
    return LoraFacts(
        targets=[one["name"] for one in layers if not one.get("is_parameter")],
        parameters=[one["name"] for one in layers if one.get("is_parameter")],
        rank=rank,
        alpha=alpha,
        rank_pattern={one["name"]: int(one["rank"]) for one in layers if one["rank"] != rank},
        alpha_pattern={one["name"]: float(one["alpha"]) for one in layers if one["alpha"] != alpha},
        dropout=float(adapter["dropout"]),
        bias=adapter["bias"],
        uses_rslora=adapter["rslora"],
        uses_dora=adapter["dora"],
        initialization=True if initialization == "default" else initialization,
    )
