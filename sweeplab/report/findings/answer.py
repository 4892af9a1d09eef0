"""What the study found, in sentences that claim no more than the records show."""

from collections import Counter
from dataclasses import replace
from typing import Final

from sweeplab.records.items import Items
from sweeplab.records.record import Status, StudyFacts, TrialRecord
from sweeplab.records.typed import is_number, value_at
from sweeplab.report.evidence.comparability import by_meaning
from sweeplab.report.evidence.estimates import Evidence, evidence
from sweeplab.report.evidence.formatting import amount, metric_label, plural, value_text
from sweeplab.report.evidence.settings import Setting, complete, first_objective
from sweeplab.report.findings.comparison import NO_SPREAD, power_note
from sweeplab.statistics.contrasts import Comparison

MAX_NAMED: Final = 6  # settings in a sentence; the table has them all
INCOMPARABLE: Final = (
    "Held-out losses of different data, or of examples cut at different lengths, are of different texts and cannot be "
    "compared, so no setting is called the best of all; the best is named for each."
)
MAX_LETTERS: Final = 120  # of their names


def answer(facts: StudyFacts, settings: list[Setting], items: Items | None = None) -> list[str]:
    """The first sentence answers, the others say how far to trust it."""
    num_started = sum(len(setting.started) for setting in settings)
    num_skipped = sum(len(setting.records) for setting in settings) - num_started
    num_finished = sum(len(setting.finished) for setting in settings)
    planned = "" if facts.num_planned is None else f" ({facts.num_planned} planned)"
    tally = f"{num_finished} of {plural(num_started, 'started trial')} finished{planned}."
    if num_skipped:
        tally += f" {plural(num_skipped, 'trial')} skipped: predicted not to fit in plan.device_memory."
    cuts = truncation([record for setting in settings for record in setting.records])
    if num_started == num_skipped == 0:
        return ["No trial has been recorded yet."]
    if num_finished == 0:
        return [f"No trial finished, so there is nothing to compare{commonest(settings)}.", *cuts, tally]
    families = by_meaning(facts, settings, first_objective(facts)[0])
    if len(families) == 1:
        return [*told(facts, settings, items), *cuts, tally]
    apart = [
        f"With {label}: {' '.join(told(facts, rest(members, label), items))}" for label, members in families.items()
    ]
    return [INCOMPARABLE, *apart, *cuts, tally]


def commonest(settings: list[Setting]) -> str:
    """How most trials ended, where one has ended, with the first one's reason."""
    ended = [record for setting in settings for record in setting.records]
    status, count = Counter(record.status for record in ended).most_common(1)[0]
    reason = next((record.reason for record in ended if record.status is status and record.reason), None)
    which = "" if count == 1 else "the first: "
    told = f" ({which}{reason})" if reason else ""
    return f": {count} of {len(ended)} {status.value.replace('_', ' ')}{told}"


def rest(settings: list[Setting], label: str) -> list[Setting]:
    """The settings without `label` at the beginning of theirs, where it has been said."""
    return [replace(one, label=one.label.removeprefix(f"{label}, ")) for one in settings]


def told(facts: StudyFacts, settings: list[Setting], items: Items | None) -> list[str]:
    """What is found among settings whose objective means the same."""
    metric, _ = first_objective(facts)
    found = evidence(facts, settings, metric, items)
    if found is None:
        apart = any(complete(facts, setting) for setting in settings)
        why = "No seed was run by all settings" if apart else f"No setting has the {metric_label(metric)} of every seed"
        return [f"{why}, so none is called the best."]
    compared = found.compared()
    said = [finding(facts, settings, found, compared), *cautions(facts, settings, found, compared)]
    return [*said, *beyond(facts, found)]


def beyond(facts: StudyFacts, found: Evidence) -> list[str]:
    """Whether the best lies at an end of the values that were tried, so that a better one may lie beyond.

    Of axes with a list of at least three numbers: two are not a range, and of draws one is always the outermost.
    """
    ends = []
    for key, spec in facts.space.items():
        tried = {one.params[key] for one in found.settings if is_number(one.params.get(key))}
        if spec.get("choices") and len(tried) > 2 and found.best.params.get(key) in (min(tried), max(tried)):
            largest = found.best.params[key] == max(tried)
            ends.append(f"{key}={value_text(found.best.params[key])} ({'largest' if largest else 'smallest'})")
    if not ends:
        return []
    return [f"The best lies at an end of what was tried, {' and '.join(ends)}: a better one may lie beyond."]


