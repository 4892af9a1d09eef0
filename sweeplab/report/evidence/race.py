"""A race as the records have it: the table that says who leads, and whom to run next."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from sweeplab.config.space import identify_params
from sweeplab.records.constraints import list_bounds, measure_excess
from sweeplab.records.metrics import direction
from sweeplab.records.record import Status, StudyFacts, TrialRecord
from sweeplab.report.evidence.estimates import grows_with_value
from sweeplab.report.evidence.settings import Setting, first_objective, read_number
from sweeplab.statistics.race import RaceTable, Standing, judge_race


def tabulate_race(
    points: Sequence[dict[str, Any]],
    seeds: Sequence[int],
    records: Iterable[TrialRecord],
    metric: str,
    constraints: dict[str, dict[str, float]],
) -> RaceTable:
    """What is known of each point with each seed. A point is out once a trial of it did not finish, has no value, or
    breaks a constraint: such runs are not missing by chance."""
    rows = {identify_params(point): row for row, point in enumerate(points)}
    columns = {seed: column for column, seed in enumerate(seeds)}
    sign = 1.0 if direction(metric) == "minimize" else -1.0
    losses_KS, out_K = np.full((len(points), len(seeds)), math.nan), np.zeros(len(points), dtype=bool)
    bounds = list_bounds(constraints)
    for record in records:
        row, column = rows.get(identify_params(record.params)), columns.get(record.seed)
        if row is None or column is None:
            continue
        value = read_number(record, metric) if record.status is Status.FINISHED else None
        excesses = [measure_excess(record, bound) for bound in bounds] if value is not None else []
        if value is None or any(excess is not None and excess > 0 for excess in excesses):
            out_K[row] = True
        else:
            losses_KS[row, column] = sign * value
    known = losses_KS[~np.isnan(losses_KS)]
    return RaceTable(losses_KS, out_K, is_log=grows_with_value(metric) and len(known) > 0 and bool(known.min() > 0))


def judge_study(facts: StudyFacts, settings: list[Setting]) -> tuple[RaceTable, Standing] | None:
    """Where the race of a study stands, by the indices of `settings`; None without a race, or without a run."""
    if facts.race is None or not settings:
        return None
    records = [record for setting in settings for record in setting.records]
    points = [setting.params for setting in settings]
    table = tabulate_race(points, facts.seeds, records, first_objective(facts)[0], facts.constraints)
    standing = judge_race(table, facts.race.certainty)
    return None if standing is None else (table, standing)
