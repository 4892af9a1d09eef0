"""A study's trials in memory, with its database behind them: for the only driver of a study."""

from collections.abc import Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import InMemoryStorage, RDBStorage
from optuna.trial import FrozenTrial, TrialState


class MirroredStorage(InMemoryStorage):
    """Reads come from memory; the database is written in the order of events.

    Optuna's own cache reads every trial that has not ended again, at every look: a tenth of a second with a thousand
    of them. A new trial reaches the database whole, at `keep`, in one transaction; what changes afterwards, at once.
    """

    def __init__(self, database: RDBStorage, study: optuna.Study, trials: list[FrozenTrial]) -> None:
        """`trials` are those that the database holds of `study`, by number."""
        super().__init__()
        self.database = database
        self.name = study.study_name
        self.id_there = database.get_study_id_from_name(self.name)
        self.ids_there: list[int] = []  # of trials in the database, by number, which is a trial's id here
        study_id = super().create_new_study(study.directions, self.name)
        for key, value in database.get_study_user_attrs(self.id_there).items():
            super().set_study_user_attr(study_id, key, value)
        for key, value in database.get_study_system_attrs(self.id_there).items():
            super().set_study_system_attr(study_id, key, value)
        for trial in trials:
            self.ids_there.append(trial._trial_id)
            super().create_new_trial(study_id, trial)

    def keep(self) -> None:
        """Writes the trials that are new."""
        for number in range(len(self.ids_there), self.get_n_trials(0)):
            self.ids_there.append(self.database.create_new_trial(self.id_there, self.get_trial(number)))

    def close(self) -> None:
        self.database.remove_session()
        self.database.engine.dispose()

    def kept(self, trial_id: int) -> bool:
        return trial_id < len(self.ids_there)

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        super().set_study_user_attr(study_id, key, value)
        self.database.set_study_user_attr(self.id_there, key, value)

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        super().set_study_system_attr(study_id, key, value)
        self.database.set_study_system_attr(self.id_there, key, value)

    def set_trial_param(self, trial_id: int, name: str, internal: float, distribution: BaseDistribution) -> None:
        super().set_trial_param(trial_id, name, internal, distribution)
        if self.kept(trial_id):
            self.database.set_trial_param(self.ids_there[trial_id], name, internal, distribution)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        super().set_trial_user_attr(trial_id, key, value)
        if self.kept(trial_id):
            self.database.set_trial_user_attr(self.ids_there[trial_id], key, value)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        super().set_trial_system_attr(trial_id, key, value)
        if self.kept(trial_id):
            self.database.set_trial_system_attr(self.ids_there[trial_id], key, value)

    def set_trial_intermediate_value(self, trial_id: int, step: int, value: float) -> None:
        super().set_trial_intermediate_value(trial_id, step, value)
        if self.kept(trial_id):
            self.database.set_trial_intermediate_value(self.ids_there[trial_id], step, value)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        changed = super().set_trial_state_values(trial_id, state, values)
        if changed and self.kept(trial_id):
            self.database.set_trial_state_values(self.ids_there[trial_id], state, values)
        return changed
