"""The parts of the schema that are a study's: how it searches, in Optuna's words, and what its actions take."""

from dataclasses import dataclass

from omegaconf import MISSING


@dataclass
class PlanConfig:
    device_memory: str | None = None  # such as 14GB, 14GiB or bytes, for every trial to fit in; null: not asked
    skip_unfit: bool = MISSING  # record trials that will not fit as skipped instead of running them


@dataclass
class WatchConfig:
    once: bool = MISSING  # show the study as it stands and end, for scripts


@dataclass
class ExportConfig:
    kind: str = MISSING  # adapter | merged
    dtype: str = MISSING  # of merged weights
    path: str | None = None  # a folder that is not there yet
    trials: list[int] = MISSING  # several adapters to be combined into one; empty: the one of trial=N
    weights: list[float] = MISSING  # one for each of trials
    combination: str = MISSING  # linear | cat | svd | ties


@dataclass
class CompareConfig:
    uncontrolled: bool = MISSING  # compare studies that differ in what should be alike, too
