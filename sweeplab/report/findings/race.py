"""What a race says: which setting to use, what may be lost by it at most, and who may still be better."""

import math
from typing import Final

from sweeplab.records.answer import RaceStatement
from sweeplab.records.record import RaceGoal, Status, StudyFacts
from sweeplab.report.evidence.estimates import Evidence
from sweeplab.report.evidence.formatting import count_noun, format_metric, label_metric
from sweeplab.report.evidence.race import judge_study
from sweeplab.report.evidence.settings import Setting, first_objective, is_refused, keep_allowed, read_number
from sweeplab.report.findings.comparison import describe_gain
from sweeplab.report.findings.leader import are_all_equal, count_all
from sweeplab.statistics.race import RaceTable, Standing

_MOST_NAMED: Final = 3
_ASSUMED: Final = (
    "It assumes that seeds move settings alike, or unlike by a factor of about two; where the best alone spreads three "
    "times as much as all others, it was wrong in 10 of 100 simulated studies."
)


def summarize_race(facts: StudyFacts, settings: list[Setting]) -> RaceStatement | None:
    """What the race says of the settings that may win it, as numbers; None without a race, or before its first run."""
    runners = [setting for setting in keep_allowed(facts, settings) if not is_refused(setting)]
    judged = judge_study(facts, runners)
    if judged is None or facts.race is None:
        return None
    _, standing = judged
    num_open = len(standing.find_open(facts.race.within))
    bound = None if math.isinf(standing.bound) else standing.bound
    leader = runners[standing.leader].params
    return RaceStatement(leader, bound, facts.race.within, facts.race.certainty, num_open, num_open == 0)


def state_race(
    facts: StudyFacts, settings: list[Setting], evidence: Evidence, judged: tuple[RaceTable, Standing]
) -> list[str]:
    """The answer in a sentence, then how sure it is. Indices of the race are those of `settings`."""
    assert facts.race is not None
    (table, standing), goal, metric = judged, facts.race, evidence.metric
    leader = settings[standing.leader]
    estimate = evidence.estimate(leader)
    assert estimate is not None
    gain = describe_gain(evidence) if len(evidence.settings) > 1 else ""
    has = f"{label_metric(metric)} {format_metric(metric, estimate.value)}{gain}"
    num_seeds, within = int(table.counts_K[standing.leader]), format_metric(metric, goal.within)
    open_ones = [settings[index].label for index in standing.find_open(goal.within)]
    if num_seeds == 1 and open_ones:
        return [f"So far {leader.label} leads with one seed: {has}. Another seed may turn that around."]
    sure = [_describe_certainty(goal), f"{_describe_runs(table, settings)} {_ASSUMED}", *_describe_finalists(goal)]
    if not open_ones and are_all_equal(evidence, leader):
        same = f"{label_metric(metric)}, {format_metric(metric, estimate.value)}"
        return [f"No winner: {count_all(evidence)} settings have the same {same}.", *sure]
    if not open_ones:
        lost = f" by more than {format_metric(metric, standing.bound)}, and {within} was asked for"
        others = "setting that was trained to its end" if _count_stopped(settings) else "setting"
        others = "finalist" if goal.num_finalists is not None else others
        words = f"Use {leader.label}: {has}. No other {others} is better{lost if standing.bound else ''}."
        return [words, *_describe_fresh(facts, evidence, leader), *sure]
    named = " and ".join(open_ones) if len(open_ones) <= _MOST_NAMED else count_noun(len(open_ones), "other setting")
    most = "" if math.isinf(standing.bound) else f", by {format_metric(metric, standing.bound)} at most"
    words = f"So far {leader.label} leads: {has}. {named} may be better by more than {within}{most}"
    return [f"{words}; more seeds would tell: raise study.budget, or give study.seeds more.", *sure]


def _count_stopped(settings: list[Setting]) -> int:
    """Settings that were stopped on their curve."""
    return sum(any(record.status is Status.PRUNED for record in one.records) for one in settings)


def list_fresh_values(facts: StudyFacts, leader: Setting) -> list[float]:
    """The values of a setting with seeds that had no part in naming it; none without a race."""
    seeds = facts.race.fresh_seeds if facts.race is not None else []
    values = [read_number(one, first_objective(facts)[0]) for one in leader.finished if one.seed in seeds]
    return [value for value in values if value is not None]


def _describe_fresh(facts: StudyFacts, evidence: Evidence, leader: Setting) -> list[str]:
    """The value of the setting with seeds that had no part in naming it."""
    known = list_fresh_values(facts, leader)
    if not known:
        return []
    shown = " and ".join(format_metric(evidence.metric, value) for value in known)
    return [f"With {count_noun(len(known), 'fresh seed')}, which had no part in the choice, it has {shown}."]


def _describe_finalists(goal: RaceGoal) -> list[str]:
    if goal.num_finalists is None:
        return []
    return [
        f"The {goal.num_finalists} finalists were the best with one seed, which has no part in their values here; "
        "whether a setting that was not among them is better is outside this certainty."
    ]


def _describe_certainty(goal: RaceGoal) -> str:
    share = f"{100 * goal.certainty:g}%"
    return (
        f"In {share} of studies what the race says is so, however often one looks, and whenever it is "
        "stopped or goes on."
    )


def _describe_runs(table: RaceTable, settings: list[Setting]) -> str:
    """How the runs were spent, and what is outside the certainty."""
    counts = table.counts_K[table.counts_K > 0]
    num_stopped, num_out = _count_stopped(settings), int(table.out_K.sum())
    sentences = [
        f"{count_noun(int(counts.sum()), 'whole run')} were spent on {count_noun(len(counts), 'setting')}, from "
        f"{int(counts.min())} to {count_noun(int(counts.max()), 'seed')} each."
    ]
    if num_stopped:
        sentences.append(
            f"{count_noun(num_stopped, 'other setting')} stopped early, since the curve lagged behind; whether one of "
            "them would have caught up is outside this certainty."
        )
    if num_out > num_stopped:
        left = count_noun(num_out - num_stopped, "setting")
        sentences.append(f"{left} left the race, since a run failed or broke a constraint.")
    return " ".join(sentences)
