"""What a base model scores without an adapter, by the metrics' names, and which base of several it is."""

from collections.abc import Sequence
from typing import Final

from sweeplab.records.metrics import score_parts
from sweeplab.records.record import BaseScore, Score, StudyFacts, TrialRecord, base_key
from sweeplab.report.evidence.settings import LOSS, format_varied, label_setting, list_varied_keys

_DTYPES: Final = ("torch.float32", "torch.bfloat16", "torch.float16")  # that a base can have, which no record says


def find_base_value(base: BaseScore, metric: str) -> float | None:
    """What the base has of a metric; None for what only training has."""
    if metric == LOSS:
        return base.heldout_loss_nats_per_token
    score = find_base_score(base, metric)
    return None if score is None else score.value


def find_base_score(base: BaseScore, metric: str) -> Score | None:
    if not metric.startswith("scores."):
        return None
    task, name = score_parts(metric)
    return base.scores.get(task, {}).get(name)


def label_bases(
    facts: StudyFacts, records: Sequence[TrialRecord], bases: Sequence[BaseScore]
) -> list[tuple[BaseScore, str]]:
    """The bases that differ in what they score, each with what its trials have in common and no other's have.

    Such as 'quantization=nf4'; 'number 2' where the records do not say it, and nothing for a base alone.
    """
    groups: dict[str, list[BaseScore]] = {}
    for base in bases:
        groups.setdefault(repr((base.heldout_loss_nats_per_token, base.scores)), []).append(base)
    if len(groups) < 2:
        return [(same[0], "") for same in groups.values()]
    owners = {key: index for index, same in enumerate(groups.values()) for key in [base.key for base in same]}
    members: list[list[TrialRecord]] = [[] for _ in groups]
    for record in records:
        for key in _list_possible_keys(record) & owners.keys():
            members[owners[key]].append(record)
    keys = list_varied_keys(facts, records)
    telling = [key for key in keys if _is_distinguishing(facts, key, members)]
    return [
        (same[0], label_setting(facts, trials[0].params, telling) if telling else f"number {index}")
        for index, (same, trials) in enumerate(zip(groups.values(), members, strict=True), 1)
    ]


def _list_possible_keys(record: TrialRecord) -> set[str]:
    """Keys of the base that the trial may have stood on; none where the tasks were read from files."""
    try:
        if record.config["evaluation"]["data_dir"] is not None:
            return set()
        return {base_key(record.config, dtype, None, record.provenance) for dtype in _DTYPES}
    except (KeyError, TypeError):  # a record that does not say on what it was trained
        return set()


def _is_distinguishing(facts: StudyFacts, key: str, members: Sequence[Sequence[TrialRecord]]) -> bool:
    """True where the trials of each base have one value of the key, and not all bases the same."""
    found = [
        {format_varied(facts, key, one.params[key]) if key in one.params else None for one in trials}
        for trials in members
    ]
    return all(len(values) == 1 and None not in values for values in found) and len(set.union(*found)) > 1
