"""Optuna's study in memory. It is filled from the files of a study; no database is read."""

import warnings
from datetime import datetime
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import InMemoryStorage

from sweeplab.config.space import Axis
from sweeplab.config.study import StudyConfig
from sweeplab.records.metrics import direction
from sweeplab.search.pruners import build_pruner, lay_out_brackets


class _StudyStorage(InMemoryStorage):
    """Collects the attributes that a sampler sets for the whole study, so that they can be stored with the trial that
    it was drawing."""

    def __init__(self) -> None:
        super().__init__()
        self._new_study_attrs: dict[str, Any] = {}

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        super().set_study_system_attr(study_id, key, value)
        self._new_study_attrs[key] = value

    def take_study_attrs(self) -> dict[str, Any]:
        """The attributes of the study that were set since the last call."""
        attrs, self._new_study_attrs = self._new_study_attrs, {}
        return attrs

    def set_end(self, trial_id: int, end: datetime) -> None:
        """Sets when a trial ended that an earlier driver ran; Optuna would use the present time."""
        self._get_trial(trial_id).datetime_complete = end


def name_metrics(study: optuna.Study, names: list[str]) -> None:
    """Gives the values of `study` the names that Optuna's dashboard and plots show; else "Objective 0" stands there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        study.set_metric_names(names)


def create_study(config: StudyConfig, varied: list[Axis]) -> tuple[optuna.Study, _StudyStorage]:
    """A study without trials."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = _StudyStorage()
    study = optuna.create_study(
        storage=storage,
        study_name=str(config.study.name),
        directions=[direction(metric) for metric in config.study.objectives],
        pruner=build_pruner(config, varied),
    )
    name_metrics(study, list(config.study.objectives))
    lay_out_brackets(study)
    storage.take_study_attrs()  # they follow from the configuration and need not be stored with a trial
    return study, storage
