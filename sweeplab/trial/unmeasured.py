"""What a study asks for and its tasks do not measure."""

from collections.abc import Collection
from difflib import get_close_matches
from pathlib import Path

from sweeplab.records.metrics import SHARES, score_parts, split_filter
from sweeplab.records.record import Score
from sweeplab.records.store import read_facts
from sweeplab.runtime.errors import ConfigError


def refuse_unmeasured(folder: Path, scores: dict[str, dict[str, Score]], not_finite: Collection[str] | None) -> None:
    """Raises `ConfigError` for an objective or constraint of the study that its tasks do not measure.

    `not_finite` names what was measured, but is no finite number. None: unknown; then only metrics that always have a
    value are checked.
    """
    facts = read_facts(folder)
    for metric in () if facts is None else (*facts.objectives, *facts.constraints):
        if not metric.startswith("scores.") or metric in (not_finite or ()):
            continue
        task, name = score_parts(metric)
        is_share = split_filter(name)[0] in SHARES
        if name not in scores.get(task, {}) and (not_finite is not None or is_share):
            there = [f"scores.{task}.{name}" for task, metrics in scores.items() for name in metrics]
            near = get_close_matches(metric, there, 1, 0.0)
            remedy = f"did you mean {near[0]}?" if near else "drop it, or name tasks that do"
            raise ConfigError(f"study.objectives or study.constraints name {metric}, which no task measures; {remedy}")
