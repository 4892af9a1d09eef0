"""The finished trial that a command names, with its configuration and its adapter."""

from pathlib import Path
from typing import Final, NamedTuple

from sweeplab.config.adapter import VIRTUAL_TOKEN_METHODS
from sweeplab.config.parse import trial_config_from_dict
from sweeplab.config.study import StudyConfig
from sweeplab.config.trial import TrialConfig
from sweeplab.records.items import read_items
from sweeplab.records.record import Status, TrialRecord, metric_value
from sweeplab.records.store import read_facts, trial_folder
from sweeplab.report import find_answer
from sweeplab.report.evidence.stored import StoredStudy
from sweeplab.runtime.errors import ConfigError

_ADAPTER_FILES: Final = ("adapter_config.json", "trained.safetensors")


class FinishedTrial(NamedTuple):
    """A finished trial, its configuration, and the folder of its adapter."""

    record: TrialRecord
    config: TrialConfig
    folder: Path


def find_trial(number: int, records: list[TrialRecord], folder: Path, kind: str) -> FinishedTrial:
    """Trial `number`. Raises `ConfigError` where it does not exist, did not finish, or left nothing for `kind`."""
    by_number = {record.number: record for record in records}
    finished = ", ".join(str(one.number) for one in records if one.status is Status.FINISHED) or "none"
    if number not in by_number:
        raise ConfigError(f"trial={number} does not exist in {folder}; finished trials: {finished}")
    record = by_number[number]
    if record.status is not Status.FINISHED:
        raise ConfigError(f"trial={number} did not finish, it {_describe_ending(record)}; finished trials: {finished}")
    config = trial_config_from_dict(record.config)
    adapter = trial_folder(folder, number) / "adapter"
    method = config.adapter.method
    if method == "none":
        raise ConfigError(
            f"trial={number} trained the whole base (adapter.method=none), which a study does not keep; export a trial "
            "of another method"
        )
    if kind == "merged" and method in VIRTUAL_TOKEN_METHODS:
        raise ConfigError(
            f"trial={number} trained adapter.method={method}, whose virtual tokens are no weights of the base; choose "
            "export.kind=adapter"
        )
    if not any((adapter / name).is_file() for name in _ADAPTER_FILES):
        raise ConfigError(f"trial={number} has no adapter in {adapter}; restore the folder, or run the trial again")
    return FinishedTrial(record, config, adapter)


def _describe_ending(record: TrialRecord) -> str:
    words = {Status.DIVERGED: "diverged", Status.OUT_OF_MEMORY: "ran out of memory"}
    return words.get(record.status, record.status.value)


def _find_best_trial(folder: Path, records: list[TrialRecord]) -> int:
    """Of the setting that leads the finished trial with the best objective. Raises `ConfigError`."""
    facts = read_facts(folder)
    leading = (
        None if facts is None else find_answer(StoredStudy(facts, records, read_items(folder) or None, [])).leading
    )
    if facts is not None and leading is not None:
        metric, direction = next(iter(facts.objectives.items()))
        trials = [one for one in records if one.number in leading.trials and one.status is Status.FINISHED]
        values = {one.number: value for one in trials if (value := metric_value(one, metric)) is not None}
        if values:
            return (max if direction == "maximize" else min)(values, key=lambda number: values[number])
    raise ConfigError(f"trial=best: no setting leads in {folder}; see its report, or name a trial: trial=0")


def choose_trial(config: StudyConfig, folder: Path, records: list[TrialRecord]) -> int:
    """The number that `trial` says. Raises `ConfigError` for the best one where no setting leads."""
    return _find_best_trial(folder, records) if config.trial == "best" else config.trial or 0
