"""Which of the varied keys matter: importances by Optuna, and on a full grid the analysis of variance."""

from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple

import numpy as np

from sweeplab.records.record import Status, StudyFacts, TrialRecord
from sweeplab.records.stored import is_number
from sweeplab.report.evidence.estimates import Evidence
from sweeplab.report.evidence.formatting import DASH, format_share, format_value, shorten_key
from sweeplab.report.evidence.settings import (
    collect_records,
    first_objective,
    list_axis_values,
    list_varied_keys,
    read_number,
)
from sweeplab.report.findings.table import Cell, Column, Table
from sweeplab.statistics.factorial import analyze_variance
from sweeplab.statistics.selection import pick_evenly

_NOTE: Final = (
    "Shares that add up to 1, over {over}, by Optuna; from the least to the largest of {parts} and of "
    "{forests} forests. fANOVA: what moves the objective over the whole space{many}.{local} Noise has its share."
)
_LOCAL: Final = " PED-ANOVA: what tells the best tenth of the trials from the rest{whole}."
_NO_LOCAL: Final = " PED-ANOVA is left out: the best tenth has fewer than ten trials."
_MIN_TRIALS: Final = 8  # fewer give a forest of trees nothing to split
_MIN_LOCAL: Final = 100  # trials, so that the best tenth has ten
_SEEDS: Final = (0, 1, 2)  # of fANOVA's forests
_NUM_TREES: Final = 16  # of a forest; the range over forests says what more trees would average out
_MOST_IN_FOREST: Final = 1000  # trials that all forests of one seed see together: time grows with their square
_MOST_PARTS: Final = 5
_LEAST_RANGE: Final = 1e-6  # of the objective, as it is given to a forest, which takes a variance of 1e-16 for none
_MOST_RANGES: Final = 1e6  # that values may be away from 0, beyond which their variance is rounding

Range = tuple[float, float]


class Importance(NamedTuple):
    """The range of a varied key's share; each method's shares add up to 1 over the keys."""

    name: str
    fanova: Range
    ped_anova: Range | None  # None for fewer than `_MIN_LOCAL` trials


