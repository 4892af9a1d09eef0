"""What a trial leaves behind: one record, its status, and the names, units and directions of its metrics."""

import hashlib
import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from sweeplab.records.claim import check_form, claim_from_dict
from sweeplab.records.metrics import known_metric, score_parts
from sweeplab.records.stored import from_plain, is_number, to_plain
from sweeplab.runtime.errors import ConfigError

_RECORD_VERSION: Final = 2  # of 1, `config` has every option's keys; of 2 only those of the options that were chosen

_ADDED: Final = (
    "notes",
    "num_naming_special",
    "num_skipped",
    "num_learned",
    "num_heldout_examples",
    "kept_step",
)  # left out where empty, so that records of before them stay as they are
_ADDED_TO_SOLO: Final = (  # likewise
    "evaluation_peak_allocated_bytes",
    "median_step_seconds",
    "slowest_step_seconds",
    "step_processor_seconds",
)


class Status(StrEnum):
    """How a trial ended."""

    FINISHED = "finished"
    PRUNED = "pruned"  # stopped early, since others did better by the same step
    DIVERGED = "diverged"
    OUT_OF_MEMORY = "out_of_memory"
    TIMED_OUT = "timed_out"  # over executor.trial_seconds, or without progress for executor.stall_seconds
    FAILED = "failed"
    SKIPPED = "skipped"  # never started, since the plan says that it will not fit
    STOPPED = "stopped"  # by a person: says nothing of its setting, so that it counts neither for nor against it
    REFUSED = "refused"  # its configuration cannot run, which only its values together or its data could tell


@dataclass
class Phase:
    """One phase of a trial: wall seconds, and the highest memory since the phase began. None: cannot be measured."""

    seconds: float
    peak_resident_bytes: int | None = None  # the process's resident set; Linux, CPU runs
    peak_allocated_bytes: int | None = None  # CUDA tensors; on a CPU only `Solo` has it
    peak_reserved_bytes: int | None = None  # CUDA, with what the allocator holds
    processor_seconds: float | None = None  # of all threads of the process, which other work delays little


@dataclass
class Score:
    """One metric of one task, lm-eval's or an image task's."""

    value: float
    stderr: float | None
    num_items: int


@dataclass
class Solo:
    """What a trial needs alone, from a few optimizer steps at its longest micro-batch, taken before it trained with
    others: once for all trials that differ in seed, rates and number of steps only."""

    step_seconds: float  # of the fastest
    num_steps: int
    num_tokens: int  # of each step
    peak_resident_bytes: int | None  # with the base, without other trials; Linux, CPU runs
    peak_allocated_bytes: int | None  # tensors: what CUDA's allocator gave out, or what was counted on a CPU
    evaluation_peak_allocated_bytes: int | None = None  # likewise, in the longest batch of the held-out loss; on a CPU
    median_step_seconds: float | None = None
    slowest_step_seconds: float | None = None
    step_processor_seconds: float | None = None  # the least, of all threads, which other work delays little; on a CPU


@dataclass
class LargerBatch:
    """A try that ran out of memory; the next one had smaller micro-batches and as many examples per step."""

    micro_batch_size: int
    accumulation: int
    reason: str


@dataclass
class TrainPoint:
    """Mean training loss in nats per target over the steps since the last point, and the rate of the last one."""

    step: int
    loss: float
    lr: float


@dataclass
class HeldoutPoint:
    """Held-out loss in nats per target after `step` optimizer steps."""

    step: int
    loss: float


@dataclass
class RungScores:
    """Scores of `evaluation.rung_tasks` after `step` optimizer steps; those at the end are the trial's own."""

    step: int
    scores: dict[str, dict[str, Score]]  # by task and metric


