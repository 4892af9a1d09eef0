"""What the study sentences, in sentences that claim no more than the records show."""

from collections import Counter
from dataclasses import replace
from typing import Final

from sweeplab.records.constraints import list_bounds
from sweeplab.records.items import Items
from sweeplab.records.record import Status, StudyFacts, TrialRecord
from sweeplab.records.stored import is_number, value_at
from sweeplab.report.evidence.comparability import group_comparable
from sweeplab.report.evidence.estimates import Evidence, gather_evidence
from sweeplab.report.evidence.formatting import (
    count_noun,
    describe_bound,
    format_estimate,
    format_value,
    label_metric,
)
from sweeplab.report.evidence.settings import (
    Setting,
    first_objective,
    is_complete,
    keep_allowed,
    list_broken_bounds,
)
from sweeplab.report.findings.comparison import NO_SPREAD, describe_power
from sweeplab.statistics.contrasts import Comparison

_MAX_NAMED: Final = 6  # settings in a sentence; the table has them all
_INCOMPARABLE: Final = (
    "Held-out losses of different data, or of examples cut at different lengths, are of different texts and cannot be "
    "compared, so no setting is called the best of all; the best is named for each."
)
_MAX_LETTERS: Final = 120  # of their names


def state_answer(facts: StudyFacts, settings: list[Setting], items: Items | None = None) -> list[str]:
    """The first sentence answers, the others say how far to trust it."""
    num_started = sum(len(setting.started) for setting in settings)
    num_skipped = sum(len(setting.records) for setting in settings) - num_started
    num_finished = sum(len(setting.finished) for setting in settings)
    planned = "" if facts.num_planned is None else f" ({facts.num_planned} planned)"
    tally = f"{num_finished} of {count_noun(num_started, 'started trial')} finished{planned}."
    if num_skipped:
        tally += f" {count_noun(num_skipped, 'trial')} skipped: predicted not to fit in plan.device_memory."
    records = [record for setting in settings for record in setting.records]
    cuts = [*_warn_of_truncation(records), *_tell_special_names(records)]
    if num_started == num_skipped == 0:
        return ["No trial has been recorded yet."]
    if num_finished == 0:
        return [
            f"No trial finished, so there is nothing to compare{_describe_most_common_end(settings)}.",
            *cuts,
            tally,
        ]
    families = group_comparable(facts, settings, first_objective(facts)[0])
    if len(families) == 1:
        return [*_answer_comparable(facts, settings, items), *cuts, tally]
    apart = [
        f"With {label}: {' '.join(_answer_comparable(facts, _drop_label(members, label), items))}"
        for label, members in families.items()
    ]
    return [_INCOMPARABLE, *apart, *cuts, tally]


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


def _answer_comparable(facts: StudyFacts, settings: list[Setting], items: Items | None) -> list[str]:
    """What is sentences among settings whose objective means the same."""
    metric, _ = first_objective(facts)
    refused = [setting for setting in settings if _is_refused(setting)]
    allowed = [setting for setting in keep_allowed(facts, settings) if setting not in refused]
    constrained = [*_describe_refusals(refused), *_describe_constraints(facts, settings)]
    if not allowed:
        why = "No setting keeps the study's constraints" if facts.constraints else "No setting can run"
        return [f"{why}, so none is called the best.", *constrained]
    evidence = gather_evidence(facts, allowed, metric, items)
    if evidence is None:
        apart = any(is_complete(facts, setting) for setting in allowed)
        why = "No seed was run by all settings" if apart else f"No setting has the {label_metric(metric)} of every seed"
        return [f"{why}, so none is called the best.", *constrained]
    compared = evidence.compared()
    best, cautions = (
        _name_best(facts, allowed, evidence, compared),
        _list_cautions(facts, allowed, evidence, compared),
    )
    return [best, *constrained, *cautions, *_warn_of_ends(facts, evidence)]


def _describe_constraints(facts: StudyFacts, settings: list[Setting]) -> list[str]:
    """What the study allows, and which settings were tried beyond it; nothing without constraints."""
    if not facts.constraints:
        return []
    bounds = " and ".join(map(describe_bound, list_bounds(facts.constraints)))
    beyond = [setting.label for setting in settings if list_broken_bounds(facts, setting)]
    if not beyond:
        return [f"Allowed: {bounds}. Every setting keeps that."]
    names = "; ".join(beyond) if len(beyond) <= _MAX_NAMED else count_noun(len(beyond), "setting")
    return [f"Allowed: {bounds}. Beyond that, and so not ranked: {names}."]


