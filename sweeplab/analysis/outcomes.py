"""Collects results by item of all trials in one matrix, and rates the settings from it."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from sweeplab.analysis.elo import Rating, Strength, build_matches, rate_by_bradley_terry, rate_by_elo
from sweeplab.records.items import read_trial_items
from sweeplab.records.metrics import SHARES, choose_headline, score_parts, split_filter
from sweeplab.records.record import StudyFacts, TrialRecord
from sweeplab.records.store import trial_folder
from sweeplab.report.evidence.settings import Setting, first_objective
from sweeplab.statistics.selection import pick_evenly

_MOST_ITEMS: Final = 1000
_NUM_ORDERS: Final = 200
_SEED: Final = 0

Item = tuple[str, int]


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


def _read_right_items(path: Path, wanted: Collection[str]) -> dict[Item, float]:
    """The result of each item, by task and item, for tasks that tell correct answers; of several metrics
    `choose_headline`'s. Raises `StoreError`."""
    by_metric = read_trial_items(path)
    shares: dict[str, list[str]] = {}
    for name in by_metric:
        task, metric = score_parts(name)
        if split_filter(metric)[0] in SHARES:
            shares.setdefault(task, []).append(metric)
    chosen = {task: choose_headline(task, metrics, wanted) for task, metrics in shares.items()}
    return {
        (task, item): value
        for task, metric in chosen.items()
        for item, value in by_metric[f"scores.{task}.{metric}"].items()
    }


def _choose_tasks(facts: StudyFacts, tasks: Sequence[str]) -> list[str]:
    """The task of the study's first objective where it is one, so that learning and forgetting do not mix; else all."""
    metric, _ = first_objective(facts)
    task, _ = score_parts(metric)
    return [task] if metric.startswith("scores.") and task in tasks else list(tasks)


def rate_settings(facts: StudyFacts, settings: Sequence[Setting], study_folder: Path) -> Ratings | None:
    """Elo of settings: on each item, of two trials with one seed, the right one beats the wrong one.

    None where fewer than two settings have items in common. Raises `StoreError`.
    """
    rows: list[tuple[TrialRecord, int, dict[Item, float]]] = []
    for index, setting in enumerate(settings):
        for record in setting.finished:
            path = trial_folder(study_folder, record.number) / "items.jsonl"
            if path.exists():
                rows.append((record, index, _read_right_items(path, facts.objectives)))
    tasks = list(dict.fromkeys(task for _, _, items in rows for task, _ in items))
    if not tasks:
        return None
    kept = _choose_tasks(facts, tasks)
    items = dict.fromkeys(item for _, _, found in rows for item in found if item[0] in kept)
    chosen = pick_evenly(list(items), _MOST_ITEMS)
    outcomes_TN = np.array([[found.get(item, np.nan) for item in chosen] for _, _, found in rows])
    indices = sorted({index for _, index, _ in rows})
    players = [indices.index(index) for _, index, _ in rows]
    matches = build_matches(outcomes_TN, players, [record.seed for record, _, _ in rows])
    if not len(matches.scores_N):
        return None
    ratings = rate_by_elo(matches, len(indices), _NUM_ORDERS, _SEED)
    found = rate_by_bradley_terry(matches, len(indices))
    strengths: Sequence[Strength | None] = [None] * len(indices) if found is None else found
    standings = [
        Standing(settings[index], rating, strength)
        for index, rating, strength in zip(indices, ratings, strengths, strict=True)
    ]
    return Ratings(kept, len(chosen), len(matches.scores_N), standings)