@dataclass
class TrialRecord:
    """Everything that is known of one trial. A missing value is None, never a stand-in number."""

    number: int
    status: Status
    seed: int
    params: dict[str, Any]  # what the study varied, by key
    config: dict[str, Any]  # the resolved TrialConfig
    reason: str | None = None
    step: int | None = None  # optimizer steps taken
    kept_step: int | None = None  # of training.keep=best: whose weights were scored and saved
    phase: str | None = None  # where it ended, if not finished
    num_trainable_params: int | None = None
    num_total_params: int | None = None  # of the base, adapter not counted
    base_bits_per_param: float | None = None  # of the whole base as it was stored, scales included, adapter not counted
    adapter_layers: list[dict[str, Any]] = field(default_factory=list)  # effective rank, alpha, scaling, rates
    adapter_bytes: int | None = None
    num_train_tokens: int | None = None  # padding not counted; of an image its patches and the class token
    num_train_examples: int | None = None  # with those that were dropped
    num_truncated: int | None = None  # of these, cut at max_length
    num_dropped: int | None = None  # of these, cut before their response began, so that nothing was left to learn
    num_naming_special: int | None = None  # of these, whose text names special tokens, which were read as text
    num_skipped: int | None = None  # records that teach nothing and are in no part; `notes` name the first
    num_heldout_examples: int | None = None  # with those that were dropped
    num_learned: int | None = None  # of these, in training too, prompt and response alike
    num_heldout_truncated: int | None = None  # held-out examples cut at max_length, whose loss is of what is left
    tokens_per_second: float | None = None
    larger_batches: list[LargerBatch] = field(default_factory=list)  # that it was tried with, and ran out of memory
    cohort: list[int] = field(default_factory=list)  # trials that shared a base with it; itself alone: a solo run
    phases: dict[str, Phase] = field(default_factory=dict)  # the whole cohort's time and memory
    solo: Solo | None = None  # None where it trained alone: its phases are its own, unless the study asks for more
    losses: list[TrainPoint] = field(default_factory=list)
    heldout_losses: list[HeldoutPoint] = field(default_factory=list)
    rung_scores: list[RungScores] = field(default_factory=list)
    heldout_loss_nats_per_token: float | None = None  # an image is one target, and counts as one token here
    scores: dict[str, dict[str, Score]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)  # faster ways that were not taken, and why; what is odd in the data
    provenance: dict[str, Any] = field(default_factory=dict)
    version: int = _RECORD_VERSION

    @property
    def trained_among_others(self) -> bool:
        """True where `phases` are a cohort's time and memory, and not the trial's own."""
        return len(self.cohort) > 1

    def to_dict(self) -> dict[str, Any]:
        values: dict[str, Any] = to_plain(self)
        if values["solo"] is not None:
            solo = values["solo"]
            values["solo"] = {name: one for name, one in solo.items() if name not in _ADDED_TO_SOLO or one is not None}
        for phase in values["phases"].values():
            if phase["processor_seconds"] is None:  # of a record of before
                del phase["processor_seconds"]
        return {name: value for name, value in values.items() if name not in _ADDED or value not in (None, [])}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TrialRecord":
        """The record that `to_dict` gave, of an earlier version too: what it did not know has its default.

        Raises `ValueError` naming what is missing, unknown or malformed.
        """
        return from_plain(cls, values, "a record")


_NUMBER_MAKERS: Final = ("sweeplab", "torch", "transformers", "bitsandbytes", "hqq", "lm_eval", "datasets")


def base_key(config: dict[str, Any], dtype: str, task_data: str | None, provenance: dict[str, Any]) -> str:
    """What two trials have in common where the base scores the same for both: 32 hexadecimal digits.

    Args:
        config: a trial's resolved configuration; of it the base, the data as they are cut, and what is asked.
        dtype: the base's, such as `torch.float32`.
        task_data: fingerprint of the tasks' files, None for the hub's.
        provenance: a trial's, with fingerprints of base and data, versions, commit and device.
    """
    asked = {name: config[name] for name in ("model", "quantization", "data", "evaluation")}
    asked["evaluation"] = {name: value for name, value in asked["evaluation"].items() if name != "rung_tasks"}
    made_by = {name: provenance["versions"][name] for name in _NUMBER_MAKERS}
    where = {name: provenance[name] for name in ("base_fingerprint", "data_fingerprint", "device", "commit")}
    length = config["training"]["max_length"]
    facts = [asked, length, dtype, task_data, made_by, where]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


