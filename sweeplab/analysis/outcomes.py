"""Per-item results of a study's trials as one matrix, and the settings' ratings from it."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from sweeplab.analysis.elo import Rating, Strength, bradley_terry, elo, item_matches
from sweeplab.records.metrics import score_parts
from sweeplab.records.record import StudyFacts, TrialRecord
from sweeplab.records.store import StoreError, trial_folder
from sweeplab.report.evidence.settings import Setting, first_objective
from sweeplab.statistics.subsets import evenly

RIGHT: Final = ("exact_match", "acc", "accuracy")  # metrics of an item that rise with being right
MOST_ITEMS: Final = 1000
NUM_ORDERS: Final = 200
SEED: Final = 0

Item = tuple[str, str]


class Standing(NamedTuple):
    """One setting's rating; `strength` is None where Bradley-Terry has no finite maximum."""

    setting: Setting
    elo: Rating
    strength: Strength | None


class Ratings(NamedTuple):
    tasks: list[str]
    num_items: int
    num_matches: int
    standings: list[Standing]  # in the settings' order


def read_items(path: Path) -> dict[Item, float]:
    """How right each item was, by task and item, of tasks that say so. Raises `StoreError` for a damaged file."""
    try:
        text = path.read_text(encoding="utf-8")
        found: dict[Item, float] = {}
        for line in text.splitlines():
            for item, value in right_of(json.loads(line)):
                found.setdefault(item, value)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise StoreError(f"{path} cannot be read as items: {error!r}; run the trial again") from error
    return found


def right_of(row: dict[str, Any]) -> Iterator[tuple[Item, float]]:
    metrics = {name.split(",")[0]: value for name, value in row["metrics"].items()}
    name = next((name for name in RIGHT if isinstance(metrics.get(name), int | float)), None)
    if name is not None:
        yield (str(row["task"]), str(row["item"])), float(metrics[name])


def rated_tasks(facts: StudyFacts, tasks: Sequence[str]) -> list[str]:
    """The task of the study's first objective where it is one, so that learning and forgetting do not mix; else all."""
    metric, _ = first_objective(facts)
    task, _ = score_parts(metric)
    return [task] if metric.startswith("scores.") and task in tasks else list(tasks)


def rate(facts: StudyFacts, settings: Sequence[Setting], study_folder: Path) -> Ratings | None:
    """Elo of settings: on each item, of two trials with one seed, the right one beats the wrong one.

    None where fewer than two settings have items in common. Raises `StoreError`.
    """
    rows: list[tuple[TrialRecord, int, dict[Item, float]]] = []
    for place, setting in enumerate(settings):
        for record in setting.finished:
            path = trial_folder(study_folder, record.number) / "items.jsonl"
            if path.exists():
                rows.append((record, place, read_items(path)))
    tasks = list(dict.fromkeys(task for _, _, items in rows for task, _ in items))
    if not tasks:
        return None
    kept = rated_tasks(facts, tasks)
    items = dict.fromkeys(item for _, _, found in rows for item in found if item[0] in kept)
    chosen = evenly(list(items), MOST_ITEMS)
    outcomes_TN = np.array([[found.get(item, np.nan) for item in chosen] for _, _, found in rows])
    places = sorted({place for _, place, _ in rows})
    players = [places.index(place) for _, place, _ in rows]
    matches = item_matches(outcomes_TN, players, [record.seed for record, _, _ in rows])
    if not len(matches.scores_N):
        return None
    ratings = elo(matches, len(places), NUM_ORDERS, SEED)
    found = bradley_terry(matches, len(places))
    strengths: Sequence[Strength | None] = [None] * len(places) if found is None else found
    standings = [
        Standing(settings[place], rating, strength)
        for place, rating, strength in zip(places, ratings, strengths, strict=True)
    ]
    return Ratings(kept, len(chosen), len(matches.scores_N), standings)