def truncation(records: list[TrialRecord]) -> list[str]:
    """Where examples were cut: for each length, the trial that lost the most of them."""
    worst: dict[int, TrialRecord] = {}
    for record in records:
        length = value_at(record.config, "training.max_length")
        if record.num_truncated and isinstance(length, int):
            before = worst.setdefault(length, record)
            worst[length] = max(before, record, key=lambda one: one.num_truncated or 0)
    found = []
    for length, record in sorted(worst.items()):
        cut = plural(record.num_truncated or 0, "training example")
        if record.num_train_examples is not None:
            cut = f"{record.num_truncated:,} of {plural(record.num_train_examples, 'training example')}"
        if record.num_dropped:
            cut += f", {record.num_dropped:,} of them before the response began, so that nothing was left to learn"
        found.append(f"training.max_length={length} cut {cut}; raise it to learn from whole examples.")
    return found


def finding(facts: StudyFacts, settings: list[Setting], found: Evidence, compared: Comparison | None) -> str:
    """The best, its mean with its interval, and which others may be as good."""
    metric, direction = first_objective(facts)
    best = found.best
    estimate = found.estimate(best)
    assert estimate is not None
    num_seeds = plural(found.table.num_seeds, "seed").replace("1 seed", "one seed")
    what = num_seeds if found.table.num_seeds == 1 else f"mean of {num_seeds}"
    certain = "" if estimate.low is None else f"; 95 % interval over {estimate.covers}"
    value = f"{amount(metric, estimate)} ({what}{certain})"
    if len(settings) == 1:
        return f"One setting was run ({best.label}): {metric_label(metric)} {value}."
    extreme = "lowest" if direction == "minimize" else "highest"
    told = f"has the {extreme} mean {metric_label(metric)}: {value}"
    among = "" if all(complete(facts, one) for one in settings) else "Of the settings with a value for every seed, "
    return f"{among}{best.label} {told}{rivals(found, compared)}."


def rivals(found: Evidence, compared: Comparison | None) -> str:
    """What is said of the other settings, after a semicolon; nothing where there is none."""
    if len(found.settings) == 1:
        return ""
    if compared is None:
        return "; how far chance goes is not known, so no other is called worse"
    names = [found.settings[place].label for place in compared.tied if place != compared.best]
    worse = "with this seed every other is worse" if found.table.num_seeds == 1 else "every other is worse"
    if not names:
        return f"; {worse}, with 95 % certainty for all at once"
    if len(names) == len(found.settings) - 1:
        return "; none of the others can be told from it"
    if len(names) > MAX_NAMED or sum(map(len, names)) > MAX_LETTERS:
        return f"; {len(names)} of the {len(found.settings) - 1} others cannot be told from it"
    return f"; {' and '.join(names)} cannot be told from it, {worse}"


def cautions(facts: StudyFacts, settings: list[Setting], found: Evidence, compared: Comparison | None) -> list[str]:
    """How far the answer carries, and which settings could not take part."""
    said = []
    if found.table.num_seeds == 1:
        said.append(
            "With one seed nothing is known of the spread over seeds: a difference may be the seed's, and an interval "
            "over items does not cover that."
        )
    if compared is not None:
        said += power_note(found, compared)
    elif found.table.num_seeds > 1 and len(found.settings) > 1:
        said.append(NO_SPREAD)
    said += uneven(found)
    pruned = [setting for setting in settings if was_pruned(setting)]
    if pruned:
        count = plural(len(pruned), "setting")
        said.append(f"{count} not ranked: pruned, since others did better by the same step.")
    left_out = [setting for setting in settings if not complete(facts, setting) and setting not in pruned]
    if left_out:
        names = "; ".join(f"{setting.label} ({setting.counts} finished{setting.skipped})" for setting in left_out)
        who = names if len(left_out) <= MAX_NAMED else plural(len(left_out), "setting")
        said.append(f"Not ranked, because not every seed has a value: {who}.")
    return said


def uneven(found: Evidence) -> list[str]:
    """That some settings have more seeds than the comparison, which takes those that all have."""
    num_seeds = found.table.num_seeds
    more = [one for one in found.settings if one.spreads[found.metric].num_seeds > num_seeds]
    if not more:
        return []
    return [
        f"Settings are compared with the {plural(num_seeds, 'seed')} that all of them have; those with more "
        f"({len(more)}) have in tables and figures the mean of all their own, without an interval."
    ]


def was_pruned(setting: Setting) -> bool:
    return any(record.status is Status.PRUNED for record in setting.records)