def measure_importance(facts: StudyFacts, records: list[TrialRecord]) -> list[Importance]:
    """By the keys that vary, the largest first; none for fewer than two of them or `_MIN_TRIALS` trials.

    PED-ANOVA (Watanabe et al. 2023) says what tells the best tenth from the rest, fANOVA (Hutter et al. 2014) what
    moves the objective over the whole space. Either is computed for each part of the trials (`_split_trials`) that is
    large enough, fANOVA with several forests, too: the range says how far shares are those of chance.
    """
    metric, direction = first_objective(facts)
    keys, valued = choose_keys_and_trials(facts, records)
    if len(keys) < 2 or len(valued) < _MIN_TRIALS or len({read_number(one, metric) for one in valued}) < 2:
        return []
    study = _OptunaStudy(facts, valued, keys, metric, direction)
    parts = [part for part in _split_trials(valued, _MIN_TRIALS) if study.varies(part)]
    most = max(_MIN_TRIALS, _MOST_IN_FOREST // max(len(parts), 1))
    picked = [chosen for part in parts or [valued] if study.varies(chosen := pick_evenly(part, most))]
    if not picked:  # nearly all trials are equal, and those that differ are not among as many as a forest sees
        return []
    forests = [study.ask_fanova(chosen, seed) for chosen in picked for seed in _SEEDS]
    local = [study.ask_ped_anova(part) for part in _split_trials(valued, _MIN_LOCAL) if study.has_best_tenth(part)]
    middle = {key: float(np.mean([one[key] for one in forests])) for key in keys}
    return [
        Importance(shorten_key(key, keys), _find_range(forests, key), _find_range(local, key) if local else None)
        for key in sorted(keys, key=lambda key: -middle[key])
    ]


def _split_trials(records: list[TrialRecord], least: int) -> list[list[TrialRecord]]:
    """The trials of each seed, or of one seed two halves by lot, where such parts have `least` trials each.

    Else all trials; none where these are too few, too.
    """
    seeds = sorted({one.seed for one in records})
    by_seed = [[one for one in records if one.seed == seed] for seed in seeds[:_MOST_PARTS]]
    drawn = np.random.default_rng(0).permutation(len(records)).tolist()  # by number they might follow a grid
    middle = len(drawn) // 2
    halves = [[records[index] for index in sorted(part)] for part in (drawn[:middle], drawn[middle:])]
    parts = by_seed if len(seeds) > 1 else halves
    whole = [records] if len(records) >= least else []
    return parts if min(map(len, parts)) >= least else whole


def _find_range(shares: list[dict[str, float]], key: str) -> Range:
    return min(one[key] for one in shares), max(one[key] for one in shares)


def format_range(ends: Range | None) -> str:
    """'0.1 to 0.3', or '0.3' where both ends are that; a dash for None. More digits would be chance."""
    if ends is None:
        return DASH
    low, high = (f"{end:.1f}" for end in ends)
    return low if low == high else f"{low} to {high}"


def choose_keys_and_trials(facts: StudyFacts, records: list[TrialRecord]) -> tuple[list[str], list[TrialRecord]]:
    """The keys whose importance can be told, and the trials that tell it: finished ones that have all the keys.

    Of a study whose keys are not in every trial, the trials with all of them, as far as these are `_MIN_TRIALS`: what
    only some trials have may move the objective most. Else all trials, with the keys that are in each. Either way only
    keys that vary there.
    """
    valued = _select_finished(facts, records)
    keys = [key for key in list_varied_keys(facts, records) if len(list_axis_values(facts, records, key)) > 1]
    chosen = [one for one in valued if all(key in one.params for key in keys)]
    if len(chosen) < _MIN_TRIALS:
        chosen, keys = valued, [key for key in keys if all(key in one.params for one in valued)]
    return [key for key in keys if len(list_axis_values(facts, chosen, key)) > 1], chosen


def _select_finished(facts: StudyFacts, records: list[TrialRecord]) -> list[TrialRecord]:
    metric, _ = first_objective(facts)
    ordered = sorted(records, key=lambda record: record.number)
    return [one for one in ordered if one.status is Status.FINISHED and read_number(one, metric) is not None]


def describe_importance(facts: StudyFacts, records: list[TrialRecord]) -> str:
    """What the shares mean, and which trials and keys they are not of."""
    keys, chosen = choose_keys_and_trials(facts, records)
    num_finished = len(_select_finished(facts, records))
    over = "all finished trials"
    if len(chosen) < num_finished:
        over = f"the {len(chosen)} of {num_finished} finished trials that have a value of every varied key"
    varied = list_varied_keys(facts, records)
    absent = [
        shorten_key(key, varied) for key in varied if key not in keys and len(list_axis_values(facts, records, key)) > 1
    ]
    parts = _split_trials(chosen, _MIN_TRIALS)
    several = len({one.seed for one in chosen}) > 1
    sentences = _NOTE.format(
        over=over,
        parts="all of them" if len(parts) < 2 else f"{len(parts)} seeds" if several else "two halves",
        forests=len(_SEEDS),
        many=f" (of more than {_MOST_IN_FOREST:,} trials it sees as many, evenly spaced)"
        if len(chosen) > _MOST_IN_FOREST
        else "",
        local=_describe_local(chosen),
    )
    if not absent:
        return sentences
    return f"{sentences} Without {', '.join(absent)}: keys that do not vary in these trials, or that not all have."


def _describe_local(records: list[TrialRecord]) -> str:
    num_parts = len(_split_trials(records, _MIN_LOCAL))
    if num_parts == 0:
        return _NO_LOCAL
    return _LOCAL.format(whole=", of all trials together, so without a range" if num_parts == 1 else "")


def build_importance_table(shares: list[Importance]) -> Table | None:
    """None without any; no column of PED-ANOVA where it has too few trials."""
    columns = [Column("varied", numeric=False), Column("fANOVA", "share of variance"), Column("PED-ANOVA", "share")]
    rows = [
        [Cell(one.name), *(Cell(format_range(ends), size=None if ends is None else sum(ends)) for ends in one[1:])]
        for one in shares
    ]
    if all(one.ped_anova is None for one in shares):
        columns, rows = columns[:2], [row[:2] for row in rows]
    return Table(columns, rows) if rows else None


class _OptunaStudy:
    """Optuna's importances of `keys`, from studies that are made of the records."""

    def __init__(
        self, facts: StudyFacts, records: list[TrialRecord], keys: list[str], metric: str, direction: str
    ) -> None:
        from optuna import logging

        logging.set_verbosity(logging.ERROR)
        self._specs: dict[str, Mapping[str, Any]] = {key: facts.space.get(key, {}) for key in keys}
        self._spaces = {
            key: _choose_distribution(spec, list_axis_values(facts, records, key)) for key, spec in self._specs.items()
        }
        self._metric = metric
        self._direction: Literal["minimize", "maximize"] = "minimize" if direction == "minimize" else "maximize"

    def varies(self, records: list[TrialRecord]) -> bool:
        return len({read_number(one, self._metric) for one in records}) > 1

    def has_best_tenth(self, records: list[TrialRecord]) -> bool:
        """False where so many trials are equal that the worst are among the best tenth."""
        values = [value for one in records if (value := read_number(one, self._metric)) is not None]
        ordered = sorted(values, reverse=self._direction == "maximize")
        return ordered[max(0, len(ordered) // 10 - 1)] != ordered[-1]

    def ask_fanova(self, records: list[TrialRecord], seed: int) -> dict[str, float]:
        from optuna.importance import FanovaImportanceEvaluator

        return self._ask(records, FanovaImportanceEvaluator(n_trees=_NUM_TREES, seed=seed))

    def ask_ped_anova(self, records: list[TrialRecord]) -> dict[str, float]:
        from optuna.importance import PedAnovaImportanceEvaluator

        return self._ask(records, PedAnovaImportanceEvaluator(evaluate_on_local=False))

    def _ask(self, records: list[TrialRecord], evaluator: Any) -> dict[str, float]:
        from optuna import create_study
        from optuna.importance import get_param_importances
        from optuna.trial import create_trial

        study = create_study(direction=self._direction)
        values = [value for record in records if (value := read_number(record, self._metric)) is not None]
        for record, value in zip(records, _scale(values), strict=True):
            params = {key: _to_optuna_value(record.params[key], spec) for key, spec in self._specs.items()}
            study.add_trial(create_trial(params=params, distributions=self._spaces, value=value))
        return get_param_importances(study, evaluator=evaluator, params=list(self._specs))


def _scale(values: list[float]) -> list[float]:
    """The values, times what makes their range one where it is so small or so large that trees see no difference, or
    only rounding. Shares stay the same."""
    low, high = min(values), max(values)
    is_fine = high - low >= _LEAST_RANGE and max(-low, high) <= _MOST_RANGES * (high - low)
    if low == high or is_fine:
        return values
    return [(value - low) / (high - low) for value in values]


def _to_optuna_value(value: Any, spec: Mapping[str, Any]) -> Any:
    """Numbers and a range's values as they are; any other choice as its text, since a list is no choice for Optuna."""
    return value if "low" in spec or is_number(value) else format_value(value)


def _choose_distribution(spec: Mapping[str, Any], values: list[Any]) -> Any:
    """What Optuna takes the key to be: ordered where all values are numbers, else choices."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if not all(map(is_number, values)):
        return CategoricalDistribution([_to_optuna_value(value, spec) for value in values])
    low, high = min(values), max(values)
    log = low > 0 and ("log" in spec or high / low >= 10)
    return FloatDistribution(float(low), float(high), log=log)


def build_effects_table(facts: StudyFacts, evidence: Evidence) -> Table | None:
    """Main effects and interactions of a full grid, with their shares of the variance; None where it is none, or where
    a run is missing, such as that of a study that runs."""
    records = collect_records(evidence.settings)
    keys = [key for key in list_varied_keys(facts, records) if len(list_axis_values(facts, records, key)) > 1]
    levels = [[format_value(value) for value in list_axis_values(facts, records, key)] for key in keys]
    shape = [len(texts) for texts in levels]
    if len(keys) < 2 or len(evidence.settings) != int(np.prod(shape)) or not evidence.table.is_complete:
        return None
    values = np.full([*shape, evidence.table.num_seeds], np.nan)
    for setting, row_S in zip(evidence.settings, evidence.table.values_KS, strict=True):
        if any(key not in setting.params for key in keys):
            return None
        index = tuple(texts.index(format_value(setting.params[key])) for key, texts in zip(keys, levels, strict=True))
        values[index] = row_S
    names = [shorten_key(key, keys) for key in keys]
    rows = []
    for term in analyze_variance(values, len(keys)):
        crossed = " × ".join(names[axis] for axis in term.axes) or "seeds and what is left"
        name = "three or more together" if len(term.axes) > 2 else crossed
        rows.append([Cell(name), Cell(str(term.df)), Cell(format_share(term.share, 1.0)), Cell(_format_p(term.p))])
    titles = (Column("effect", numeric=False), Column("df"), Column("share of variance"), Column("p", "Holm"))
    return Table(list(titles), rows)


def _format_p(p: float | None) -> str:
    if p is None:
        return DASH
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
