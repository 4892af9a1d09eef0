"""The numbers of a record that can be objectives or columns: label, unit, direction."""

import re
from collections.abc import Collection, Sequence
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


# What the tasks and the registry of lm-eval 0.4.13 call `higher_is_better: false`. `score` and `exact_match` fall with
# quality in one task each and rise in many.
_FALLING_IN: Final = {"lingoly_nocontext": "exact_match", "realtoxicityprompts": "score"}
LOWER_IS_BETTER: Final = re.compile(
    r"perplexity|^bits_per_byte$|^(ter|wer|brier_score|likelihood_diff|average_len)$|bias|toxicity|^pct_|^difference_"
)


# Which of a task's metrics is its score. Open LLM Leaderboard, version 1 (ARC, HellaSwag) and 2 (BBH, GPQA, MuSR: their
# model cards' `acc_norm`), and the same for the multiple-choice tasks whose answers differ as much in length.
_NORMALIZED: Final = re.compile(
    r"^(arc_challenge|arc_easy|hellaswag|openbookqa|piqa)(_|$)|^leaderboard_(bbh|gpqa|musr)(_|$)"
)
_HEADLINES: Final = ("exact_match", "acc", "acc_norm", "prompt_level_strict_acc", "em", "f1", "word_perplexity")
_FILTERS: Final = ("", "strict-match")  # GSM8K: the leaderboard's `exact_match` is that of the strict filter


SOLO_METRICS: Final = ("phases.", "tokens_per_second")  # beginnings: a trial has them for itself only where it is alone


def known_metric(name: str) -> bool:
    """True for a name of `METRICS` and for `scores.<task>.<metric>`, whose task may hold dots."""
    parts = name.split(".")
    return name in METRICS or (parts[0] == "scores" and len(parts) >= 3 and all(parts))


def score_parts(name: str) -> tuple[str, str]:
    """(task, metric) of `scores.<task>.<metric>`; a task's name may hold dots."""
    task, _, metric = name.removeprefix("scores.").rpartition(".")
    return task, metric


def split_filter(metric: str) -> tuple[str, str]:
    """(metric, filter) of `exact_match@strict-match`; no filter: an empty text."""
    name, _, chosen = metric.replace(",", "@", 1).partition("@")  # lm-eval's own way to write it has a comma
    return name, "" if chosen == "none" else chosen


def choose_headline(task: str, metrics: Sequence[str], wanted: Collection[str] = ()) -> str:
    """The metric that stands for a task: of `wanted` the first that it has, such as an objective, else the field's.

    That is acc_norm where published numbers are, else exact_match, else acc, else the first; of several filters none,
    else the strict one, else the first.
    """
    for name in wanted:
        if name.startswith("scores.") and score_parts(name)[0] == task and score_parts(name)[1] in metrics:
            return score_parts(name)[1]
    preferred = ("acc_norm", *_HEADLINES) if _NORMALIZED.search(task) else _HEADLINES

    def rank(metric: str) -> tuple[int, int]:
        name, chosen = split_filter(metric)
        return (
            preferred.index(name) if name in preferred else len(preferred),
            _FILTERS.index(chosen) if chosen in _FILTERS else len(_FILTERS),
        )

    return min(metrics, key=rank)


def direction(name: str) -> Literal["minimize", "maximize"]:
    """`minimize` or `maximize`; lm-eval's scores rise with quality, except those of `LOWER_IS_BETTER`."""
    if name in METRICS:
        return METRICS[name].direction
    task, full = score_parts(name)
    metric, _ = split_filter(full)
    falls = LOWER_IS_BETTER.search(metric) or _FALLING_IN.get(task) == metric
    return "minimize" if falls else "maximize"
