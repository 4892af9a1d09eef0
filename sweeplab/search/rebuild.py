"""Rebuilds Optuna's trials from the files of a study: `trial.json`, what was asked, and `record.json`, its result."""

import io
import json
import pickle
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import optuna
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.trial import FrozenTrial, TrialState, create_trial

from sweeplab.config.space import Axis, Params, fits, identify_params
from sweeplab.config.study import StudyConfig
from sweeplab.records.asked import TRIAL_FILE, AskedTrial, write_asked
from sweeplab.records.quarantine import StudyFiles
from sweeplab.records.record import HeldoutPoint, TrialRecord
from sweeplab.records.store import set_aside, trial_folder
from sweeplab.runtime.errors import ConfigError
from sweeplab.search.outcome import find_loss_sign
from sweeplab.search.queue import ENTRY, SEED, Queue, identify_entry, identify_stored_entry

_CMA: Final = "cma:"  # attributes of Optuna's CMA-ES
_CMA_STATE: Final = "cma:optimizer:"  # those that hold its state, with the number of the part behind
_CMA_CLASSES: Final = {
    ("cmaes._cma", "CMA"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
}


class _CmaUnpickler(pickle.Unpickler):
    """Loads the classes of a CMA-ES state only; any other class could run code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _CMA_CLASSES:
            raise pickle.UnpicklingError(f"{module}.{name} is not part of a CMA-ES state")
        return super().find_class(module, name)


def is_safe_cma_state(system_attrs: dict[str, Any]) -> bool:
    """True where Optuna may load the CMA-ES state in a trial's system attributes, or there is none.

    Optuna stores that state as a pickle, cut into several attributes. A pickle in a file that somebody else wrote could
    run any code, so one with other classes than a CMA-ES state needs is not loaded.
    """
    parts = [value for key, value in system_attrs.items() if key.startswith(_CMA_STATE)]
    if not parts:
        return True
    try:
        text = "".join(system_attrs[f"{_CMA_STATE}{index}"] for index in range(len(parts)))
        _CmaUnpickler(io.BytesIO(bytes.fromhex(text))).load()
    except Exception:  # a damaged pickle may raise any error
        return False
    return True


def describe_trial(
    trial: FrozenTrial, number: int, params: Params, study_attrs: dict[str, Any], sign: float
) -> AskedTrial:
    """What is stored of a running Optuna trial; `sign` is that of `find_loss_sign`."""
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
    """Raises `ConfigError` for a trial that cannot be drawn from the present space."""
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
    """What must have been asked for a trial that has a record but no `trial.json`.

    Where the trial matches an entry of study.enqueue in `entries`, that entry is removed there.
    """
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
    """What was asked by trial number, and a sentence for the user about every repair.

    Where `trial.json` and the record of a number describe different trials, the record counts and `trial.json` is
    renamed. Where `trial.json` is missing, as in studies of older versions, it is written again from the record.

    Raises `ConfigError` and `StoreError`.
    """
    asked, sentences = {one.number: one for one in files.asked}, []
    for record in files.records:
        one = asked.get(record.number)
        if one is not None and (identify_params(one.params), one.seed) != (
            identify_params(record.params),
            record.seed,
        ):
            path = trial_folder(folder, record.number) / TRIAL_FILE
            sentences.append(f"{path} is not what the record beside it is of, and is kept as {set_aside(path).name}")
            del asked[record.number]
    begun = {identify_stored_entry(str(one.user_attrs.get(ENTRY))) for one in asked.values()}
    missing_entries = {key: values for values in entries if (key := identify_entry(values)) not in begun}
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
    """The trial as a running trial of Optuna, with the distributions of the present space.

    Optuna allows no new choices within a study, and its samplers ignore an axis whose range differs between trials.
    Where the space has grown since, CMA-ES starts again, because its state is scaled by the old range.
    """
    distributions: dict[str, BaseDistribution] = {
        axis.key: axis.distribution() for axis in varied if axis.key in asked.params
    }
    system_attrs = asked.system_attrs
    has_grown = any(
        asked.distributions.get(key) != json.loads(distribution_to_json(one)) for key, one in distributions.items()
    )
    if has_grown or not is_safe_cma_state(system_attrs):
        system_attrs = {key: value for key, value in system_attrs.items() if not key.startswith(_CMA)}
    recorded = [] if record is None or config.pruner.name == "none" else record.heldout_losses
    losses = {point.step: point.loss for point in [*recorded, *asked.heldout_losses]}
    trial = create_trial(
        state=TrialState.RUNNING,
        params={**asked.params, **asked.drawn},
        distributions=distributions,
        user_attrs={**asked.user_attrs, SEED: asked.seed},
        system_attrs=system_attrs,
        intermediate_values={step: find_loss_sign(config) * loss for step, loss in losses.items()},
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
    """Adds a running trial to `study` for each number, also for those that have a record.

    A number that has lost both files gets a missing point of the queue; where there is none, its point is drawn when
    the trial is asked for.
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
