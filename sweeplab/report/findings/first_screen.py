"""The first screen of the page: what to use, what it gains, how sure that is, what it costs, and what to do next."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sweeplab.records.items import Items
from sweeplab.records.metrics import METRICS
from sweeplab.records.record import BaseScore, StudyFacts
from sweeplab.report.evidence.costs import (
    STEP_SECONDS,
    TRAIN_SECONDS,
    choose_memory_metric,
    has_shared_training,
    stand_in_mean,
)
from sweeplab.report.evidence.formatting import (
    count_noun,
    format_count,
    format_estimate,
    format_metric,
    format_step_duration,
    format_value,
    label_metric,
)
from sweeplab.report.evidence.settings import Setting, collect_records
from sweeplab.report.findings.certainty import count_seeds
from sweeplab.report.findings.gain import describe_difference, describe_gain_over_base
from sweeplab.report.findings.leader import Standing, find_standing
from sweeplab.report.findings.next_steps import list_open_steps
from sweeplab.report.findings.race import summarize_race
from sweeplab.statistics.intervals import estimate_without_error


class Point(NamedTuple):
    """What a reader asks, and the answer to it."""

    question: str
    answer: str


class FirstScreen(NamedTuple):
    points: list[Point]
    overrides: str  # the leading setting as one would type it; empty where nothing was varied


def build_first_screen(
    facts: StudyFacts, settings: list[Setting], bases: Sequence[BaseScore], items: Items | None = None
) -> FirstScreen | None:
    """None where settings cannot be compared, or none has a value."""
    standing = find_standing(facts, settings, items, summarize_race(facts, settings))
    if standing is None:
        return None
    typed = " ".join(f"{key}={_quote(format_value(value))}" for key, value in standing.leader.params.items())
    return FirstScreen(list(_list_points(facts, standing, bases)), typed)


def _quote(text: str) -> str:
    return f"'{text}'" if any(mark in text for mark in " [{(") else text


def _list_points(facts: StudyFacts, standing: Standing, bases: Sequence[BaseScore]) -> Iterator[Point]:
    evidence, leader = standing.evidence, standing.leader
    estimate = evidence.estimate(leader)
    assert estimate is not None
    yield Point(label_metric(evidence.metric), format_estimate(evidence.metric, estimate))
    gain = describe_gain_over_base(evidence, leader, bases)
    if gain is not None:
        yield Point("Against the base", gain)
    if standing.num_others:
        yield Point("Against the next", _describe_next(standing, standing.ranked[1]))
    yield Point("How sure", _describe_certainty(standing))
    yield from _list_costs(leader, settings=evidence.settings)
    advice = [step.advice for step in list_open_steps(facts, standing)]
    yield Point("What next", "; ".join(advice) or "nothing: the answer holds among what was tried")


def _describe_next(standing: Standing, runner_up: Setting) -> str:
    """The setting with the next best mean, and how far it is behind."""
    evidence, difference = standing.evidence, standing.find_difference(runner_up)
    if difference is None:
        best, other = (evidence.estimate(one) for one in (standing.leader, runner_up))
        assert best is not None
        assert other is not None
        bare = estimate_without_error(other.value - best.value)
        return f"{runner_up.label} is {describe_difference(evidence.metric, bare, evidence.sign)}; chance is not known"
    word = "may be as good" if runner_up in standing.tied else "clearly worse"
    return f"{runner_up.label} is {describe_difference(evidence.metric, difference, evidence.sign)}: {word}"


def _describe_certainty(standing: Standing) -> str:
    seeds = count_noun(max(count_seeds(standing.evidence)), "seed")
    if max(count_seeds(standing.evidence)) == 1:
        return f"not at all: {seeds}, and another may turn it around"
    if standing.race is not None:
        may = count_noun(standing.race.num_open, "other setting")
        return f"{may} may be better by more than was asked; {100 * standing.race.certainty:g}%, at any look"
    if not standing.num_others:
        return f"{seeds}; no other setting to compare with"
    if standing.compared is None:
        return f"not known: {seeds} without any spread"
    worse = standing.num_others - len(standing.tied)
    return f"{worse} of {standing.num_others} others clearly worse, {len(standing.tied)} may be as good (95 %, {seeds})"


def _list_costs(leader: Setting, settings: list[Setting]) -> Iterator[Point]:
    """Memory, time and size of a setting, as far as they were measured."""
    records = collect_records(settings)
    memory = choose_memory_metric(records)
    size = _find_mean(leader, memory)
    if memory is not None and size is not None:
        kind = METRICS[memory].label.removesuffix(", training").removeprefix("peak memory").removeprefix("peak ")
        yield Point("Memory", f"{format_metric(memory, size)} at its peak{kind and f', {kind.strip()}'}")
    step, training = _find_mean(leader, STEP_SECONDS), leader.spreads.get(TRAIN_SECONDS)
    spent = [f"{format_step_duration(step)} per step"] if step is not None else []
    if training is not None and not has_shared_training(records):
        spent.append(f"{format_metric(TRAIN_SECONDS, training.mean)} of training")
    if spent:
        yield Point("Time", ", ".join(spent))
    params = leader.spreads.get("num_trainable_params")
    if params is not None:
        yield Point("Trained", f"{format_count(params.mean)} parameters")


def _find_mean(setting: Setting, metric: str | None) -> float | None:
    spread = None if metric is None else setting.spreads.get(metric)
    return spread.mean if spread is not None else None if metric is None else stand_in_mean(setting, metric)
