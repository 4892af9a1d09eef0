"""Which of the varied keys matter: importances by Optuna, and on a full grid the analysis of variance."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np

from sweeplab.records.record import Status, StudyFacts, TrialRecord
from sweeplab.records.stored import is_number
from sweeplab.report.evidence.estimates import Evidence
from sweeplab.report.evidence.formatting import DASH, format_number, format_share, format_value, shorten_key
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
    "Shares that add up to 1, over {over}, by Optuna. fANOVA: what moves the objective over the whole space (of more "
    "than 1,000 trials it sees as many, evenly spaced); PED-ANOVA: what tells the best tenth of the trials from the "
    "rest. Neither has an interval, and noise has its share."
)
_MIN_TRIALS: Final = 8  # fewer give a forest of trees nothing to split
_SEED: Final = 0  # of fANOVA's trees
_MANY_TRIALS: Final = 256  # from which on fewer trees say as much, in a quarter of the time
_NUM_TREES: Final = (64, 16)  # with few trials, with many
_MOST_IN_FOREST: Final = 1000  # trials that fANOVA sees: its time grows with their square


class Importance(NamedTuple):
    """Shares of one varied key, each method's adding up to 1 over the keys."""

    name: str
    fanova: float
    ped_anova: float


def measure_importance(facts: StudyFacts, records: list[TrialRecord]) -> list[Importance]:
    """By `taken`'s keys, the largest first; none for fewer than two of them or `MIN_TRIALS` trials.

    PED-ANOVA (Watanabe et al. 2023) says what tells the best tenth from the rest, fANOVA (Hutter et al. 2014) what
    moves the objective over the whole space, from `MOST_IN_FOREST` trials at most. Both count seeds as further trials
    of one point.
    """
    metric, direction = first_objective(facts)
    keys, valued = choose_keys_and_trials(facts, records)
    if len(keys) < 2 or len(valued) < _MIN_TRIALS or len({read_number(one, metric) for one in valued}) < 2:
        return []
    forest, local = _ask_optuna(facts, valued, keys, metric, direction)
    ranked = sorted(keys, key=lambda key: -forest[key])
    return [Importance(shorten_key(key, keys), forest[key], local[key]) for key in ranked]


def choose_keys_and_trials(facts: StudyFacts, records: list[TrialRecord]) -> tuple[list[str], list[TrialRecord]]:
    """The keys whose importance can be told, and the trials that tell it: finished ones that have all the keys.

    Of a study whose keys are not in every trial, the trials with all of them, as far as these are `MIN_TRIALS`: what
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
    sentences = _NOTE.format(over=over)
    return (
        f"{sentences} Without {', '.join(absent)}: keys that do not vary in these trials, or that not all have."
        if absent
        else sentences
    )


def build_importance_table(shares: list[Importance]) -> Table | None:
    """None without any."""
    columns = [Column("varied", numeric=False), Column("fANOVA", "share of variance"), Column("PED-ANOVA", "share")]
    rows = [[Cell(one.name), Cell(format_number(one.fanova)), Cell(format_number(one.ped_anova))] for one in shares]
    return Table(columns, rows) if rows else None


def _ask_optuna(
    facts: StudyFacts, records: list[TrialRecord], keys: list[str], metric: str, direction: str
) -> tuple[dict[str, float], dict[str, float]]:
    """fANOVA's and PED-ANOVA's importances of `keys`, from an Optuna study that is made of the records."""
    from optuna import Study, create_study, logging
    from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator, get_param_importances
    from optuna.trial import create_trial

    def study_of(chosen: list[TrialRecord]) -> Study:
        study = create_study(direction="minimize" if direction == "minimize" else "maximize")
        for record in chosen:
            params = {key: _to_optuna_value(record.params[key], facts.space.get(key, {})) for key in keys}
            study.add_trial(create_trial(params=params, distributions=spaces, value=read_number(record, metric)))
        return study

    spaces = {
        key: _choose_distribution(facts.space.get(key, {}), list_axis_values(facts, records, key)) for key in keys
    }
    logging.set_verbosity(logging.ERROR)
    forest = FanovaImportanceEvaluator(n_trees=_NUM_TREES[len(records) > _MANY_TRIALS], seed=_SEED)
    local = PedAnovaImportanceEvaluator(evaluate_on_local=False)
    return (
        get_param_importances(study_of(pick_evenly(records, _MOST_IN_FOREST)), evaluator=forest, params=keys),
        get_param_importances(study_of(records), evaluator=local, params=keys),
    )


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
    """Main effects and interactions of a full grid, with their shares of the variance; None where it is none."""
    records = collect_records(evidence.settings)
    keys = [key for key in list_varied_keys(facts, records) if len(list_axis_values(facts, records, key)) > 1]
    levels = [[format_value(value) for value in list_axis_values(facts, records, key)] for key in keys]
    shape = [len(texts) for texts in levels]
    if len(keys) < 2 or len(evidence.settings) != int(np.prod(shape)):
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
