"""The metrics of a record: label, unit, and whether to minimize or to maximize."""

import re
from collections.abc import Collection, Sequence
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
    "solo.step_seconds": _Metric("time per step", "s", "minimize"),
    "solo.median_step_seconds": _Metric("median time per step", "s", "minimize"),
    "solo.slowest_step_seconds": _Metric("slowest step", "s", "minimize"),
    "solo.step_processor_seconds": _Metric("processor time per step", "s", "minimize"),
    "solo.peak_resident_bytes": _Metric("peak memory of the process", "bytes", "minimize"),
    "solo.peak_allocated_bytes": _Metric("peak memory", "bytes", "minimize"),
    "solo.evaluation_peak_allocated_bytes": _Metric("peak memory, held-out loss", "bytes", "minimize"),
    "phases.train.seconds": _Metric("training time", "s", "minimize"),
    "phases.evaluate.seconds": _Metric("evaluation time", "s", "minimize"),
    "phases.train.peak_resident_bytes": _Metric("peak memory of the process, training", "bytes", "minimize"),
    "phases.train.peak_allocated_bytes": _Metric("peak GPU memory, training", "bytes", "minimize"),
    "phases.train.peak_reserved_bytes": _Metric("peak GPU memory reserved, training", "bytes", "minimize"),
}


# Metrics with `higher_is_better: false` in the tasks and the registry of lm-eval 0.4.13. `score` and `exact_match` are
# better when lower in one task each, and better when higher in many.
_FALLING_IN: Final = {"lingoly_nocontext": "exact_match", "realtoxicityprompts": "score"}
_LOWER_IS_BETTER: Final = re.compile(
    r"perplexity|^bits_per_byte$|^(ter|wer|brier_score|likelihood_diff|average_len)$|bias|toxicity|^pct_|^difference_|^unreadable$"
)


# shares of correct items, or of won ones with ties as halves, between 0 and 1
SHARES: Final = ("exact_match", "acc", "acc_norm", "accuracy", "valid", "win_rate")


# Tasks whose main metric is acc_norm: those of the Open LLM Leaderboard, version 1 (ARC, HellaSwag) and version 2 (BBH,
# GPQA, MuSR), and further multiple-choice tasks whose answers differ as much in length.
_NORMALIZED: Final = re.compile(
    r"^(arc_(\w+_)?(challenge|easy)|hellaswag|openbookqa|piqa)(_|$)|^leaderboard_(bbh|gpqa|musr)(_|$)"
)
_HEADLINES: Final = (
    "exact_match",
    "acc",
    "acc_norm",
    "accuracy",
    "win_rate",
    "prompt_level_strict_acc",
    "em",
    "f1",
    "word_perplexity",
)
_FILTERS: Final = ("", "strict-match")  # GSM8K: the leaderboard takes `exact_match` of the strict filter


_SMALL: Final = 0.02  # of a share, or nats per token


SOLO_METRICS: Final = ("phases.", "tokens_per_second")  # prefixes of metrics that are a trial's own only in a solo run


def known_metric(name: str) -> bool:
    """True for a name in `METRICS`, and for `scores.<task>.<metric>`; the name of a task may contain dots."""
    parts = name.split(".")
    return name in METRICS or (parts[0] == "scores" and len(parts) >= 3 and all(parts))


def find_default_within(name: str) -> float | None:
    """A difference in a metric that few people would pay for; None where it depends on who asks."""
    return _SMALL if is_share(name) or name == "heldout_loss_nats_per_token" else None


def is_share(name: str) -> bool:
    """True for a score that is a share of items, between 0 and 1."""
    return name.startswith("scores.") and split_filter(score_parts(name)[1])[0] in SHARES


def grows_with_value(name: str) -> bool:
    """True for what spreads in proportion to its size: a loss, a perplexity, a time. Its logarithm is analyzed."""
    is_loss = name == "heldout_loss_nats_per_token" or "perplexity" in name or "bits_per_byte" in name
    return is_loss or name.endswith("seconds")


def score_parts(name: str) -> tuple[str, str]:
    """(task, metric) of `scores.<task>.<metric>`; the name of a task may contain dots."""
    task, _, metric = name.removeprefix("scores.").rpartition(".")
    return task, metric


def split_filter(metric: str) -> tuple[str, str]:
    """(metric, filter) of `exact_match@strict-match`; no filter: an empty text."""
    name, _, chosen = metric.replace(",", "@", 1).partition("@")  # lm-eval's own way to write it has a comma
    return name, "" if chosen == "none" else chosen


def choose_headline(task: str, metrics: Sequence[str], wanted: Collection[str] = ()) -> str:
    """The main metric of a task: the first of `wanted`, such as objectives, that it has; else the one usually given.

    That is acc_norm for the tasks of `_NORMALIZED`, else exact_match, acc, ..., else the first metric. Of several
    filters it takes none, else the strict one, else the first.
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
    """`minimize` or `maximize`; scores of lm-eval are maximized, except those that match `_LOWER_IS_BETTER`."""
    if name in METRICS:
        return METRICS[name].direction
    task, full = score_parts(name)
    metric, _ = split_filter(full)
    is_lower_better = _LOWER_IS_BETTER.search(metric) or _FALLING_IN.get(task) == metric
    return "minimize" if is_lower_better else "maximize"
