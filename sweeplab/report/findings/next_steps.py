"""What a user may type next: what the study left open, each with the command for it."""

import shlex
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sweeplab.config.evaluation import OWN_TASK
from sweeplab.config.recommendation import imply_experiment
from sweeplab.records.items import Items
from sweeplab.records.record import Status, StudyFacts, TrialRecord
from sweeplab.records.stored import value_at
from sweeplab.report.evidence.formatting import count_noun, format_value, label_metric, shorten_key
from sweeplab.report.evidence.settings import Setting, collect_records, list_varied_keys
from sweeplab.report.findings.answer import End, find_ends
from sweeplab.report.findings.certainty import count_seeds
from sweeplab.report.findings.comparison import knows_spread, seeds_cell
from sweeplab.report.findings.leader import Standing, find_cheapest, find_standing
from sweeplab.report.findings.race import summarize_race
from sweeplab.runtime.paths import expand_home, quote_command

_LOST: Final = (Status.FAILED, Status.TIMED_OUT)
_FIRST_SEEDS: Final = (0, 1, 2)
_FOLDER_FLAGS: Final = ("--config-dir", "-cd")  # that the experiment is looked for in
_OF_THE_STUDY: Final = ("+experiment", "study.runs_dir", "study.reports_dir", "executor.device")
_FEW: Final = 20  # seeds that one would add


class NextStep(NamedTuple):
    """What one would do, and what to type; None where that is not one command."""

    advice: str
    command: str | None


def list_next_steps(facts: StudyFacts, settings: list[Setting], items: Items | None) -> list[NextStep]:
    """What the study left open, the most useful first; then how to take what it found."""
    records = collect_records(settings)
    num_lost = sum(record.status in _LOST for record in records)
    steps = []
    if num_lost:
        advice = f"run {count_noun(num_lost, 'failed trial')} again"
        steps.append(NextStep(advice, change_command(facts.command, "study.retry", "failed")))
    standing = find_standing(facts, settings, items, summarize_race(facts, settings))
    if standing is None:
        return steps
    steps += list_open_steps(facts, standing)
    if (by_own := _decide_by_own(facts, records)) is not None:
        steps.append(by_own)
    best = next(iter(standing.leader.finished), None)
    if best is not None and value_at(best.config, "adapter.method") != "none":  # a whole base is not kept
        command = " ".join([_name_study(facts), "action=export trial=best export.path=best"])
        steps.append(NextStep("take the best adapter with you", command))
    return steps


def _decide_by_own(facts: StudyFacts, records: Sequence[TrialRecord]) -> NextStep | None:
    """For a study that scored the user's own questions and was decided by something else."""
    measured = next((metric for record in records for metric in record.scores.get(OWN_TASK, {})), None)
    if measured is None or any(metric.startswith(f"scores.{OWN_TASK}.") for metric in facts.objectives):
        return None
    decided = " and ".join(label_metric(metric) for metric in facts.objectives)
    advice = f"your own questions were scored, but {decided} decided; a new study that they decide"
    command = change_command(facts.command, "study.objectives", f"[scores.{OWN_TASK}.{measured}]")
    return NextStep(advice, change_command(command, "study.name", f"{facts.name}_{OWN_TASK}"))


def list_open_steps(facts: StudyFacts, standing: Standing) -> list[NextStep]:
    """More seeds where others may be as good, more values where the best lies at an end; nothing where all is said."""
    evidence, steps = standing.evidence, []
    if max(count_seeds(evidence)) == 1:
        seeds = [*facts.seeds, *(seed for seed in _FIRST_SEEDS if seed not in facts.seeds)]
        steps.append(NextStep("more seeds, study.seeds=[0,1,2]", _ask_for_seeds(facts, seeds[: len(_FIRST_SEEDS)])))
    elif standing.race is not None and not standing.race.is_decided:
        steps.append(NextStep("more seeds: raise study.budget, or give study.seeds more", None))
    elif standing.race is None and standing.tied:
        steps.append(_add_seeds(facts, standing))
    keys = list_varied_keys(facts, collect_records(evidence.settings))
    for end in find_ends(facts, evidence, standing.leader):
        beyond = None if standing.race is not None else _ask_beyond(facts, end)  # a race asks for it by itself
        steps.append(
            NextStep(f"try {'larger' if end.is_largest else 'smaller'} values of {shorten_key(end.key, keys)}", beyond)
        )
    return steps


def _ask_for_seeds(facts: StudyFacts, seeds: Sequence[int]) -> str | None:
    """None where the study has so many already."""
    if set(seeds) <= set(facts.seeds):
        return None
    return change_command(facts.command, "study.seeds", f"[{','.join(map(str, seeds))}]")


def _add_seeds(facts: StudyFacts, standing: Standing) -> NextStep:
    """As many seeds as would tell the nearest setting apart, as far as that can be said."""
    rival = next(one for one in standing.ranked if one in standing.tied)
    index = standing.evidence.index_of(rival)
    if standing.compared is None or index is None:
        return NextStep("more seeds", None)
    needed = seeds_cell(standing.compared, index).text
    if needed.isdigit() and int(needed) <= _FEW:
        first = max(facts.seeds, default=-1) + 1
        seeds = [*facts.seeds, *range(first, first + max(0, int(needed) - len(facts.seeds)))]
        return NextStep(f"about {needed} seeds would tell {rival.label} apart", _ask_for_seeds(facts, seeds))
    cheapest = find_cheapest([standing.leader, *standing.tied])
    named = "" if cheapest is None else f": {cheapest.label} trains the fewest parameters"
    needs = "to tell all apart would need too many seeds"
    if not knows_spread(standing.compared, index) or standing.compared.differences[index].value == 0:
        needs = "how many seeds would tell them apart is not known"
    return NextStep(f"take the cheapest of those that may be as good{named}; {needs}", None)


def _ask_beyond(facts: StudyFacts, end: End) -> str | None:
    """The study with the next value beyond the end; None where there is no such one."""
    choices = facts.space[end.key]["choices"]
    beyond = _go_beyond(choices, end)
    if beyond is None:
        return None
    values = ",".join(format_value(value) for value in sorted([*choices, beyond]))
    return change_command(facts.command, f"space.{end.key}.choices", f"[{values}]")


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


def _name_study(facts: StudyFacts) -> str:
    """What is left of a study's command where its records say the rest: which study, in which folders, on what."""
    typed = shlex.split(facts.command)
    words = [*typed[3:], *imply_experiment(typed)]
    follows = [before in _FOLDER_FLAGS for before in ("", *words)]
    kept = [
        word
        for word, is_folder in zip(words, follows, strict=False)
        if is_folder or word.partition("=")[0] in (*_FOLDER_FLAGS, *_OF_THE_STUDY)
    ]
    if f"+experiment={facts.name}" not in kept:
        kept.append(f"study.name={facts.name}")
    return _quote_again([*typed[:3], *kept])


def change_command(command: str, key: str, value: str) -> str:
    """The command with one key changed or added."""
    typed = shlex.split(command)
    words = [one for one in typed if one.lstrip("+").partition("=")[0] != key]
    if key == "action":
        words += imply_experiment(typed)
    return _quote_again([*words, f"{key}={value}"])


def _quote_again(words: Sequence[str]) -> str:
    home = str(expand_home("~"))  # which `quote_command` wrote as $HOME
    return quote_command([one.replace("$HOME", home) for one in words])
