"""What one trial is, apart from its seed."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from sweeplab.config.adapter import AdapterConfig
from sweeplab.config.data import DataConfig, DataPart
from sweeplab.config.evaluation import EvaluationConfig
from sweeplab.config.model import ModelConfig
from sweeplab.config.quantization import QuantizationConfig
from sweeplab.config.training import ScheduleConfig, TrainingConfig


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
