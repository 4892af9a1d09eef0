"""Typed configuration with units; `checks` refuses what cannot run.

Defaults live in `conf/`, once; a field without a value here must be given there. Hydra merges `conf/` into these
dataclasses, so a mistyped key or a wrong type is refused by name before anything is imported that takes long.
"""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, NoReturn

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, OmegaConf

from sweeplab.config.actions import CompareConfig, ExportConfig, PlanConfig, WatchConfig
from sweeplab.config.executor import ExecutorConfig
from sweeplab.config.sampler import PrunerConfig, SamplerConfig
from sweeplab.config.trial import TrialConfig
from sweeplab.records.claim import ClaimConfig
from sweeplab.runtime.errors import ConfigError

AXIS_KEYS: Final = ("choices", "low", "high", "log", "step", "when")


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
    runs_dir: str = MISSING
    reports_dir: str = MISSING


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


def no_environment(*asked: Any) -> NoReturn:
    """In the place of OmegaConf's `oc.env`: what it read would stand in every record, report and W&B run."""
    raise ConfigError(f"the environment's {asked[0] if asked else 'variables'} is not read; write the value itself")


def register() -> None:
    """Gives Hydra the schema that `conf/config.yaml` names first; keeps the environment out of configurations."""
    ConfigStore.instance().store(name="schema", node=StudyConfig)
    OmegaConf.register_new_resolver("oc.env", no_environment, replace=True)


def study_folder(config: StudyConfig) -> Path:
    return Path(config.study.runs_dir) / str(config.study.name)
