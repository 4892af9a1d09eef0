"""Typed configuration with units; `checks` refuses what cannot run.

Defaults live in `conf/`, once; a field without a value here must be given there. Hydra merges `conf/` into these
dataclasses, so a mistyped key or a wrong type is refused by name before anything is imported that takes long.
"""

import re
from dataclasses import dataclass, field, fields
from decimal import Decimal
from typing import Any, Final, NoReturn

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, OmegaConf

from sweeplab.claims import ClaimConfig
from sweeplab.sections import CompareConfig as CompareConfig
from sweeplab.sections import ExportConfig as ExportConfig
from sweeplab.sections import PlanConfig as PlanConfig
from sweeplab.sections import PrunerConfig as PrunerConfig
from sweeplab.sections import SamplerConfig as SamplerConfig
from sweeplab.sections import WatchConfig as WatchConfig

TOGGLES: Final = ("query", "key", "value", "projection", "mlp", "head")
LORA_METHODS: Final = ("lora", "lora_prefix")
BASE_CHANGING: Final = ("orthogonal", "olora", "pissa")
HQQ_BITS: Final = {"hqq2": 2, "hqq3": 3, "hqq4": 4}
AXIS_KEYS: Final = ("choices", "low", "high", "log", "step", "when")


BYTE_UNITS: Final = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12} | {
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}


class ConfigError(Exception):
    """A mistake of the user's: one line that names key, value, rule and remedy. Exit code 2, no traceback."""


@dataclass
class ModelConfig:
    source: str = MISSING  # embedded | local | hub
    name: str = MISSING  # the hub's name, or what reports call it
    path: str | None = None  # a Hugging Face folder, for source=local
    revision: str | None = None  # a commit or tag, for source=hub
    random_init: bool = False  # the architecture without its weights, for memory and time
    # Hugging Face config values, so that a plan needs no network; empty: from the model's folder or the hub
    architecture: dict[str, Any] = field(default_factory=dict)
    # toggle -> module names, for an architecture the table lacks; empty: the table
    modules: dict[str, list[str]] = field(default_factory=dict)


@dataclass
class QuantizationConfig:
    scheme: str = MISSING  # none | nf4 | fp4 | int8 | hqq2 | hqq3 | hqq4
    double: bool = MISSING  # quantize the scales of nf4's and fp4's blocks too
    group_size: int = 128  # weights that share a scale and a zero, for hqq
    pattern: dict[str, str] = field(default_factory=dict)  # regular expression over module names -> scheme

    def schemes(self) -> set[str]:
        """Every scheme that a matrix can have."""
        return {self.scheme, *self.pattern.values()}

    def label(self) -> str:
        """As conf names it, with the patterns: `nf4_dq; mlp: hqq3`."""
        names = {name: f"{name}_dq" for name in ("nf4", "fp4") if self.double}
        parts = [f"{pattern}: {names.get(scheme, scheme)}" for pattern, scheme in self.pattern.items()]
        return "; ".join([names.get(self.scheme, self.scheme), *parts])


@dataclass
class AdapterConfig:
    method: str = MISSING  # lora | none | bitfit | norms | top_layers | prompt | prefix | lora_prefix
    rank: int = MISSING
    budget: int | None = None  # trainable parameters; the largest rank within them takes the place of rank
    alpha: float | None = None  # absolute; null: alpha_ratio * rank
    alpha_ratio: float = MISSING
    dropout: float = MISSING
    rslora: bool = MISSING  # scale by alpha / sqrt(rank)
    dora: bool = MISSING  # magnitude and direction apart
    initialization: str = MISSING  # default | gaussian | orthogonal | olora | pissa
    bias: str = MISSING  # none | all | lora_only: biases that train beside the adapter
    train_norms: bool = MISSING  # normalization layers train beside the adapter
    rank_pattern: dict[str, int] = MISSING  # regular expression over module names -> rank
    alpha_pattern: dict[str, float] = MISSING  # regular expression over module names -> alpha
    lr_pattern: dict[str, float] = MISSING  # regular expression over parameter names -> factor on optimizer.lr
    lr_ratio: float = MISSING  # rate of B over the rate of A
    num_virtual_tokens: int = MISSING  # of a prompt or a prefix
    num_layers: int = MISSING  # of top_layers
    lora_query: bool = MISSING
    lora_key: bool = MISSING
    lora_value: bool = MISSING
    lora_projection: bool = MISSING
    lora_mlp: bool = MISSING
    lora_head: bool = MISSING

    def enabled(self) -> list[str]:
        """The toggles that are on, in the order of `TOGGLES`."""
        return [toggle for toggle in TOGGLES if getattr(self, f"lora_{toggle}")]

    def effective_alpha(self) -> float:
        """Numerator of the scaling alpha / rank."""
        return self.alpha if self.alpha is not None else self.alpha_ratio * self.rank


