"""A race as the records have it: its rounds, the table that says who leads, and whom to run next."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

import numpy as np

from sweeplab.config.space import Axis, Params, axis, grid, identify_params, list_begin
from sweeplab.records.constraints import list_bounds, measure_excess
from sweeplab.records.metrics import direction, grows_with_value
from sweeplab.records.record import Status, StudyFacts, TrialRecord
from sweeplab.report.evidence.formatting import count_noun, describe_params
from sweeplab.report.evidence.settings import Setting, first_objective, read_number
from sweeplab.statistics.race import (
    Point,
    RaceTable,
    Run,
    Standing,
    choose_runs,
    judge_race,
    list_further,
    list_neighbors,
    share_error,
)

_RATE: Final = "optimizer.lr"  # the axis that begins with published values, which may be wrong


class RaceRules(NamedTuple):
    """What the rounds of a race follow from, beside results."""

    varied: list[Axis]
    seeds: list[int]
    metric: str
    constraints: dict[str, dict[str, float]]
    within: float
    certainty: float


class RaceCourse:
    """The rounds of a race. A round depends only on the results of those before it, so that a study which goes on after
    a stop has the rounds of one that was never stopped."""

    def __init__(self, rules: RaceRules, points: list[Params]) -> None:
        """`points`: the settings that it begins with."""
        self.rules = rules
        self.points = points
        self.runs: list[Run] = []  # of the round
        self.num_counted = 0  # runs of the rounds that are over
        self.standing: Standing | None = None  # after those
        self.num_seeds = 0  # that the leader had then
        self.joined: list[Params] = []  # beside it, since that decided
        self.is_over = False
        self._walks = any(one.begin is not None for one in rules.varied)
        self._stage = 0
        self.records: dict[int, TrialRecord] = {}  # by number
        self._numbers: dict[tuple[str, int], int] = {}  # of them, by setting and seed
        self._counted: list[TrialRecord] = []

    @property
    def error_share(self) -> float:
        """The part of the error that this stage has."""
        return share_error(self._stage) if self._walks else 1.0

    def note(self, record: TrialRecord) -> None:
        """Notes what came of a trial."""
        self.records[record.number] = record
        self._numbers[identify_params(record.params), record.seed] = record.number

    def judge(self) -> Standing | None:
        """Where the race stands with every result so far."""
        return judge_race(self._tabulate(self.records.values()), self.rules.certainty)

    def advance(self) -> None:
        """Goes on to the first round that is not over, if there is one."""
        while not self.is_over:
            ended = [record for run in self.runs if (record := self._find_record(run)) is not None]
            if len(ended) < len(self.runs):
                return
            self._counted += ended
            self.num_counted = len(self._counted)
            table = self._tabulate(self._counted)
            self.standing = standing = judge_race(table, self.rules.certainty)
            self.num_seeds = 0 if standing is None else int(table.counts_K[standing.leader])
            self.runs = choose_runs(table, standing, self.rules.within)
            self.joined = [] if standing is None or not self._walks else self._list_joining(standing)
            if self.joined:
                self.points += self.joined
                self._stage += 1
                self.runs = choose_runs(self._tabulate(self._counted), None, self.rules.within)  # their first seeds
            self.is_over = not self.runs

    def describe(self) -> str | None:
        """Where the race stands after the rounds that are over, in a sentence; within the first one once a quarter of
        its settings have ended; None before."""
        standing, within = self.standing, self.rules.within
        if standing is None:
            return self._describe_first()
        leader, runs = describe_params(self.points[standing.leader]), count_noun(self.num_counted, "run")
        words, open_ones = f"Now: {leader} leads after {runs}", standing.find_open(within)
        joined = "; ".join(map(describe_params, self.joined))
        if self.num_seeds == 1 and self.joined:
            return f"{words}, at an end of the rates tried. Now further out: {joined}"
        if len(open_ones) and self.num_seeds == 1:
            return f"{words}; another seed will tell how sure that is"
        if len(open_ones):
            return f"{words}; {count_noun(len(open_ones), 'setting')} may be better, by {standing.bound:.3g} at most"
        words = f"{words}, and nothing tried is better by more than {within:g}"
        return f"{words}. Now beside it: {joined}" if joined else words

    def _describe_first(self) -> str | None:
        """Which of the settings leads that have ended in the first round; None before a quarter have, or where
        none of these can be the best."""
        num_ended = sum(self._find_record(run) is not None for run in self.runs)
        standing = self.judge() if num_ended >= max(2, len(self.runs) / 4) else None
        if standing is None:
            return None
        leader = describe_params(self.points[standing.leader])
        return f"Now: {leader} leads the first {num_ended} of {len(self.runs)} settings, with one seed each"

    def _list_joining(self, standing: Standing) -> list[Params]:
        """The settings that join now: those beside the leader once the race is decided; before any second seed those
        with a further rate, where the leader's is at an end, so that a wrong beginning costs little."""
        if self.runs and self.num_seeds > 1:
            return []
        keys, axes = [one.key for one in self.rules.varied], [one.points() for one in self.rules.varied]
        tried = [tuple(point[key] for key in keys) for point in self.points]
        leader, joining = tried[standing.leader], list[Point]()
        if self.num_seeds == 1 and _RATE in keys:
            place = keys.index(_RATE)
            joining = list_further(axes[place], place, leader, tried)
        if not joining and not self.runs:
            joining = list_neighbors(axes, leader, set(tried))
        return [dict(zip(keys, values, strict=True)) for values in joining]

    def _find_record(self, run: Run) -> TrialRecord | None:
        number = self._numbers.get((identify_params(self.points[run.setting]), self.rules.seeds[run.seed]))
        return None if number is None else self.records[number]

    def _tabulate(self, records: Iterable[TrialRecord]) -> RaceTable:
        rules = self.rules
        table = tabulate_race(self.points, rules.seeds, records, rules.metric, rules.constraints)
        return replace(table, error_share=self.error_share)


