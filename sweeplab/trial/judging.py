"""Whom the responses of a base and of trials are judged by, and what they are compared with."""

from pathlib import Path

from sweeplab.config.evaluation import OWN_TASK, EvaluationConfig
from sweeplab.config.trial import TrialConfig
from sweeplab.evaluation.judge import Judge
from sweeplab.evaluation.judged_task import References, read_base_responses
from sweeplab.records.record import TrialRecord, base_key
from sweeplab.records.store import base_items_path
from sweeplab.trial.resources import Resources


def find_base_key(config: TrialConfig, dtype: str, record: TrialRecord) -> str:
    """Of the score of a trial's base. `dtype`: the base's."""
    return base_key(config.to_dict(), dtype, record.provenance.get("tasks_fingerprint"), record.provenance)


def open_base_references(asked: EvaluationConfig, folder: Path, resources: Resources) -> References | None:
    """For the base; None where no judge is asked, also where the base would be compared with itself."""
    if asked.score != "judge" or asked.judge_reference == "base":
        return None
    return References(Judge(asked, folder, resources.note_forward), None)


def open_references(asked: EvaluationConfig, folder: Path, key: str, resources: Resources) -> References | None:
    """For trials; None where no judge is asked. `key`: of the score of their base. Raises `StoreError`."""
    if asked.score != "judge" or OWN_TASK not in asked.tasks:
        return None
    base = read_base_responses(base_items_path(folder, key)) if asked.judge_reference == "base" else None
    return References(Judge(asked, folder, resources.note_forward), base)