def _warn_of_ends(facts: StudyFacts, evidence: Evidence) -> list[str]:
    """Whether the best lies at an end of the values that were tried, so that a better one may lie beyond.

    Of axes with a list of at least three numbers: two are not a range, and of draws one is always the outermost.
    """
    ends = []
    for key, spec in facts.space.items():
        tried = {one.params[key] for one in evidence.settings if is_number(one.params.get(key))}
        if spec.get("choices") and len(tried) > 2 and evidence.best.params.get(key) in (min(tried), max(tried)):
            largest = evidence.best.params[key] == max(tried)
            ends.append(f"{key}={format_value(evidence.best.params[key])} ({'largest' if largest else 'smallest'})")
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


def _name_best(facts: StudyFacts, settings: list[Setting], evidence: Evidence, compared: Comparison | None) -> str:
    """The best, its mean with its interval, and which others may be as good."""
    metric, direction = first_objective(facts)
    best = evidence.best
    estimate = evidence.estimate(best)
    assert estimate is not None
    num_seeds = count_noun(evidence.table.num_seeds, "seed").replace("1 seed", "one seed")
    what = num_seeds if evidence.table.num_seeds == 1 else f"mean of {num_seeds}"
    certain = "" if estimate.low is None else f"; 95 % interval over {estimate.covers}"
    value = f"{format_estimate(metric, estimate)} ({what}{certain})"
    if len(settings) == 1:
        which = "is allowed" if facts.constraints else "was run"
        return f"One setting {which} ({best.label}): {label_metric(metric)} {value}."
    extreme = "lowest" if direction == "minimize" else "highest"
    rank = f"has the {extreme} mean {label_metric(metric)}: {value}"
    among = "" if all(is_complete(facts, one) for one in settings) else "Of the settings with a value for every seed, "
    return f"{among}{best.label} {rank}{_name_rivals(evidence, compared)}."


def _name_rivals(evidence: Evidence, compared: Comparison | None) -> str:
    """What is said of the other settings, after a semicolon; nothing where there is none."""
    if len(evidence.settings) == 1:
        return ""
    if compared is None:
        return "; how far chance goes is not known, so no other is called worse"
    names = [evidence.settings[index].label for index in compared.tied if index != compared.best]
    worse = "with this seed every other is worse" if evidence.table.num_seeds == 1 else "every other is worse"
    if not names:
        return f"; {worse}, with 95 % certainty for all at once"
    if len(names) == len(evidence.settings) - 1:
        return "; none of the others can be told from it"
    if len(names) > _MAX_NAMED or sum(map(len, names)) > _MAX_LETTERS:
        return f"; {len(names)} of the {len(evidence.settings) - 1} others cannot be told from it"
    return f"; {' and '.join(names)} cannot be told from it, {worse}"


def _list_cautions(
    facts: StudyFacts, settings: list[Setting], evidence: Evidence, compared: Comparison | None
) -> list[str]:
    """How far the answer carries, and which settings could not take part."""
    sentences = []
    if evidence.table.num_seeds == 1:
        sentences.append(
            "With one seed nothing is known of the spread over seeds: a difference may be the seed's, and an interval "
            "over items does not cover that."
        )
    if compared is not None:
        sentences += describe_power(evidence, compared)
    elif evidence.table.num_seeds > 1 and len(evidence.settings) > 1:
        sentences.append(NO_SPREAD)
    sentences += _warn_of_uneven_seeds(evidence)
    pruned = [setting for setting in settings if _is_pruned(setting)]
    if pruned:
        count = count_noun(len(pruned), "setting")
        sentences.append(f"{count} not ranked: pruned, since others did better by the same step.")
    left_out = [setting for setting in settings if not is_complete(facts, setting) and setting not in pruned]
    if left_out:
        names = "; ".join(f"{setting.label} ({setting.counts} finished{setting.skipped})" for setting in left_out)
        who = names if len(left_out) <= _MAX_NAMED else count_noun(len(left_out), "setting")
        sentences.append(f"Not ranked, because not every seed has a value: {who}.")
    return sentences


def _warn_of_uneven_seeds(evidence: Evidence) -> list[str]:
    """That some settings have more seeds than the comparison, which takes those that all have."""
    num_seeds = evidence.table.num_seeds
    more = [one for one in evidence.settings if one.spreads[evidence.metric].num_seeds > num_seeds]
    if not more:
        return []
    return [
        f"Settings are compared with the {count_noun(num_seeds, 'seed')} that all of them have; those with more "
        f"({len(more)}) have in tables and figures the mean of all their own, without an interval."
    ]


def _describe_refusals(refused: list[Setting]) -> list[str]:
    """That settings cannot run, with the first one's reason."""
    if not refused:
        return []
    reason = next(record.reason for record in refused[0].records if record.status is Status.REFUSED)
    if len(refused) == 1:
        return [f"{refused[0].label} cannot run: {reason}."]
    return [f"{len(refused)} settings cannot run, the first, {refused[0].label}, because {reason}."]


def _is_refused(setting: Setting) -> bool:
    return any(record.status is Status.REFUSED for record in setting.records)


def _is_pruned(setting: Setting) -> bool:
    return any(record.status is Status.PRUNED for record in setting.records)
