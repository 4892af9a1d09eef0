"""The numbers of a record that can be objectives or columns: label, unit, direction."""

import re
from typing import Final, Literal, NamedTuple


class Metric(NamedTuple):
    """A number of a record that can be an objective or a column."""

    label: str
    unit: str
    direction: Literal["minimize", "maximize"]


METRICS: Final[dict[str, Metric]] = {
    "heldout_loss_nats_per_token": Metric("held-out loss", "nats/target", "minimize"),
    "num_trainable_params": Metric("trainable parameters", "", "minimize"),
    "base_bits_per_param": Metric("effective bits of the base", "bits/parameter", "minimize"),
    "adapter_bytes": Metric("adapter size", "bytes", "minimize"),
    "tokens_per_second": Metric("training speed", "tokens/s", "maximize"),
    "solo.step_seconds": Metric("time of a step alone, longest batch", "s", "minimize"),
    "solo.peak_resident_bytes": Metric("peak resident memory alone", "bytes", "minimize"),
    "solo.peak_allocated_bytes": Metric("peak GPU memory alone, allocated", "bytes", "minimize"),
    "phases.train.seconds": Metric("training time", "s", "minimize"),
    "phases.evaluate.seconds": Metric("evaluation time", "s", "minimize"),
    "phases.train.peak_resident_bytes": Metric("peak resident memory, training", "bytes", "minimize"),
    "phases.train.peak_allocated_bytes": Metric("peak GPU memory allocated, training", "bytes", "minimize"),
    "phases.train.peak_reserved_bytes": Metric("peak GPU memory reserved, training", "bytes", "minimize"),
}


# What the tasks and the registry of lm-eval 0.4.13 call `higher_is_better: false`, except `score` and `exact_match`:
# each falls with quality in one task and rises in many.
LOWER_IS_BETTER: Final = re.compile(
    r"perplexity|^bits_per_byte$|^(ter|wer|brier_score|likelihood_diff|average_len)$|bias|toxicity|^pct_|^difference_"
)


SOLO_METRICS: Final = ("phases.", "tokens_per_second")  # beginnings: a trial has them for itself only where it is alone


def known_metric(name: str) -> bool:
    """True for a name of `METRICS` and for `scores.<task>.<metric>`, whose task may hold dots."""
    parts = name.split(".")
    return name in METRICS or (parts[0] == "scores" and len(parts) >= 3 and all(parts))


def score_parts(name: str) -> tuple[str, str]:
    """(task, metric) of `scores.<task>.<metric>`; a task's name may hold dots."""
    task, _, metric = name.removeprefix("scores.").rpartition(".")
    return task, metric


def direction(name: str) -> Literal["minimize", "maximize"]:
    """`minimize` or `maximize`; lm-eval's scores rise with quality, except those of `LOWER_IS_BETTER`."""
    if name in METRICS:
        return METRICS[name].direction
    metric = name.rpartition(".")[2].partition(",")[0]  # a filter's name may follow
    return "minimize" if LOWER_IS_BETTER.search(metric) else "maximize"
