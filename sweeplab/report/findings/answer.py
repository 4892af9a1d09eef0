"""What the study found, in sentences that claim no more than the records show."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from sweeplab.records.constraints import list_bounds
from sweeplab.records.items import Items
from sweeplab.records.record import BaseScore, Status, StudyFacts, TrialRecord
from sweeplab.records.stored import is_number, value_at
from sweeplab.report.evidence.comparability import group_comparable
from sweeplab.report.evidence.estimates import Evidence, gather_evidence
from sweeplab.report.evidence.formatting import (
    count_noun,
    describe_bound,
    format_count,
    format_metric,
    format_value,
    label_metric,
)
from sweeplab.report.evidence.race import judge_study
from sweeplab.report.evidence.settings import Setting, first_objective, is_refused, keep_allowed, list_broken_bounds
from sweeplab.report.findings.certainty import MAX_NAMED, count_seeds, list_certainty
from sweeplab.report.findings.comparison import describe_gain
from sweeplab.report.findings.gain import describe_lack_of_gain
from sweeplab.report.findings.judge import tell_of_judge
from sweeplab.report.findings.leader import are_all_equal, count_all, find_cheapest, list_equals
from sweeplab.report.findings.place import describe_place, list_surely_better, tell_surely_better
from sweeplab.report.findings.race import state_race
from sweeplab.statistics.comparison import Comparison

_MAX_LETTERS: Final = 120  # of their names
_INCOMPARABLE: Final = (
    "Held-out losses of different data, or of examples cut at different lengths, are of different texts and cannot be "
    "compared, so no setting is called the best of all; the best is named for each."
)


@dataclass(frozen=True)
class Answer:
    """What the study found, in plain sentences."""

    first: str  # what to use and what that gains
    notes: list[str]  # what else a reader has to know before using it
    certainty: list[str]  # how sure it is, with the numbers

    @property
    def sentences(self) -> list[str]:
        return [self.first, *self.notes, *self.certainty]


class End(NamedTuple):
    """An end of the values that were tried."""

    key: str
    value: int | float
    is_largest: bool


def state_answer(
    facts: StudyFacts, settings: list[Setting], items: Items | None = None, bases: Sequence[BaseScore] = ()
) -> Answer:
    """The answer of the study by its first objective; that nothing was gained over the base is said first."""
    num_started = sum(len(setting.started) for setting in settings)
    num_skipped = sum(len(setting.records) for setting in settings) - num_started
    num_finished = sum(len(setting.finished) for setting in settings)
    planned = "" if facts.num_planned is None else f" ({facts.num_planned} planned)"
    tally = f"{num_finished} of {count_noun(num_started, 'started trial')} finished{planned}."
    if num_skipped:
        tally += f" {count_noun(num_skipped, 'trial')} skipped: predicted not to fit in plan.device_memory."
    if num_stopped := sum(len(setting.stopped) for setting in settings):
        counted = "counted neither for nor against their settings" if facts.race is None else "out of the race since"
        tally += f" {count_noun(num_stopped, 'trial')} stopped by hand, {counted}."
    records = [record for setting in settings for record in setting.records]
    notes = [*_warn_of_truncation(records), *_tell_special_names(records), *_tell_skipped_records(records)]
    notes += [*_warn_of_learned(records), *tell_of_judge(facts, records, items), tally]
    if num_started == num_skipped == 0:
        return Answer("No trial has been recorded yet.", [], [])
    if num_finished == 0:
        why = _describe_most_common_end(settings)
        return Answer(f"No trial finished, so there is nothing to compare{why}.", notes, [])
    families = group_comparable(facts, settings, first_objective(facts)[0])
    if len(families) == 1:
        answer = _answer_comparable(facts, settings, items, bases)
        return replace(answer, notes=[*answer.notes, *notes])
    answers = {
        label: _answer_comparable(facts, _drop_label(members, label), items, bases)
        for label, members in families.items()
    }
    apart = [f"With {label}: {' '.join((one.first, *one.notes))}" for label, one in answers.items()]
    sure = [f"With {label}: {' '.join(one.certainty)}" for label, one in answers.items() if one.certainty]
    return Answer(_INCOMPARABLE, [*apart, *notes], sure)


def _describe_most_common_end(settings: list[Setting]) -> str:
    """How most trials ended, where one has ended, with the first one's reason."""
    ended = [record for setting in settings for record in setting.records]
    status, count = Counter(record.status for record in ended).most_common(1)[0]
    reason = next((record.reason for record in ended if record.status is status and record.reason), None)
    which = "" if count == 1 else "the first: "
    example = f" ({which}{reason})" if reason else ""
    return f": {count} of {len(ended)} {status.value.replace('_', ' ')}{example}"


