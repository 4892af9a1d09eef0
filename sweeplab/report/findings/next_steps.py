"""What a user may type next: what the study left open, each with the command for it."""

import shlex
from typing import Any, Final, NamedTuple

from sweeplab.records.items import Items
from sweeplab.records.record import Status, StudyFacts
from sweeplab.records.stored import value_at
from sweeplab.report.evidence.comparability import group_comparable
from sweeplab.report.evidence.estimates import Evidence, gather_evidence
from sweeplab.report.evidence.formatting import count_noun, format_value
from sweeplab.report.evidence.settings import Setting, collect_records, first_objective, is_refused, keep_allowed
from sweeplab.report.findings.answer import End, find_ends
from sweeplab.report.findings.certainty import count_seeds
from sweeplab.runtime.paths import expand_home, quote_command

_LOST: Final = (Status.FAILED, Status.TIMED_OUT)
_MORE_SEEDS: Final = 2  # at once, since one more changes little


class NextStep(NamedTuple):
    """Why one would, and what to type."""

    why: str
    command: str


def list_next_steps(facts: StudyFacts, settings: list[Setting], items: Items | None) -> list[NextStep]:
    """What the study left open, the most useful first; then how to take what it found."""
    records = collect_records(settings)
    num_lost = sum(record.status in _LOST for record in records)
    steps = []
    if num_lost:
        why = f"run {count_noun(num_lost, 'failed trial')} again"
        steps.append(NextStep(why, change_command(facts.command, "study.retry", "failed")))
    metric, _ = first_objective(facts)
    allowed = [setting for setting in keep_allowed(facts, settings) if not is_refused(setting)]
    evidence = gather_evidence(facts, allowed, metric, items)
    if evidence is None or len(group_comparable(facts, settings, metric)) > 1:
        return steps
    if facts.race is None:  # a race asks for seeds and values by itself
        steps += _extend(facts, evidence)
    best = next(iter(evidence.best.finished), None)
    if best is not None and value_at(best.config, "adapter.method") != "none":  # a whole base is not kept
        command = change_command(change_command(facts.command, "action", "export"), "trial", "best")
        steps.append(NextStep("take the best adapter with you", change_command(command, "export.path", "best")))
    return steps


def _extend(facts: StudyFacts, evidence: Evidence) -> list[NextStep]:
    """More seeds where others may be as good, more values where the best lies at an end."""
    compared, steps = evidence.compared(), []
    is_open = len(evidence.settings) > 1 and (compared is None or len(compared.tied) > 1)
    if facts.seeds and (is_open or max(count_seeds(evidence)) == 1):
        more = [*facts.seeds, *range(max(facts.seeds) + 1, max(facts.seeds) + 1 + _MORE_SEEDS)]
        command = change_command(facts.command, "study.seeds", f"[{','.join(map(str, more))}]")
        steps.append(NextStep(f"{_MORE_SEEDS} more seeds, to tell them apart" if is_open else "more seeds", command))
    for end in find_ends(facts, evidence, evidence.best):
        choices = facts.space[end.key]["choices"]
        if (beyond := _go_beyond(choices, end)) is not None:
            key = f"space.{end.key}.choices"
            values = ",".join(format_value(value) for value in sorted([*choices, beyond]))
            why = f"a {'larger' if end.is_largest else 'smaller'} {end.key}, since the best lies at the end"
            steps.append(NextStep(why, change_command(facts.command, key, f"[{values}]")))
    return steps


def _go_beyond(choices: list[Any], end: End) -> int | float | None:
    """The next value in the way in which the last two follow each other; None where there is no such one.

    A whole number stays one and positive.
    """
    last, before = sorted(choices, reverse=end.is_largest)[:2]
    if last <= 0 or before <= 0:
        return None
    beyond = last * last / before
    if not all(isinstance(one, int) for one in choices):
        return float(f"{beyond:.3g}")
    whole = round(beyond)
    return whole if whole >= 1 and whole != last else None


def change_command(command: str, key: str, value: str) -> str:
    """The command with one key changed or added."""
    typed = shlex.split(command)
    words = [one for one in typed if one.lstrip("+").partition("=")[0] != key]
    names_experiment = any(one.lstrip("+").startswith("experiment=") for one in typed)
    if key == "action" and "action=recommend" in typed and not names_experiment:
        words.append("+experiment=recommend")  # which that action chose by itself
    home = str(expand_home("~"))  # which `quote_command` wrote as $HOME
    return quote_command([*(one.replace("$HOME", home) for one in words), f"{key}={value}"])
