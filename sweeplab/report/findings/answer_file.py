"""The answer of a study for programs: the numbers of the report."""

import math
from typing import Any, Final, Literal

from sweeplab.records.answer import (
    ANSWER_VERSION,
    AnswerSetting,
    AtEnd,
    Dropped,
    Interval,
    Memory,
    NotTried,
    Objective,
    RaceStatement,
    RunnerUp,
    StudyAnswer,
    Time,
    Uncovered,
    find_unit,
)
from sweeplab.records.items import Items
from sweeplab.records.metrics import METRICS
from sweeplab.records.record import Status, StudyFacts, TrialRecord
from sweeplab.records.stored import is_number
from sweeplab.report.evidence.costs import STEP_SECONDS, TRAIN_SECONDS, choose_memory_metric
from sweeplab.report.evidence.estimates import Evidence
from sweeplab.report.evidence.formatting import describe_bound
from sweeplab.report.evidence.settings import (
    Setting,
    collect_records,
    first_objective,
    list_broken_bounds,
)
from sweeplab.report.findings.answer import Answer, find_ends
from sweeplab.report.findings.certainty import count_seeds
from sweeplab.report.findings.leader import Standing, find_standing
from sweeplab.report.findings.race import list_fresh_values
from sweeplab.statistics.intervals import LEVEL, Estimate

_State = Literal["decided", "open", "finished", "running"]
_WORSE: Final = "worse"
_CONSTRAINT: Final = "constraint"


def build_answer(
    facts: StudyFacts,
    settings: list[Setting],
    stated: Answer,
    items: Items | None = None,
    race: RaceStatement | None = None,
) -> StudyAnswer:
    """The answer by the first objective. Nothing leads where settings cannot be compared, or none has a value.

    `stated` is what `state_answer` gives for the same settings.
    """
    records = collect_records(settings)
    standing = find_standing(facts, settings, items, race)
    leading = None if standing is None else _describe_setting(standing.evidence, standing.leader)
    is_named = standing is not None and standing.is_recommended
    metric, direction = first_objective(facts)
    return StudyAnswer(
        version=ANSWER_VERSION,
        study=facts.name,
        objective=Objective.model_validate({"metric": metric, "direction": direction, "unit": find_unit(metric)}),
        state=_find_state(facts, records, race),
        certainty=race.certainty if race else LEVEL,
        within=race.within if race else None,
        statement=stated.first,
        recommended=leading if is_named else None,
        reason=None if is_named else stated.first,
        leading=leading,
        runner_ups=_list_runner_ups(standing) if standing else [],
        bound=race.bound if race else _find_bound(standing),
        on_fresh_seeds=list_fresh_values(facts, standing.leader) if standing else [],
        dropped=_list_dropped(facts, settings, standing),
        memory=_measure_memory(records, standing),
        time=_measure_time(records, standing),
        not_tried=_list_not_tried(facts, records, standing),
        warnings=[*stated.notes, *stated.certainty],
    )


def _find_state(facts: StudyFacts, records: list[TrialRecord], race: RaceStatement | None) -> _State | None:
    if race is not None:
        return "decided" if race.is_decided else "open"
    if facts.num_planned is None:
        return None
    return "finished" if len(records) >= facts.num_planned else "running"


def _describe_interval(estimate: Estimate) -> Interval:
    low, high = (None if end is None or math.isinf(end) else float(end) for end in (estimate.low, estimate.high))
    return Interval(value=float(estimate.value), low=low, high=high, covers=estimate.covers)


def _describe_setting(evidence: Evidence, setting: Setting) -> AnswerSetting:
    index = evidence.index_of(setting)
    assert index is not None
    num_seeds = count_seeds(evidence)[index] - evidence.num_worst[index]
    return AnswerSetting(
        params=setting.params,
        value=_describe_interval(evidence.estimates[index]),
        num_seeds=num_seeds,
        trials=[record.number for record in setting.records],
    )


def _list_runner_ups(standing: Standing) -> list[RunnerUp]:
    """The settings that are not worse for sure, in the report's order; where no error is known, all others."""
    runner_ups = []
    for setting in standing.tied:
        difference = standing.find_difference(setting)
        described = dict(_describe_setting(standing.evidence, setting))
        runner_ups.append(
            RunnerUp(**described, difference=None if difference is None else _describe_interval(difference))
        )
    return runner_ups