def _drop_label(settings: list[Setting], label: str) -> list[Setting]:
    """The settings without `label` at the beginning of theirs, where it has been said."""
    return [replace(one, label=one.label.removeprefix(f"{label}, ")) for one in settings]


def _answer_comparable(
    facts: StudyFacts, settings: list[Setting], items: Items | None, bases: Sequence[BaseScore]
) -> Answer:
    """The answer among settings whose objective means the same."""
    metric, _ = first_objective(facts)
    refused = [setting for setting in settings if is_refused(setting)]
    allowed = [setting for setting in keep_allowed(facts, settings) if setting not in refused]
    constrained = [*_describe_refusals(refused), *_describe_constraints(facts, settings)]
    if not allowed:
        why = "No setting keeps the study's constraints" if facts.constraints else "No setting can run"
        return Answer(f"{why}, so none is called the best.", constrained, [])
    evidence = gather_evidence(facts, allowed, metric, items)
    if evidence is None:
        return Answer(f"No setting has a value of {label_metric(metric)}, so none is called the best.", constrained, [])
    compared, judged = evidence.compared(), judge_study(facts, allowed)
    notes = [*constrained, *_warn_of_ends(facts, evidence)]
    certainty = list_certainty(allowed, evidence, compared)
    leader = evidence.best if judged is None else allowed[judged[1].leader]
    no_gain, sure = describe_lack_of_gain(evidence, leader, bases), list[str]()
    if judged is None:
        first = _name_best(facts, allowed, evidence, compared)
    else:
        first, *sure = state_race(facts, allowed, evidence, judged)
    return Answer(f"{no_gain} {first}".lstrip(), notes, [*sure, *certainty])


def _describe_constraints(facts: StudyFacts, settings: list[Setting]) -> list[str]:
    """What the study allows, and which settings were tried beyond it; nothing without constraints."""
    if not facts.constraints:
        return []
    bounds = " and ".join(map(describe_bound, list_bounds(facts.constraints)))
    beyond = [setting.label for setting in settings if list_broken_bounds(facts, setting)]
    if not beyond:
        return [f"Allowed: {bounds}. Every setting keeps that."]
    names = "; ".join(beyond) if len(beyond) <= MAX_NAMED else count_noun(len(beyond), "setting")
    return [f"Allowed: {bounds}. Beyond that, and so not ranked: {names}."]


def find_ends(facts: StudyFacts, evidence: Evidence, setting: Setting) -> list[End]:
    """The axes on whose end the setting lies, so that a better one may lie beyond.

    Of axes with a list of at least three numbers: two are not a range, and of draws one is always the outermost. None
    where another value is as good to the last digit, such as a score of 0 everywhere: nothing leads to the end.
    """
    ends, equals = [], list_equals(evidence, setting)
    for key, spec in facts.space.items():
        tried = {one.params[key] for one in evidence.settings if is_number(one.params.get(key))}
        if any(one.params.get(key) != setting.params.get(key) for one in equals):
            continue
        if spec.get("choices") and len(tried) > 2 and setting.params.get(key) in (min(tried), max(tried)):
            ends.append(End(key, setting.params[key], setting.params[key] == max(tried)))
    return ends


def _warn_of_ends(facts: StudyFacts, evidence: Evidence) -> list[str]:
    """Whether the best lies at an end of the values that were tried."""
    ends = [
        f"{one.key}={format_value(one.value)} ({'largest' if one.is_largest else 'smallest'})"
        for one in find_ends(facts, evidence, evidence.best)
    ]
    if not ends:
        return []
    return [f"The best lies at an end of what was tried, {' and '.join(ends)}: a better one may lie beyond."]


def _warn_of_truncation(records: list[TrialRecord]) -> list[str]:
    """Where examples were cut: for each length, the trial that lost the most of them."""
    worst: dict[int, TrialRecord] = {}
    for record in records:
        length = value_at(record.config, "training.max_length")
        if record.num_truncated and isinstance(length, int):
            before = worst.setdefault(length, record)
            worst[length] = max(before, record, key=lambda one: one.num_truncated or 0)
    sentences = []
    for length, record in sorted(worst.items()):
        cut = count_noun(record.num_truncated or 0, "training example")
        if record.num_train_examples is not None:
            cut = f"{record.num_truncated:,} of {count_noun(record.num_train_examples, 'training example')}"
        if record.num_dropped:
            cut += f", {record.num_dropped:,} of them before the response began, so that nothing was left to learn"
        sentences.append(f"training.max_length={length} cut {cut}; raise it to learn from whole examples.")
    return sentences


