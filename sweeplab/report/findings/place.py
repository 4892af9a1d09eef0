"""Why a setting leads: by its mean alone, or since settings with a better one are not called the best."""

from sweeplab.report.evidence.estimates import Evidence
from sweeplab.report.evidence.formatting import count_noun, label_metric
from sweeplab.report.findings.leader import list_equals
from sweeplab.statistics.comparison import Comparison

_MOST_NAMED = 2  # that are as good


def describe_place(evidence: Evidence, value: str) -> str:
    """'has the lowest held-out loss, 1.010', or why the best leads though another mean looks better."""
    label, best = label_metric(evidence.metric), evidence.estimate(evidence.best)
    assert best is not None
    better = [evidence.sign * one.value > evidence.sign * best.value for one in evidence.estimates]
    equals = [one.label for one in list_equals(evidence, evidence.best) if one is not evidence.best]
    if equals:
        like = " and ".join(equals) if len(equals) <= _MOST_NAMED else f"{len(equals)} others"
        return f"has, like {like}, the {_name_end(evidence)} {label}, {value}"
    if not any(better):
        return f"has the {_name_end(evidence)} {label}, {value}"
    return f"leads by {label}, {value}, {_say_why(evidence, better)}"


def _name_end(evidence: Evidence) -> str:
    return "lowest" if evidence.sign < 0 else "highest"


def _say_why(evidence: Evidence, better: list[bool]) -> str:
    """What keeps settings with a better mean from leading."""
    index = evidence.index_of(evidence.best)
    ahead_K = evidence.sign * (evidence.table.effects_K - evidence.table.effects_K[index]) > 0
    looks = [place for place, is_better in enumerate(better) if is_better]
    barred = [place for place in looks if ahead_K[place]]  # with lost runs as the worst value, too
    if any(evidence.num_worst[place] for place in barred):
        return "of the settings whose every run finished"
    if barred:
        return "of the settings with more than one seed"
    if any(evidence.num_worst[place] for place in looks):
        return "with runs that did not finish counted as the worst value seen"
    return "over the seeds that settings share"


def list_surely_better(evidence: Evidence, compared: Comparison) -> list[int]:
    """Settings that are better than the leading one by more than chance, and not called the best since a run of theirs
    did not finish."""
    ends = [one.low if evidence.sign > 0 else one.high for one in compared.differences]
    return [
        index
        for index, end in enumerate(ends)
        if end is not None and evidence.sign * end > 0 and evidence.num_worst[index]
    ]


def tell_surely_better(evidence: Evidence, indices: list[int]) -> str:
    """That these settings are better in spite of their lost runs; nothing without any."""
    if not indices:
        return ""
    runs = {index: count_noun(int(evidence.table.counts_K[index]), "run") for index in indices}
    named = [f"{evidence.settings[one].label} (lost {evidence.num_worst[one]} of {runs[one]})" for one in indices]
    return f" {' and '.join(named)} would be better with lost runs counted as the worst value seen, too."
