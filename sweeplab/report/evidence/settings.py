"""Groups records into settings, trials with the same varied values, with the spread of each metric over seeds."""

import statistics
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

from sweeplab.config.space import identify_params
from sweeplab.records.constraints import Bound, list_bounds, measure_excess
from sweeplab.records.metrics import METRICS, SOLO_METRICS, choose_headline
from sweeplab.records.record import RungScores, Status, StudyFacts, TrialRecord, metric_value
from sweeplab.records.stored import is_number
from sweeplab.report.evidence.formatting import format_value, shorten_key
from sweeplab.report.evidence.masks import find_mask, find_masks

LOSS: Final = "heldout_loss_nats_per_token"
_LARGEST: Final = 1e100  # larger numbers are ignored, since their squares do not fit into a float


@dataclass(frozen=True)
class Spread:
    """One metric over the seeds of a setting, from finished trials; a seed that ran twice counts once."""

    num_seeds: int
    mean: float
    std: float | None  # over seeds, divided by n - 1; None for one seed
    stderr: float | None = None  # mean over seeds of the standard error over items; None where lm-eval gives none
    num_items: int | None = None  # per trial; None where trials differ


@dataclass(frozen=True)
class Setting:
    """One point of the space with the trials of all seeds."""

    params: dict[str, Any]
    label: str  # such as 'rank=8, lr=0.001'
    records: list[TrialRecord]  # by number, failed ones too
    spreads: dict[str, Spread]  # by metric name; a metric without a value is absent

    @property
    def finished(self) -> list[TrialRecord]:
        return [record for record in self.records if record.status is Status.FINISHED]

    @property
    def started(self) -> list[TrialRecord]:
        return [record for record in self.records if record.status is not Status.SKIPPED]

    @property
    def counts(self) -> str:
        """Finished and started trials, such as '2/3'."""
        return f"{len(self.finished)}/{len(self.started)}"

    @property
    def left_out(self) -> str:
        """Such as ', 1 skipped, 2 stopped by hand'; nothing where none was."""
        num_skipped, num_stopped = len(self.records) - len(self.started), len(self.stopped)
        skipped = f", {num_skipped} skipped" if num_skipped else ""
        return f"{skipped}, {num_stopped} stopped by hand" if num_stopped else skipped

    @property
    def stopped(self) -> list[TrialRecord]:
        """Those that a person stopped, which count neither for nor against it."""
        return [record for record in self.records if record.status is Status.STOPPED]


def read_number(record: TrialRecord, metric: str) -> float | None:
    """The value of a metric for the trial; None where it has none or an unusable one, and for time and memory of a
    trial that trained together with others."""
    if record.trained_among_others and metric.startswith(SOLO_METRICS):
        return None
    value = metric_value(record, metric)
    return value if value is not None and is_usable(value) else None


def read_numbers(record: TrialRecord) -> dict[str, float]:
    """Every `read_number` of the trial by metric name, `scores.<task>.<metric>` included."""
    scores = [f"scores.{task}.{metric}" for task, metrics in record.scores.items() for metric in metrics]
    return {name: value for name in (*METRICS, *scores) if (value := read_number(record, name)) is not None}


def is_usable(value: float) -> bool:
    """False for NaN, infinity, and numbers that are too large to compute a mean."""
    return abs(value) <= _LARGEST


def _measure_spread(values: Iterable[tuple[int, float]]) -> Spread | None:
    """Spread of (seed, value) pairs; None without any."""
    by_seed: dict[int, list[float]] = {}
    for seed, value in values:
        by_seed.setdefault(seed, []).append(value)
    means = [statistics.fmean(repeats) for repeats in by_seed.values()]
    if not means:
        return None
    std = statistics.stdev(means) if len(means) > 1 else None
    return Spread(len(means), statistics.fmean(means), std)


def _measure_spreads(records: list[TrialRecord]) -> dict[str, Spread]:
    """Spreads of every metric that any finished trial of `records` has."""
    rows = [(record.seed, read_numbers(record)) for record in records if record.status is Status.FINISHED]
    names = dict.fromkeys(name for _, row in rows for name in row)
    spreads = {}
    for name in names:
        spread = _measure_spread((seed, row[name]) for seed, row in rows if name in row)
        if spread is not None:
            spreads[name] = spread
    for task, metric in list_scores(records):
        name = f"scores.{task}.{metric}"
        if name in spreads:
            spreads[name] = _add_item_errors(spreads[name], records, task, metric)
    return spreads


def _add_item_errors(spread: Spread, records: list[TrialRecord], task: str, metric: str) -> Spread:
    """`spread` with the standard error over items and their number."""
    ended = [record for record in records if record.status is Status.FINISHED]
    scores = [record.scores[task][metric] for record in ended if metric in record.scores.get(task, {})]
    errors = [score.stderr for score in scores if score.stderr is not None and is_usable(score.stderr)]
    counts = {score.num_items for score in scores}
    stderr = statistics.fmean(errors) if errors else None
    return replace(spread, stderr=stderr, num_items=counts.pop() if len(counts) == 1 else None)