@dataclass
class BaseScore:
    """What the base itself scores, quantized and without an adapter: a report's first row."""

    key: str  # of `base_key`
    heldout_loss_nats_per_token: float
    scores: dict[str, dict[str, Score]]
    seconds: float  # of held-out loss and scores
    provenance: dict[str, Any]
    version: int = _RECORD_VERSION

    def to_dict(self) -> dict[str, Any]:
        values: dict[str, Any] = to_plain(self)
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "BaseScore":
        """What `to_dict` gave. Raises `ValueError` naming what is missing, unknown or malformed."""
        return from_plain(cls, values, "a base score")


def score_values(scores: dict[str, dict[str, Score]]) -> dict[str, float]:
    """Values by `scores/<task>/<metric>`, as curves name them."""
    return {f"scores/{task}/{metric}": one.value for task, by in scores.items() for metric, one in by.items()}


def metric_value(record: TrialRecord, name: str) -> float | None:
    """The number that `name` means in `record`, or None where it has none."""
    if name.startswith("scores."):
        task, metric = score_parts(name)
        score = record.scores.get(task, {}).get(metric)
        return None if score is None else score.value
    if name.startswith("solo."):
        return None if record.solo is None else getattr(record.solo, name.removeprefix("solo."))
    if name.startswith("phases."):
        _, phase, part = name.split(".")
        return getattr(record.phases[phase], part) if phase in record.phases else None
    value: float | None = getattr(record, name)
    return value


@dataclass(frozen=True)
class RaceGoal:
    """What a race is to find out."""

    within: float  # what may be lost at most, in the unit of the objective
    certainty: float  # probability with which what is stated is true, at any look
    fresh_seeds: list[int] = field(default_factory=list)  # with which the setting that is named was trained afterwards
    num_finalists: int | None = None  # of sampler=finals: the best by the first seed, which race with the others


@dataclass
class StudyFacts:
    """What a report needs to know of the study beside its records."""

    name: str
    question: str | None
    command: str  # what a user types to run it again
    objectives: dict[str, str]  # metric -> direction; the first one names the best
    seeds: list[int]
    space: dict[str, dict[str, Any]]  # varied key -> its axis: choices, or low and high
    num_planned: int | None  # trials, seeds included
    config: dict[str, Any]  # the experiment before any trial's own values
    claims: list[dict[str, Any]] = field(default_factory=list)  # as `to_plain` gives a ClaimConfig
    retained_tasks: list[str] = field(default_factory=list)  # what training should not forget
    constraints: dict[str, dict[str, float]] = field(default_factory=dict)  # metric -> max, min or both
    race: RaceGoal | None = None  # of sampler=race: settings have as many seeds as their place needs

    def to_dict(self) -> dict[str, Any]:
        values: dict[str, Any] = to_plain(self)
        return {name: value for name, value in values.items() if name != "race" or value is not None}

    @classmethod
    def from_dict(cls, values: Any) -> "StudyFacts":
        """What `to_dict` gave, of which a report can be made. Raises `ValueError` naming what is missing, unknown or
        malformed."""
        facts = from_plain(cls, values, "a study")
        ways = set(facts.objectives.values())
        if not facts.objectives or not all(map(known_metric, facts.objectives)) or ways - {"minimize", "maximize"}:
            raise ValueError(
                f"objectives must name metrics of a record to minimize or maximize, got {facts.objectives}"
            )
        for key, axis in facts.space.items():
            ends = [axis[end] for end in ("low", "high") if end in axis]
            numbers = all(map(is_number, ends))
            if not isinstance(axis.get("choices", []), list) or not numbers or not (ends or "choices" in axis):
                raise ValueError(f"space.{key} must hold choices, or low and high, got {axis}")
        for place, claim in enumerate(facts.claims):
            try:
                check_form(f"claims.{place}", claim_from_dict(f"claims.{place}", claim))
            except ConfigError as error:
                raise ValueError(str(error)) from error
        return facts