def tabulate_race(
    points: Sequence[dict[str, Any]],
    seeds: Sequence[int],
    records: Iterable[TrialRecord],
    metric: str,
    constraints: dict[str, dict[str, float]],
) -> RaceTable:
    """What is known of each point with each seed. A point is out once a trial of it did not finish, has no value, or
    breaks a constraint: such runs are not missing by chance. Who stops a trial by hand takes its point out of the
    race."""
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


def choose_finalists(rules: RaceRules, records: Iterable[TrialRecord], count: int) -> list[Params]:
    """The best settings by the first seed, the best one first; those that failed or break a constraint are none."""
    first = [record for record in records if record.seed == rules.seeds[0]]
    points = list({identify_params(record.params): record.params for record in first}.values())
    table = tabulate_race(points, rules.seeds[:1], first, rules.metric, rules.constraints)
    order = np.argsort(np.where(table.out_K, math.inf, table.losses_KS[:, 0]), kind="stable")
    return [points[row] for row in order[:count] if not table.out_K[row]]


def judge_study(facts: StudyFacts, settings: list[Setting]) -> tuple[RaceTable, Standing] | None:
    """Where the race of a study stands, by the indices of `settings`; None without a race, or without a run of it."""
    if facts.race is None or not settings:
        return None
    records = [record for setting in settings for record in setting.records]
    course, metric = follow_course(facts, records), first_objective(facts)[0]
    points, seeds = [setting.params for setting in settings], course.rules.seeds
    table = tabulate_race(points, seeds, records, metric, facts.constraints)
    table = replace(table, error_share=course.error_share)
    has_finalists = facts.race.num_finalists is not None
    standing = _judge_finalists(course, points) if has_finalists else judge_race(table, facts.race.certainty)
    return None if standing is None else (table, standing)


def _judge_finalists(course: RaceCourse, points: list[Params]) -> Standing | None:
    """The standing of finals by the indices of all settings; those that are no finalists are out."""
    standing = course.judge()
    if standing is None:
        return None
    rows = [points.index(point) for point in course.points]
    bounds_K = np.full(len(points), -math.inf)
    bounds_K[rows] = standing.bounds_K
    return Standing(rows[standing.leader], bounds_K)


def follow_course(facts: StudyFacts, records: Iterable[TrialRecord]) -> RaceCourse:
    """The rounds that a race has had."""
    goal, known = facts.race, list(records)
    assert goal is not None
    varied = [axis(key, spec) for key, spec in facts.space.items()]
    metric = first_objective(facts)[0]
    rules = RaceRules(varied, facts.seeds, metric, facts.constraints, goal.within, goal.certainty)
    if goal.num_finalists is None:
        course = RaceCourse(rules, grid(list_begin(varied)))
    else:
        finalists = choose_finalists(rules, known, goal.num_finalists)
        course = RaceCourse(rules._replace(seeds=facts.seeds[1:]), finalists)
    for record in known:
        course.note(record)
    course.advance()
    return course