@dataclass
class DataPart:
    """One file of a mixture."""

    path: str = MISSING  # JSON array or JSON lines
    weight: float = MISSING  # its share of the training examples over the sum of all weights


@dataclass
class DataConfig:
    source: str = MISSING  # world | json | hub | mixture | digits
    name: str = MISSING  # the hub's name, or what reports call it
    target: str | None = None  # new_facts | operation, for source=world; rotated | upright, for source=digits
    path: str | None = None  # JSON array or JSON lines, for source=json
    heldout_path: str | None = None  # null: heldout_fraction of path is set aside
    subset: str | None = None  # the hub dataset's configuration
    split: str = MISSING  # of a hub dataset
    instruction_field: str = MISSING
    input_field: str | None = None  # a field that a record may lack
    output_field: str = MISSING
    messages_field: str | None = None  # chat messages instead of the three fields
    style: str = MISSING  # plain | alpaca | chatml | template
    mask_prompt: bool = MISSING  # count the loss on the response only
    heldout_fraction: float = MISSING
    num_examples: int | None = None  # for training; null: all
    fraction: float | None = None  # of the training examples, a smaller one within a larger one; null: all
    parts: list[DataPart] = MISSING  # for source=mixture
    packing: bool = MISSING  # several examples in a row of training.max_length, blind to each other
    tasks: list[str] = MISSING  # lm-eval tasks that go with this data
    retained_tasks: list[str] = field(default_factory=list)  # of tasks, those that measure what is forgotten
    objective: str = MISSING  # the metric that a study on this data optimizes

    def is_images(self) -> bool:
        """True for images and their classes, which go with an image classifier; else it is text."""
        return self.source == "digits"


@dataclass
class ScheduleConfig:
    shape: str = MISSING  # constant | linear | cosine
    warmup_steps: int | None = None  # null: warmup_ratio * steps
    warmup_ratio: float = MISSING
    end_factor: float = MISSING  # share of the rate that is left at the last step


@dataclass
class TrainingConfig:
    epochs: int = MISSING
    max_steps: int | None = None  # optimizer steps; null: epochs decide
    micro_batch_size: int = MISSING
    accumulation: int = MISSING  # micro-batches per optimizer step
    max_length: int = MISSING  # tokens; a longer example is cut
    gradient_clip: float | None = None  # largest gradient norm; null: no clipping
    gradient_checkpointing: bool = MISSING
    precision: str = MISSING  # auto: bfloat16 on a GPU that has it, else float32
    heldout_interval: int | None = None  # steps between held-out losses; null: at the end only
    log_interval: int = MISSING  # steps between points of the training loss
    strategy: str = "single"  # single | ddp: every device has the base | fsdp: every device has a part of it
    num_devices: int = 1  # that share each micro-batch's rows


@dataclass
class EvaluationConfig:
    tasks: list[str] = MISSING  # lm-eval task names; none: held-out loss only
    rung_tasks: list[str] = field(default_factory=list)  # of tasks, those scored at every held-out loss in training too
    batch_size: int = MISSING
    limit: int | None = None  # items per task; null: all
    num_fewshot: int | None = None  # null: the task's own
    bootstrap_iters: int = MISSING  # for standard errors without a closed form
    data_dir: str | None = None  # folder with lm-eval's tasks as JSON lines; null: from the hub
    gen_kwargs: dict[str, Any] = field(default_factory=dict)  # of generation, over the task's own
    apply_chat_template: bool = MISSING  # the tokenizer's, around every prompt
    system_instruction: str | None = None  # before every prompt


@dataclass
class TrialConfig:
    """What one trial is, apart from its seed."""

    model: ModelConfig = field(default_factory=ModelConfig)
    quantization: QuantizationConfig = field(default_factory=QuantizationConfig)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optimizer: Any = MISSING  # _target_, lr and the optimizer's own arguments
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)


@dataclass
class StudySection:
    name: str | None = None  # null: the experiment's name
    question: str | None = None  # what the study asks, for the report
    seeds: list[int] = MISSING
    num_trials: int | None = None  # in total, seeds included; null: every point of a grid
    objectives: list[str] = MISSING  # metrics of a record; the first one names the best
    max_failures: int | None = None  # in a row, after which the study stops; null: it goes on
    constraints: dict[str, Any] = MISSING  # metric of a record -> max, min or both; samplers avoid what is beyond
    enqueue: list[Any] = MISSING  # points to try first: axes with their values, or names of published recipes
    warm_start: str | None = None  # a study in runs_dir whose finished trials the sampler learns from too
    storage: str | None = None  # postgresql://user@host/database, for several drivers; null: SQLite
    lease_seconds: float = MISSING  # after which a trial of a driver that is silent may be taken over
    runs_dir: str = MISSING
    reports_dir: str = MISSING


