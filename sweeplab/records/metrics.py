"""The metrics of a record: label, unit, and whether to minimize or to maximize."""

import re
from typing import Final, Literal, NamedTuple


class _Metric(NamedTuple):
    """A number of a record that can be an objective, or a column of a table."""

    label: str
    unit: str
    direction: Literal["minimize", "maximize"]


METRICS: Final[dict[str, _Metric]] = {
    "heldout_loss_nats_per_token": _Metric("held-out loss", "nats/target", "minimize"),
    "num_trainable_params": _Metric("trainable parameters", "", "minimize"),
    "base_bits_per_param": _Metric("effective bits of the base", "bits/parameter", "minimize"),
    "adapter_bytes": _Metric("adapter size", "bytes", "minimize"),
    "tokens_per_second": _Metric("training speed", "tokens/s", "maximize"),
    "solo.step_seconds": _Metric("time of a step alone, longest batch", "s", "minimize"),
    "solo.peak_resident_bytes": _Metric("peak resident memory alone", "bytes", "minimize"),
    "solo.peak_allocated_bytes": _Metric("peak GPU memory alone, allocated", "bytes", "minimize"),
    "phases.train.seconds": _Metric("training time", "s", "minimize"),
    "phases.evaluate.seconds": _Metric("evaluation time", "s", "minimize"),
    "phases.train.peak_resident_bytes": _Metric("peak resident memory, training", "bytes", "minimize"),
    "phases.train.peak_allocated_bytes": _Metric("peak GPU memory allocated, training", "bytes", "minimize"),
    "phases.train.peak_reserved_bytes": _Metric("peak GPU memory reserved, training", "bytes", "minimize"),
}


# Metrics with `higher_is_better: false` in the tasks and the registry of lm-eval 0.4.13, except `score` and
# `exact_match`: those are better when lower in one task, and better when higher in many.
_LOWER_IS_BETTER: Final = re.compile(
    r"perplexity|^bits_per_byte$|^(ter|wer|brier_score|likelihood_diff|average_len)$|bias|toxicity|^pct_|^difference_"
)


SOLO_METRICS: Final = ("phases.", "tokens_per_second")  # prefixes of metrics that are a trial's own only in a solo run


def known_metric(name: str) -> bool:
    """True for a name in `METRICS`, and for `scores.<task>.<metric>`; the name of a task may contain dots."""
    parts = name.split(".")
    return name in METRICS or (parts[0] == "scores" and len(parts) >= 3 and all(parts))


def score_parts(name: str) -> tuple[str, str]:
    """(task, metric) of `scores.<task>.<metric>`; the name of a task may contain dots."""
    task, _, metric = name.removeprefix("scores.").rpartition(".")
    return task, metric


def direction(name: str) -> Literal["minimize", "maximize"]:
    """`minimize` or `maximize`; scores of lm-eval are maximized, except those that match `_LOWER_IS_BETTER`."""
    if name in METRICS:
        return METRICS[name].direction
    metric = name.rpartition(".")[2].partition(",")[0]  # a filter's name may follow
    return "minimize" if _LOWER_IS_BETTER.search(metric) else "maximize"
