"""Optuna's trials, built again from what was asked and what came of it."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import optuna
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.trial import FrozenTrial, TrialState, create_trial

from sweeplab.config.space import Axis, Params, fits
from sweeplab.config.study import StudyConfig
from sweeplab.records.asked import TRIAL_FILE, AskedTrial, write_asked
from sweeplab.records.quarantine import StudyFiles
from sweeplab.records.record import HeldoutPoint, TrialRecord
from sweeplab.records.store import set_aside, trial_folder
from sweeplab.runtime.errors import ConfigError
from sweeplab.search.cma_state import is_safe_state
from sweeplab.search.outcome import loss_sign
from sweeplab.search.queue import ENTRY, SEED, Queue, identity

_CMA: Final = "cma:"  # attributes of Optuna's CMA-ES


def describe_trial(
    trial: FrozenTrial, number: int, params: Params, study_attrs: dict[str, Any], sign: float
) -> AskedTrial:
    """A running trial of Optuna's, to be stored; `sign` as `loss_sign` gives it."""
    start = trial.datetime_start
    return AskedTrial(
        number,
        trial.user_attrs[SEED],
        params,
        {key: json.loads(distribution_to_json(one)) for key, one in trial.distributions.items()},
        {key: drawn for key, drawn in trial.params.items() if repr(drawn) != repr(params[key])},
        dict(trial.user_attrs),
        dict(trial.system_attrs),
        study_attrs,
        [HeldoutPoint(step, sign * value) for step, value in sorted(trial.intermediate_values.items())],
        None if start is None else start.astimezone(UTC).isoformat(),
    )


def _refuse_outside(number: int, params: Params, varied: list[Axis]) -> None:
    """Raises `ConfigError` for a trial that the present space could not have given."""
    by_key = {axis.key: axis for axis in varied}
    for key, value in params.items():
        if key not in by_key or not by_key[key].holds(value):
            raise ConfigError(f"space.{key} has lost {value}, which was drawn; choose another study.name")
    if not fits(params, varied):
        raise ConfigError(
            f"space has other axes than trial {number}, which varied {', '.join(params) or 'nothing'}; "
            "choose another study.name"
        )


def _asked_from_record(record: TrialRecord, entries: dict[str, Params], varied: list[Axis]) -> AskedTrial:
    """What must have been asked of a trial of which only the record is there; takes its entry out of `entries`."""
    attrs: dict[str, Any] = {SEED: record.seed}
    entry = next((key for key, values in entries.items() if values.items() <= record.params.items()), None)
    if entry is not None:
        attrs[ENTRY] = entry
        del entries[entry]
    drawn_from = {axis.key: axis.distribution() for axis in varied if axis.key in record.params}
    distributions = {key: json.loads(distribution_to_json(one)) for key, one in drawn_from.items()}
    return AskedTrial(record.number, record.seed, record.params, distributions, user_attrs=attrs)


def match_files(
    folder: Path, files: StudyFiles, varied: list[Axis], entries: list[Params]
) -> tuple[dict[int, AskedTrial], list[str]]:
    """What was asked, by number, and a sentence for each thing that was not as it should be.

    A record says what came of a trial, and is believed where `trial.json` says that another trial was asked for. Where
    that file is missing, as of a study that began before there was one, it is written again from the record.

    Raises `ConfigError` and `StoreError`.
    """
    asked, sentences = {one.number: one for one in files.asked}, []
    for record in files.records:
        one = asked.get(record.number)
        if one is not None and (identity(one.params), one.seed) != (identity(record.params), record.seed):
            path = trial_folder(folder, record.number) / TRIAL_FILE
            sentences.append(f"{path} is not what the record beside it is of, and is kept as {set_aside(path).name}")
            del asked[record.number]
    begun = {one.user_attrs.get(ENTRY) for one in asked.values()}
    missing_entries = {key: values for values in entries if (key := repr(values)) not in begun}
    missing = [record for record in files.records if record.number not in asked]
    for record in missing:
        _refuse_outside(record.number, record.params, varied)
        asked[record.number] = _asked_from_record(record, missing_entries, varied)
        write_asked(folder, asked[record.number])
    if missing:
        sentences.append(f"{len(missing)} trials have no {TRIAL_FILE}, which was written again from their records")
    for one in asked.values():
        _refuse_outside(one.number, one.params, varied)
    return asked, sentences


def _build_trial(asked: AskedTrial, record: TrialRecord | None, config: StudyConfig, varied: list[Axis]) -> FrozenTrial:
    """A running trial as Optuna has it, its values drawn from the present space.

    Optuna takes no new choices within a study, and samplers drop an axis whose range differs between trials. Where the
    space has grown since, CMA-ES begins again: its state is in the old range's units.
    """
    distributions: dict[str, BaseDistribution] = {
        axis.key: axis.distribution() for axis in varied if axis.key in asked.params
    }
    system_attrs = asked.system_attrs
    has_grown = any(
        asked.distributions.get(key) != json.loads(distribution_to_json(one)) for key, one in distributions.items()
    )
    if has_grown or not is_safe_state(system_attrs):
        system_attrs = {key: value for key, value in system_attrs.items() if not key.startswith(_CMA)}
    seen = [] if record is None or config.pruner.name == "none" else record.heldout_losses
    losses = {point.step: point.loss for point in [*seen, *asked.heldout_losses]}
    trial = create_trial(
        state=TrialState.RUNNING,
        params={**asked.params, **asked.drawn},
        distributions=distributions,
        user_attrs={**asked.user_attrs, SEED: asked.seed},
        system_attrs=system_attrs,
        intermediate_values={step: loss_sign(config) * loss for step, loss in losses.items()},
    )
    if asked.started is not None:
        trial.datetime_start = datetime.fromisoformat(asked.started).astimezone().replace(tzinfo=None)
    return trial


def rebuild_trials(
    study: optuna.Study,
    files: StudyFiles,
    asked: dict[int, AskedTrial],
    queue: Queue,
    varied: list[Axis],
    config: StudyConfig,
) -> None:
    """Adds a running trial for each number, those that have a record too.

    A number of which both files are lost gets a point that the others lack, or one that is drawn when it is asked for.
    """
    recorded = {record.number: record for record in files.records}
    for one in asked.values():
        queue.note(one.params, one.seed)
    missing = iter(queue.list_missing([one.params for _, one in sorted(asked.items())]))
    for number in range(max(asked, default=-1) + 1):
        if number in asked:
            one = asked[number]
        else:
            queued = next(missing, None)
            params, seed = (queued.params, queued.seed) if queued else ({}, config.study.seeds[0])
            one = AskedTrial(number, seed, params, {})
        study.add_trial(_build_trial(one, recorded.get(number), config, varied))