@dataclass
class ExecutorConfig:
    name: str = MISSING  # local | ray | slurm
    device: str = MISSING  # auto | cpu | cuda
    num_workers: Any = MISSING  # processes, each with a base of its own: auto, or a number
    num_threads: int | None = None  # of each worker; null: the cores divided among them
    cohort_size: Any = MISSING  # trials that train at once on one base: auto, or a number
    checkpoint_seconds: float | None = None  # between checkpoints of running trials; null: none are kept
    trial_seconds: float | None = None  # that a trial may train, in a cohort the cohort's time; null: no limit
    stall_seconds: float | None = None  # without a forward pass, after which a worker is replaced; null: never
    on_out_of_memory: str = MISSING  # skip | halve | stop
    address: str | None = None  # ray: of the cluster's head, null: this machine alone; slurm: of the driver
    cpus_per_worker: int = 1  # that ray or slurm sets aside
    gpus_per_worker: float = 1  # that ray or slurm sets aside; on a Ray cluster without any, none
    partition: str | None = None  # of slurm; null: its default
    timeout_minutes: int = 60  # of a slurm job, after which it is requeued and its trials go on
    sbatch: dict[str, Any] = field(default_factory=dict)  # more of sbatch's options, such as account or mem


@dataclass
class TrackingConfig:
    name: str = MISSING  # wandb | none
    mode: str = MISSING  # offline | online
    project: str = MISSING
    entity: str | None = None


@dataclass
class StudyConfig(TrialConfig):
    action: str = MISSING  # run | plan | watch | export | reproduce | analyze | report | compare
    trial: int | None = None  # the trial to export or to run again
    studies: list[str] = field(default_factory=list)  # names, to be compared
    study: StudySection = field(default_factory=StudySection)
    space: dict[str, Any] = field(default_factory=dict)
    claims: list[ClaimConfig] = field(default_factory=list)
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    pruner: PrunerConfig = field(default_factory=PrunerConfig)
    executor: ExecutorConfig = field(default_factory=ExecutorConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    export: ExportConfig = field(default_factory=ExportConfig)
    plan: PlanConfig = field(default_factory=PlanConfig)
    watch: WatchConfig = field(default_factory=WatchConfig)
    compare: CompareConfig = field(default_factory=CompareConfig)

    def trial_config(self) -> TrialConfig:
        """The part that a trial is made of."""
        return TrialConfig(**{one.name: getattr(self, one.name) for one in fields(TrialConfig)})


def num_bytes(key: str, text: str) -> int:
    """Bytes that `14GB` (1e9 each), `14GiB` (2**30 each), `0.5GB` or `14000000000` mean. Raises `ConfigError`."""
    parts = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([a-z]*)\s*", text.lower())
    unit = None if parts is None else BYTE_UNITS.get(parts[2])
    if parts is None or unit is None or float(parts[1]) == 0:
        raise ConfigError(f"{key} must be a size above 0 such as 14GB, 14GiB or 14000000000, got {text}; try 14GB")
    return round(Decimal(parts[1]) * unit)


def no_environment(*asked: Any) -> NoReturn:
    """In the place of OmegaConf's `oc.env`: what it read would stand in every record, report and W&B run."""
    raise ConfigError(f"the environment's {asked[0] if asked else 'variables'} is not read; write the value itself")


def register() -> None:
    """Gives Hydra the schema that `conf/config.yaml` names first; keeps the environment out of configurations."""
    ConfigStore.instance().store(name="schema", node=StudyConfig)
    OmegaConf.register_new_resolver("oc.env", no_environment, replace=True)


def trial_config_from_dict(values: dict[str, Any]) -> TrialConfig:
    """A `TrialConfig` from the plain values that `dataclasses.asdict` gave."""
    sections = {
        "model": ModelConfig,
        "quantization": QuantizationConfig,
        "adapter": AdapterConfig,
        "data": DataConfig,
        "schedule": ScheduleConfig,
        "training": TrainingConfig,
        "evaluation": EvaluationConfig,
    }
    parts = [DataPart(**part) for part in values["data"]["parts"]]
    values = values | {"data": values["data"] | {"parts": parts}}
    return TrialConfig(optimizer=values["optimizer"], **{name: kind(**values[name]) for name, kind in sections.items()})