def _tell_special_names(records: list[TrialRecord]) -> list[str]:
    """How many examples hold names of special tokens, by the trial that had the most of them."""
    most = max((record.num_naming_special or 0 for record in records), default=0)
    if not most:
        return []
    examples = count_noun(most, "training example")
    return [f"{examples} named special tokens in the data's own text; they were learned as text."]


def _tell_skipped_records(records: list[TrialRecord]) -> list[str]:
    """How many records of the data were left out, by the trial that had the most of them."""
    most = max((record.num_skipped or 0 for record in records), default=0)
    return [f"{count_noun(most, 'record')} of the data teach nothing and were skipped."] if most else []


def _warn_of_learned(records: list[TrialRecord]) -> list[str]:
    """How many held-out examples were trained on, by the trial that had the most of them."""
    worst = max(records, key=lambda one: one.num_learned or 0, default=None)
    if worst is None or not worst.num_learned:
        return []
    held = f"{worst.num_learned:,} of {count_noun(worst.num_heldout_examples or 0, 'held-out example')}"
    return [f"{held} stood in training too: the held-out loss says how well they were learned by heart."]


def _name_best(facts: StudyFacts, settings: list[Setting], evidence: Evidence, compared: Comparison | None) -> str:
    """What to use, and what that gains."""
    best, label = evidence.best, label_metric(evidence.metric)
    estimate = evidence.estimate(best)
    assert estimate is not None
    value = format_metric(evidence.metric, estimate.value)
    if len(evidence.settings) == 1:
        if len(settings) > 1:
            return f"Only {best.label} has a value of {label}: {value}."
        which = "is allowed" if facts.constraints else "was run"
        return f"One setting {which}, {best.label}: {label} {value}."
    if are_all_equal(evidence, best):
        same = f"{count_all(evidence)} settings have the same {label}, {value}"
        if max(count_seeds(evidence)) == 1:
            return f"With one seed {same}; another seed may tell them apart."
        return f"No winner: {same}.{_name_cheapest(evidence)}"
    gain = describe_gain(evidence)
    place = describe_place(evidence, f"{value}{gain}")
    has = f"{best.label} {place}"
    if max(count_seeds(evidence)) == 1:
        return f"With one seed {has}; another seed may turn that around, so that nothing is decided."
    if compared is None:
        return f"{has}; how far chance goes is not known, so that no setting is called the best."
    rivals = [evidence.settings[index].label for index in compared.tied if index != compared.best]
    worse = f"every other {'setting' if len(evidence.settings) == len(settings) else 'ranked setting'} is worse"
    if not rivals:
        return f"Use {best.label}: its {label} is {value}{gain}, and {worse}."
    better = list_surely_better(evidence, compared)
    ahead = tell_surely_better(evidence, better)
    if len(rivals) == len(evidence.settings) - 1:
        equal = "" if better else f": {_equal_all(evidence)}"
        return f"No winner{equal}. {has}.{ahead}{_name_cheapest(evidence)}"
    if len(rivals) > MAX_NAMED or sum(map(len, rivals)) > _MAX_LETTERS:
        others = f"{len(rivals)} of the {len(evidence.settings) - 1} others may be as good"
    else:
        others = f"{' and '.join(rivals)} may be as good, {worse}"
    return f"Use {best.label}: it {place}; {others}.{ahead}"


def _equal_all(evidence: Evidence) -> str:
    if len(evidence.settings) == 2:
        return "either setting may be as good as the other"
    return f"each of the {len(evidence.settings)} settings may be as good as the others"


def _name_cheapest(evidence: Evidence) -> str:
    cheapest = find_cheapest(evidence.settings)
    if cheapest is None:
        return ""
    size = format_count(cheapest.spreads["num_trainable_params"].mean)
    return f" The cheapest is {cheapest.label}, with {size} trained parameters."


def _describe_refusals(refused: list[Setting]) -> list[str]:
    """That settings cannot run, with the first one's reason."""
    if not refused:
        return []
    reason = next(record.reason for record in refused[0].records if record.status is Status.REFUSED)
    if len(refused) == 1:
        return [f"{refused[0].label} cannot run: {reason}."]
    return [f"{len(refused)} settings cannot run, the first, {refused[0].label}, because {reason}."]
