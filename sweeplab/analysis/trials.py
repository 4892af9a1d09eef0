"""Which trials of a study can be analysed, and which pairs of them say something."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from sweeplab.analysis.adapters import CONFIG, Adapter, read_adapter
from sweeplab.config.adapter import BASE_CHANGING
from sweeplab.config.parse import trial_config_from_dict
from sweeplab.records.record import Status, TrialRecord
from sweeplab.records.store import StoreError, record_path, trial_folder
from sweeplab.records.stored import value_at
from sweeplab.runtime.errors import ConfigError
from sweeplab.statistics.selection import pick_evenly

_RANK: Final = "adapter.rank"
_MOST_PAIRS: Final = 12  # of each kind
KINDS: Final = ("ranks", "seeds", "both")


class TrainedAdapter(NamedTuple):
    """A finished trial with its adapter."""

    record: TrialRecord
    adapter: Adapter

    @property
    def rank(self) -> int:
        return max(shape.rank for shape in self.adapter.shapes.values())


class Pair(NamedTuple):
    """Two trials that differ in rank, in seed, or in both, and in nothing else; the smaller rank first."""

    kind: str
    one: TrainedAdapter
    other: TrainedAdapter


def _explain_unusable(record: TrialRecord, folder: Path) -> str | None:
    """Why a trial has no dW = B A to look at, or None."""
    method, dora, start = (value_at(record.config, f"adapter.{name}") for name in ("method", "dora", "initialization"))
    if record.status is not Status.FINISHED:
        return record.status.value.replace("_", " ")
    if method != "lora":
        return f"adapter.method={method}"
    if dora or start in BASE_CHANGING:
        return "DoRA, or a start that rewrites the base: B A is not what the base gained"
    return None if (folder / CONFIG).exists() else "its adapter folder is gone"


def read_trials(study_folder: Path, records: Sequence[TrialRecord]) -> tuple[list[TrainedAdapter], dict[int, str]]:
    """Trials with a LoRA adapter, and why the others are left out. Raises `StoreError` for a damaged adapter."""
    trained, left_out = [], {}
    for record in records:
        folder = trial_folder(study_folder, record.number) / "adapter"
        why = _explain_unusable(record, folder)
        if why is not None:
            left_out[record.number] = why
            continue
        try:
            scalings = {str(layer["name"]): float(layer["scaling"]) for layer in record.adapter_layers}
            trial_config_from_dict(record.config)
        except (KeyError, TypeError, ValueError, AttributeError, ConfigError) as error:
            path = record_path(study_folder, record.number)
            raise StoreError(f"{path} has no whole config and adapter_layers: {error!r}; run it again") from error
        trained.append(TrainedAdapter(record, read_adapter(folder, scalings)))
    return trained, left_out


def _list_other_params(record: TrialRecord) -> dict[str, Any]:
    """What the study varied, but for the rank."""
    return {key: value for key, value in record.params.items() if key != _RANK}


def _name_kind(one: TrainedAdapter, other: TrainedAdapter) -> str | None:
    if _list_other_params(one.record) != _list_other_params(other.record):
        return None
    differ = (one.rank != other.rank, one.record.seed != other.record.seed)
    return {(True, False): "ranks", (False, True): "seeds", (True, True): "both"}.get(differ)


def find_pairs(trained: Sequence[TrainedAdapter]) -> list[Pair]:
    """At most `_MOST_PAIRS` pairs of each kind, selected evenly from all."""
    pairs_by_kind: dict[str, list[Pair]] = {kind: [] for kind in KINDS}
    for one, other in itertools.combinations(sorted(trained, key=lambda trial: trial.rank), 2):
        kind = _name_kind(one, other)
        if kind is not None:
            pairs_by_kind[kind].append(Pair(kind, one, other))
    return [pair for pairs in pairs_by_kind.values() for pair in pick_evenly(pairs, _MOST_PAIRS)]
