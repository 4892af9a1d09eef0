"""What a base model scores without an adapter, by the metrics' names."""

from sweeplab.records import BaseScore, Score
from sweeplab.report.settings import LOSS
from sweeplab.report.wording import score_parts


def base_value(base: BaseScore, metric: str) -> float | None:
    """What the base has of a metric; None for what only training has."""
    if metric == LOSS:
        return base.heldout_loss_nats_per_token
    score = base_score(base, metric)
    return None if score is None else score.value


def base_score(base: BaseScore, metric: str) -> Score | None:
    if not metric.startswith("scores."):
        return None
    task, name = score_parts(metric)
    return base.scores.get(task, {}).get(name)
