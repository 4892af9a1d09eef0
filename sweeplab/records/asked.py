"""What a study asked for: `trial.json` of each trial, and `search.json`, the settings that must not change.

Together with the records they are the study: Optuna's trials are rebuilt from them at every start.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sweeplab.records.record import HeldoutPoint
from sweeplab.records.store import StoreError, read_json, trial_folder, write_json
from sweeplab.records.stored import from_plain, to_plain

TRIAL_FILE: Final = "trial.json"
SEARCH_FILE: Final = "search.json"
_VERSION: Final = 1


@dataclass
class AskedTrial:
    """A trial as the search asked for it, with the attributes that Optuna needs to rebuild it."""

    number: int
    seed: int
    params: dict[str, Any]  # the varied values by key
    distributions: dict[str, dict[str, Any]]  # Optuna's distribution of each value, as JSON
    drawn: dict[str, Any] = field(default_factory=dict)  # Optuna's values where they differ: 0.8999999999999999 for 0.9
    user_attrs: dict[str, Any] = field(default_factory=dict)
    system_attrs: dict[str, Any] = field(default_factory=dict)  # Optuna's, such as the generation of the trial
    study_attrs: dict[str, Any] = field(default_factory=dict)  # attributes of the study that this trial's draw has set
    heldout_losses: list[HeldoutPoint] = field(default_factory=list)  # those that the pruner has got
    started: str | None = None  # in UTC, ISO 8601; None: not known
    version: int = _VERSION


@dataclass
class EarlierTrial:
    """A finished trial of `study.warm_start`, from which the sampler learns."""

    source: str  # study and number
    params: dict[str, Any]
    values: list[float]  # of the objectives
    constraints: dict[str, float]  # above 0 is violated


@dataclass
class SearchFacts:
    """Settings of a study that must not change, since its trials would then mean something else."""

    constraints: dict[str, Any]  # study.constraints
    warm_start: str | None  # study.warm_start
    earlier_trials: list[EarlierTrial] = field(default_factory=list)
    version: int = _VERSION


def write_asked(study_folder: Path, asked: AskedTrial) -> None:
    """Writes `trial.json`. Raises `StoreError`."""
    write_json(trial_folder(study_folder, asked.number) / TRIAL_FILE, to_plain(asked))


def read_asked(path: Path) -> AskedTrial:
    """Reads a `trial.json`. Raises `StoreError` for a damaged file, and for one of another trial."""
    try:
        asked = from_plain(AskedTrial, read_json(path), "a trial")
    except ValueError as error:
        raise StoreError(f"{path} is no trial: {error}; move it out of the way") from error
    if path.parent.name != trial_folder(path.parents[2], asked.number).name:
        raise StoreError(f"it is trial {asked.number}'s")
    return asked


def write_search_facts(study_folder: Path, facts: SearchFacts) -> None:
    """Writes `search.json`. Raises `StoreError`."""
    write_json(study_folder / SEARCH_FILE, to_plain(facts))


def read_search_facts(study_folder: Path) -> SearchFacts | None:
    """Reads `search.json`; None where the study has not begun. Raises `StoreError` for a damaged file."""
    path = study_folder / SEARCH_FILE
    if not path.exists():
        return None
    try:
        return from_plain(SearchFacts, read_json(path), "a search")
    except ValueError as error:
        raise StoreError(f"{path} is no search: {error}; move it out of the way") from error
