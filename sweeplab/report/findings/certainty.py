"""How sure the answer is: what the intervals stand on, what can be detected, and which runs are missing."""

from collections.abc import Iterable
from typing import Final

from scipy import stats

from sweeplab.records.record import Status
from sweeplab.report.evidence.estimates import Evidence
from sweeplab.report.evidence.formatting import count_noun, format_estimate, format_metric
from sweeplab.report.evidence.settings import Setting
from sweeplab.report.findings.comparison import describe_power
from sweeplab.statistics.comparison import Comparison
from sweeplab.statistics.intervals import LEVEL

EXPLAINED_CLAIMS: Final = (
    "Else inconclusive. The intervals hold for all claims together and however often one looks: in 95 of 100 studies "
    "no claim is decided that is not so. A word needs two seeds, and every run of the settings that the claim names."
)
_OF_AVERAGES: Final = (  # `as in budget seed x toggle, 63 settings, seeds 2` of reports/benchmarks/coverage
    " An average over settings is less sure with two seeds: for the one key of six on which seeds act most, and far "
    "more than on the others, its interval held in 85 of 100 simulated studies; with three seeds in 95."
)
MAX_NAMED: Final = 6  # settings in a sentence; the table has them all
_NO_SPREAD: Final = (
    "Every difference between settings is the same with all seeds: a spread of exactly zero, from which nothing can be "
    "said of how far chance goes."
)


def warn_of_averages(evidence: Iterable[Evidence]) -> str:
    """What two seeds do not carry, beside claims about averages over settings; else nothing."""
    tables = [one.table for one in evidence]
    has_axes = any(one.main_KQ is not None and one.main_KQ.shape[1] > 1 for one in tables)
    return _OF_AVERAGES if has_axes and max(one.num_seeds for one in tables) == 2 else ""


def count_seeds(evidence: Evidence) -> list[int]:
    """The seeds of each setting, those with a run that did not finish included."""
    counts: list[int] = evidence.table.counts_K.tolist()
    return counts


def list_certainty(settings: list[Setting], evidence: Evidence, compared: Comparison | None) -> list[str]:
    """How far the answer carries, and which settings could not take part."""
    sentences = [_describe_mean(evidence)]
    counts = count_seeds(evidence)
    if max(counts) == 1:
        sentences.append(
            "With one seed nothing is known of the spread over seeds: a difference may be the seed's, and an interval "
            "over items does not cover that. Run two seeds or more, study.seeds=[0,1]."
        )
    elif compared is not None:
        sentences += describe_power(evidence, compared)
    elif len(evidence.settings) > 1:
        sentences.append(_NO_SPREAD)
    sentences += [*_warn_of_missing_runs(evidence), *_count_worst_runs(evidence)]
    absent = [one for one in settings if evidence.index_of(one) is None]
    pruned = [setting for setting in absent if _is_pruned(setting)]
    if pruned:
        count = count_noun(len(pruned), "setting")
        sentences.append(f"{count} not ranked: pruned, since others did better by the same step.")
    without = [setting for setting in absent if setting not in pruned]
    if without:
        names = "; ".join(f"{setting.label} ({setting.counts} finished{setting.left_out})" for setting in without)
        who = names if len(without) <= MAX_NAMED else count_noun(len(without), "setting")
        sentences.append(f"Not ranked, because no run has a value: {who}.")
    return sentences


def _describe_mean(evidence: Evidence) -> str:
    """The best's mean with its interval, and what to expect with fresh seeds."""
    best = evidence.best
    estimate, index = evidence.estimate(best), evidence.index_of(best)
    assert estimate is not None
    assert index is not None
    value, num_seeds = format_estimate(evidence.metric, estimate), count_seeds(evidence)[index]
    if estimate.low is None:
        return f"{best.label}: {value}, {count_noun(num_seeds, 'seed')}; without an interval."
    if estimate.covers == "items":
        return f"{best.label}: {value}; the interval is over items."
    fresh = ""
    if len(evidence.settings) > 3:
        expected = format_metric(evidence.metric, evidence.expected_of_best())
        fresh = f" With fresh seeds expect about {expected}, since the best of many is best by chance, too."
    return (
        f"{best.label}: {value}, mean of {count_noun(num_seeds, 'seed')}; intervals are over {estimate.covers}, for "
        f"all means at once and however often one looks.{fresh}"
    )


def _warn_of_missing_runs(evidence: Evidence) -> list[str]:
    """Which settings have no run with some of the seeds, so far or for good."""
    lacking = {
        setting.label: seeds for setting, seeds in zip(evidence.settings, evidence.lacking, strict=True) if seeds
    }
    if not lacking:
        return []
    names = "; ".join(f"{label} of seed {', '.join(map(str, seeds))}" for label, seeds in lacking.items())
    which = names if len(lacking) <= MAX_NAMED else f"{count_noun(len(lacking), 'setting')} of some seed"
    return [
        f"Without a run: {which}. Two settings are compared over the seeds that both have; one with a single seed is "
        "not called worse, nor the best."
    ]


def _count_worst_runs(evidence: Evidence) -> list[str]:
    """The runs that did not finish, as shares with intervals (Clopper and Pearson 1934)."""
    counted = []
    for setting, num_worst, num_runs in zip(evidence.settings, evidence.num_worst, count_seeds(evidence), strict=True):
        if num_worst:
            share = stats.binomtest(num_worst, num_runs).proportion_ci(LEVEL)
            range_of = f"{100 * share.low:.0f} to {100 * share.high:.0f} %"
            counted.append(f"{setting.label} {num_worst} of {num_runs}, that is {range_of} of its runs")
    if not counted:
        return []
    which = "; ".join(counted[:MAX_NAMED]) + ("; and more" if len(counted) > MAX_NAMED else "")
    return [f"Runs that failed, diverged or were pruned count as the worst value seen: {which}."]


def _is_pruned(setting: Setting) -> bool:
    return any(record.status is Status.PRUNED for record in setting.records)