def _find_bound(standing: Standing | None) -> float | None:
    """How much better any ranked setting may be, by the intervals against the leading one, which hold at once.

    With one seed the intervals are over items, which says nothing of another seed.
    """
    if standing is None or standing.compared is None or max(count_seeds(standing.evidence)) == 1:
        return None
    compared, sign = standing.compared, standing.evidence.sign
    others = [one for index, one in enumerate(compared.differences) if index != compared.best]
    ends = [one.high if sign > 0 else one.low for one in others]
    known = [sign * end for end in ends if end is not None and math.isfinite(end)]
    return max(0.0, *map(float, known)) if known and len(known) == len(ends) else None


def _list_dropped(facts: StudyFacts, settings: list[Setting], standing: Standing | None) -> list[Dropped]:
    dropped = []
    for setting in settings:
        for status in Status:
            ended = [record for record in setting.records if record.status is status]
            if ended and status is not Status.FINISHED:
                reason = next((record.reason for record in ended if record.reason), None)
                dropped.append(_drop(setting, status.value, ended, reason))
        broken = list_broken_bounds(facts, setting)
        if broken:
            bounds = " and ".join(map(describe_bound, broken))
            dropped.append(_drop(setting, _CONSTRAINT, setting.finished, f"beyond {bounds}"))
        worse = _find_loss(standing, setting)
        if worse is not None:
            dropped.append(_drop(setting, _WORSE, setting.finished, None, worse))
    return dropped


def _drop(
    setting: Setting, outcome: str, records: list[TrialRecord], reason: str | None, difference: Interval | None = None
) -> Dropped:
    trials = [record.number for record in records]
    return Dropped(params=setting.params, outcome=outcome, trials=trials, reason=reason, difference=difference)


def _find_loss(standing: Standing | None, setting: Setting) -> Interval | None:
    """The setting minus the leading one, where it is worse for sure."""
    index = None if standing is None else standing.evidence.index_of(setting)
    if standing is None or standing.compared is None or index is None or index in standing.compared.tied:
        return None
    return _describe_interval(standing.compared.differences[index])


def _measure_memory(records: list[TrialRecord], standing: Standing | None) -> Memory | None:
    metric = choose_memory_metric(records)
    mean = None if metric is None else _find_mean(standing, metric)
    if metric is None or mean is None:
        return None
    return Memory(metric=metric, meaning=METRICS[metric].label, peak_bytes=mean)


def _measure_time(records: list[TrialRecord], standing: Standing | None) -> Time:
    return Time(
        step_seconds=_find_mean(standing, STEP_SECONDS),
        training_seconds=_find_mean(standing, TRAIN_SECONDS),
        worker_seconds=_sum_worker_seconds(records),
    )


def _find_mean(standing: Standing | None, metric: str) -> float | None:
    spread = None if standing is None else standing.leader.spreads.get(metric)
    return None if spread is None else float(spread.mean)


def _sum_worker_seconds(records: list[TrialRecord]) -> float:
    """Each cohort once, by its trial that took longest: every trial of it has the whole cohort's time."""
    cohorts: dict[tuple[int, ...], float] = {}
    for record in records:
        cohort = tuple(sorted(record.cohort)) or (record.number,)
        seconds = math.fsum(phase.seconds for phase in record.phases.values())
        cohorts[cohort] = max(cohorts.get(cohort, 0.0), seconds)
    return math.fsum(cohorts.values())


def _list_not_tried(facts: StudyFacts, records: list[TrialRecord], standing: Standing | None) -> NotTried:
    finished = [record for record in records if record.status is Status.FINISHED]
    uncovered = [_find_uncovered(name, axis, finished) for name, axis in facts.space.items()]
    ends = [] if standing is None else find_ends(facts, standing.evidence, standing.leader)
    return NotTried(
        ends=[
            AtEnd(name=one.key, value=float(one.value), end="largest" if one.is_largest else "smallest") for one in ends
        ],
        uncovered=[one for one in uncovered if one is not None],
    )


def _find_uncovered(name: str, axis: dict[str, Any], finished: list[TrialRecord]) -> Uncovered | None:
    """What the axis allows and no finished trial has; None where it is covered."""
    tried = [record.params[name] for record in finished if name in record.params]
    values = [choice for choice in axis.get("choices") or [] if choice not in tried]
    numbers = [float(value) for value in tried if is_number(value)]
    below = above = None
    if numbers and "low" in axis and axis["low"] < min(numbers):
        below = [float(axis["low"]), min(numbers)]
    if numbers and "high" in axis and max(numbers) < axis["high"]:
        above = [max(numbers), float(axis["high"])]
    if not values and below is None and above is None:
        return None
    return Uncovered(name=name, values=values, below=below, above=above)
