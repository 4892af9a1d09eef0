"""Where a study that runs stands: the best so far with its interval, or what a race says."""

from sweeplab.records.record import StudyFacts, TrialRecord
from sweeplab.report.evidence.comparability import group_comparable
from sweeplab.report.evidence.estimates import gather_evidence
from sweeplab.report.evidence.formatting import DASH, format_estimate, label_metric
from sweeplab.report.evidence.race import follow_course
from sweeplab.report.evidence.settings import group_by_setting, keep_allowed


def describe_standing(facts: StudyFacts, records: list[TrialRecord]) -> list[str]:
    """A sentence for each objective, or one on where a race stands; none before a trial has ended."""
    if not records:
        return []
    if facts.race is not None:
        standing = follow_course(facts, records).describe()
        return [] if standing is None else [standing]
    return [_describe_best(facts, records, metric) for metric in facts.objectives]


def _describe_best(facts: StudyFacts, records: list[TrialRecord], metric: str) -> str:
    """The best mean with its interval, of settings with two seeds where there are any."""
    label, settings = label_metric(metric), group_by_setting(facts, records)
    if len(group_comparable(facts, settings, metric)) > 1:
        return f"best {label} so far: {DASH}  (of different data, which cannot be compared)"
    evidence = gather_evidence(facts, keep_allowed(facts, settings), metric, None)
    if evidence is None:
        return f"best {label} so far: {DASH}"
    best = evidence.estimate(evidence.best)
    assert best is not None
    num_seeds = evidence.best.spreads[metric].num_seeds
    without = "one seed so far, no interval" if num_seeds == 1 else "no interval, the same with all seeds"
    over = without if best.low is None else f"95 % interval over {best.covers}"
    return f"best {label} so far: {evidence.best.label}  {format_estimate(metric, best)}  ({over})"
