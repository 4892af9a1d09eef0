"""Optuna's study in memory. What it holds follows from a study's files; nothing here is read from a database."""

from datetime import datetime
from typing import Any

import optuna
from optuna.storages import InMemoryStorage

from sweeplab.config.space import Axis
from sweeplab.config.study import StudyConfig
from sweeplab.records.metrics import direction
from sweeplab.search.pruners import build_pruner, lay_out_brackets


class StudyStorage(InMemoryStorage):
    """Keeps apart what a sampler notes for the whole study, so that the trial it was drawing can be stored with it."""

    def __init__(self) -> None:
        super().__init__()
        self._new_study_attrs: dict[str, Any] = {}

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        super().set_study_system_attr(study_id, key, value)
        self._new_study_attrs[key] = value

    def take_study_attrs(self) -> dict[str, Any]:
        """What was noted for the study since the last call."""
        attrs, self._new_study_attrs = self._new_study_attrs, {}
        return attrs

    def set_end(self, trial_id: int, end: datetime) -> None:
        """When a trial ended that an earlier driver ran; Optuna takes it for now."""
        self._get_trial(trial_id).datetime_complete = end


def create_study(config: StudyConfig, varied: list[Axis]) -> tuple[optuna.Study, StudyStorage]:
    """A study without trials."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = StudyStorage()
    study = optuna.create_study(
        storage=storage,
        study_name=str(config.study.name),
        directions=[direction(metric) for metric in config.study.objectives],
        pruner=build_pruner(config, varied),
    )
    lay_out_brackets(study)
    return study, storage
