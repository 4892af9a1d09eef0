"""Scores of base models without an adapter, by name of the metric, and labels that tell several bases apart."""

from collections.abc import Sequence
from typing import Final

from sweeplab.records.metrics import score_parts
from sweeplab.records.record import BaseScore, Score, StudyFacts, TrialRecord, base_key
from sweeplab.report.evidence.settings import LOSS, Setting, format_varied, label_setting, list_varied_keys

_DTYPES: Final = ("torch.float32", "torch.bfloat16", "torch.float16")  # possible types of a base; no record has it


def find_base_value(base: BaseScore, metric: str) -> float | None:
    """The value of a metric for the base; None for metrics of training."""
    if metric == LOSS:
        return base.heldout_loss_nats_per_token
    score = find_base_score(base, metric)
    return None if score is None else score.value


def find_base_score(base: BaseScore, metric: str) -> Score | None:
    """The score of the base for `scores.<task>.<metric>`; None for another metric or without a score."""
    if not metric.startswith("scores."):
        return None
    task, name = score_parts(metric)
    return base.scores.get(task, {}).get(name)


def label_bases(
    facts: StudyFacts, records: Sequence[TrialRecord], bases: Sequence[BaseScore]
) -> list[tuple[BaseScore, str]]:
    """The bases with different scores, each with a label made of the values that only its trials have.

    Such as 'quantization=nf4'; 'number 2' where the records do not tell them apart, '' where there is only one base.
    """
    groups: dict[str, list[BaseScore]] = {}
    for base in bases:
        groups.setdefault(repr((base.heldout_loss_nats_per_token, base.scores)), []).append(base)
    if len(groups) < 2:
        return [(same[0], "") for same in groups.values()]
    owners = {key: index for index, same in enumerate(groups.values()) for key in [base.key for base in same]}
    members: list[list[TrialRecord]] = [[] for _ in groups]
    for record in records:
        for key in list_possible_keys(record) & owners.keys():
            members[owners[key]].append(record)
    keys = list_varied_keys(facts, records)
    distinguishing = [key for key in keys if _is_distinguishing(facts, key, members)]
    return [
        (same[0], label_setting(facts, trials[0].params, distinguishing) if distinguishing else f"number {index}")
        for index, (same, trials) in enumerate(zip(groups.values(), members, strict=True), 1)
    ]


def list_possible_keys(record: TrialRecord) -> set[str]:
    """The keys that the trial's base may have."""
    try:
        files = record.provenance.get("tasks_fingerprint")
        return {base_key(record.config, dtype, files, record.provenance) for dtype in _DTYPES}
    except (KeyError, TypeError):  # a record without the necessary parts of its configuration
        return set()


def _is_distinguishing(facts: StudyFacts, key: str, members: Sequence[Sequence[TrialRecord]]) -> bool:
    """True where all trials of a base have the same value of the key, and not all bases have the same."""
    values_by_base = [
        {format_varied(facts, key, one.params[key]) if key in one.params else None for one in trials}
        for trials in members
    ]
    are_unique = all(len(values) == 1 and None not in values for values in values_by_base)
    return are_unique and len(set.union(*values_by_base)) > 1


def find_base_of(setting: Setting, bases: Sequence[BaseScore], metric: str) -> float | None:
    """What the base that a setting was trained on has of the metric; None where that is not known.

    For records that do not say which one they were trained on, all bases stand, where they agree.
    """
    keys = list_possible_keys(setting.records[0])
    own = [one for one in bases if one.key in keys] if keys else bases
    values = {value for one in own if (value := find_base_value(one, metric)) is not None}
    return values.pop() if len(values) == 1 else None