def list_scores(records: Iterable[TrialRecord | RungScores]) -> list[tuple[str, str]]:
    """Every (task, metric) that was scored, in the records' order."""
    return list(
        dict.fromkeys((task, metric) for one in records for task, metrics in one.scores.items() for metric in metrics)
    )


def pick_headline_scores(
    records: Iterable[TrialRecord | RungScores], wanted: Collection[str] = ()
) -> list[tuple[str, str]]:
    """One (task, metric) per task: of `wanted`, such as the objectives, else the field's; see `choose_headline`."""
    by_task: dict[str, list[str]] = {}
    for task, metric in list_scores(records):
        by_task.setdefault(task, []).append(metric)
    return [(task, choose_headline(task, metrics, wanted)) for task, metrics in by_task.items()]


def list_varied_keys(facts: StudyFacts, records: Iterable[TrialRecord]) -> list[str]:
    """The keys that the study varied: those of its space in their order, then others that are in records."""
    return list(dict.fromkeys([*facts.space, *(key for record in records for key in record.params)]))


def format_varied(facts: StudyFacts, key: str, value: Any) -> str:
    """A varied value as text: a choice as the user typed it, a value drawn from a range with four digits."""
    drawn = isinstance(value, float) and "low" in facts.space.get(key, {})
    return f"{value:.4g}" if drawn else format_value(value)


def label_setting(facts: StudyFacts, params: dict[str, Any], keys: list[str]) -> str:
    """Such as 'rank=8, lr=0.001' or 'query + value, rank=8'; keys in the order of the space."""
    masks = find_masks(facts.space, keys)
    parts: dict[str, None] = {}  # a mask stands where its first key does, once
    for key in keys:
        if key in params:
            mask = find_mask(masks, key)
            plain = f"{shorten_key(key, keys)}={format_varied(facts, key, params[key])}"
            parts[plain if mask is None else mask.name(params)] = None
    return ", ".join(parts) or "as configured"


def list_axis_values(facts: StudyFacts, records: Iterable[TrialRecord], key: str) -> list[Any]:
    """The distinct values of a varied key: numbers sorted, others in the order of the space's choices."""
    present = {format_value(one.params[key]): one.params[key] for one in records if key in one.params}
    if all(map(is_number, present.values())):
        return sorted(present.values())
    choices = [format_value(choice) for choice in facts.space.get(key, {}).get("choices") or []]
    order = dict.fromkeys([*choices, *present])
    return [present[text] for text in order if text in present]


def group_by_setting(facts: StudyFacts, records: list[TrialRecord]) -> list[Setting]:
    """The settings in the order of the axes, the first axis changing slowest. Records with equal params are one."""
    records = sorted(records, key=lambda record: record.number)
    keys = list_varied_keys(facts, records)
    indices = {
        key: {format_value(value): index for index, value in enumerate(list_axis_values(facts, records, key))}
        for key in keys
    }

    def order(setting: Setting) -> list[int]:
        params = setting.params
        return [indices[key][format_value(params[key])] if key in params else len(indices[key]) for key in keys]

    groups: dict[str, list[TrialRecord]] = {}
    for record in records:
        groups.setdefault(identify_params(record.params), []).append(record)
    settings = [
        Setting(same[0].params, label_setting(facts, same[0].params, keys), same, _measure_spreads(same))
        for same in groups.values()
    ]
    return sorted(settings, key=order)


def first_objective(facts: StudyFacts) -> tuple[str, str]:
    """(metric, direction) of the objective that decides which setting is best."""
    return next(iter(facts.objectives.items()))


def list_broken_bounds(facts: StudyFacts, setting: Setting) -> list[Bound]:
    """The study's constraints that any finished trial of the setting lies beyond."""
    excesses = {
        bound: [measure_excess(record, bound) for record in setting.finished]
        for bound in list_bounds(facts.constraints)
    }
    return [bound for bound, values in excesses.items() if any(value is not None and value > 0 for value in values)]


def keep_allowed(facts: StudyFacts, settings: list[Setting]) -> list[Setting]:
    """The settings that keep every constraint: the best is one of them."""
    return [setting for setting in settings if not list_broken_bounds(facts, setting)]


def is_refused(setting: Setting) -> bool:
    """True where the setting cannot run."""
    return any(record.status is Status.REFUSED for record in setting.records)


def collect_records(settings: list[Setting]) -> list[TrialRecord]:
    """The records of all settings by number."""
    return sorted((one for setting in settings for one in setting.records), key=lambda record: record.number)
