"""`action=reproduce`: runs a recorded trial once more, alone, and compares the two records."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text
from safetensors.numpy import load_file

from sweeplab.config.compatible import check_trial
from sweeplab.config.compose import Request
from sweeplab.config.executor import ExecutorConfig
from sweeplab.config.given import refuse_code_of_files
from sweeplab.config.parse import trial_config_from_dict
from sweeplab.config.space import flatten_keys
from sweeplab.config.study import study_folder
from sweeplab.config.trial import TrialConfig
from sweeplab.config.trial_spec import TrialSpec
from sweeplab.execution.executor import Executor
from sweeplab.execution.placement import Placement, refuse_missing_gpu
from sweeplab.execution.supervisor import LocalLauncher
from sweeplab.records.record import Status, TrialRecord, score_values
from sweeplab.records.store import make_folder, read_record, record_path, trial_files, write_json
from sweeplab.runtime.errors import ConfigError
from sweeplab.tracking.progress import WORK_FIELDS, StudyProgress

# Between processors, versions, or a trial among others and alone, sums are rounded in another order. Training takes
# that further: held against PEFT's own loop a packed trial's losses were within 5e-6 nats in 32 bits.
_MOST_NATS: Final = 1e-3
_MOST_SCORE: Final = 0.02
ADAPTER: Final = "adapter/adapter_model.safetensors"


class _Difference(NamedTuple):
    """The largest difference of one kind of number between a record and its rerun; None where one lacks it."""

    what: str
    size: float | None
    allowed: float


def find_largest_gap(before: list[float | None], now: list[float | None]) -> float | None:
    """The largest absolute difference; None where one list has a number that the other lacks."""
    if len(before) != len(now) or any((a is None) != (b is None) for a, b in zip(before, now, strict=True)):
        return None
    return max((abs(a - b) for a, b in zip(before, now, strict=True) if a is not None and b is not None), default=0.0)


def _list_scores(record: TrialRecord) -> dict[str, float]:
    """Those at the end, and those of every rung."""
    found = score_values(record.scores)
    for rung in record.rung_scores:
        found |= {f"{name} at {rung.step}": value for name, value in score_values(rung.scores).items()}
    return found


def compare_weights(before: Path, now: Path) -> float | None:
    """The largest difference between the saved adapters' numbers; None where the files hold other tensors, or none."""
    files = [folder / ADAPTER for folder in (before, now)]
    if not all(path.is_file() for path in files):
        return None
    first, second = (load_file(path) for path in files)
    if first.keys() != second.keys() or any(first[name].shape != second[name].shape for name in first):
        return None
    return max((float(np.abs(first[name] - second[name]).max()) for name in first), default=0.0)


def compare_records(before: TrialRecord, now: TrialRecord, folders: tuple[Path, Path]) -> list[_Difference]:
    """The largest gap of each kind of number, with the largest that passes; `folders` are those of the two trials."""
    then, again = _list_scores(before), _list_scores(now)
    names = sorted(then.keys() | again.keys())
    return [
        _Difference(
            "training losses, nats/target",
            find_largest_gap([point.loss for point in before.losses], [point.loss for point in now.losses]),
            _MOST_NATS,
        ),
        _Difference(
            "held-out losses, nats/target",
            find_largest_gap(
                [point.loss for point in before.heldout_losses], [point.loss for point in now.heldout_losses]
            ),
            _MOST_NATS,
        ),
        _Difference(
            "scores",
            find_largest_gap([then.get(one) for one in names], [again.get(one) for one in names]),
            _MOST_SCORE,
        ),
        _Difference("adapter weights", compare_weights(*folders), np.inf),
    ]


def compare_provenance(before: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    """Versions, devices and fingerprints that differ between the two runs, one line each."""
    then, again = dict(flatten_keys(before)), dict(flatten_keys(now))
    for key in sorted(then.keys() | again.keys()):
        if then.get(key) != again.get(key):
            yield f"{key}: {then.get(key)} then, {again.get(key)} now"


def _match_executor(executor: ExecutorConfig, record: TrialRecord, num_devices: int) -> ExecutorConfig:
    """One trial, on the kind of device and with the threads of the record, which are those of one device's process."""
    device = record.provenance["device"]
    num_threads = device["num_threads"] * num_devices
    return executor.replaced(device=device["type"], num_threads=num_threads, cohort_size=1)


def read_recorded(request: Request) -> tuple[TrialRecord, Path]:
    """Raises `ConfigError` where there is no such trial, or nothing of it to compare."""
    folder, number = study_folder(request.config), request.config.trial
    assert isinstance(number, int), "the checks of the configuration refuse what is no number"
    path = record_path(folder, number)
    if not path.is_file():
        there = ", ".join(str(int(one.parent.name)) for one in trial_files(folder, "record.json"))
        raise ConfigError(
            f"trial={number} has no record in {folder}; there are: {there or 'none'}; give "
            "study.name=NAME, or +experiment=NAME, and trial=N"
        )
    record = read_record(path)
    if record.status not in (Status.FINISHED, Status.DIVERGED) or not record.provenance:
        raise ConfigError(f"trial={record.number} ended as {record.status.value}, which leaves nothing to compare")
    return record, path.parent


def _read_config(record: TrialRecord, overrides: Sequence[str]) -> TrialConfig:
    """What the record says was run; a file can say anything. Raises `ConfigError` where it could not run."""
    try:
        config = trial_config_from_dict(record.config)
        refuse_code_of_files(config, overrides)
        check_trial(config)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ConfigError(f"trial={record.number} has a record without a whole configuration: {error!r}") from error
    return config


def _rerun_trial(record: TrialRecord, request: Request, folder: Path, console: Console) -> TrialRecord:
    """The trial once more, in `folder`. Raises `ConfigError`."""
    make_folder(folder)
    config = _read_config(record, request.overrides)
    num_devices = config.training.num_devices
    executor_config = _match_executor(request.config.executor, record, num_devices)
    refuse_missing_gpu(executor_config)
    placement = Placement(executor_config, None, num_devices)
    spec = TrialSpec(record.number, record.seed, record.params, config, folder).to_dict()
    with Executor(LocalLauncher([placement]), False, folder) as executor, StudyProgress(1, 0, console) as progress:
        progress.started(record.number, record.params, record.seed)
        executor.submit(0, [spec])
        while True:
            message = executor.next_event().message
            if message["kind"] == "observed":
                progress.observed(message["number"], message["step"], message["values"])
            elif message["kind"] == "doing":
                progress.doing(0, **{name: message[name] for name in WORK_FIELDS})
            elif message["kind"] == "notice":
                progress.say(message["text"])
            elif message["kind"] == "refused":
                raise ConfigError(message["message"])
            elif message["kind"] == "died":
                raise ConfigError(f"trial={record.number} could not be run again: {message['reason']}")
            elif message["kind"] == "ended":
                now = TrialRecord.from_dict(message["record"])
                write_json(folder / "record.json", now.to_dict())
                return now


def show_comparison(gaps: list[_Difference], facts: list[str], is_lone: bool, console: Console) -> bool:
    """Prints the comparison; True where the rerun gave the same within what is allowed."""
    table = Table("", "largest difference", "allowed elsewhere", title="then and now", title_justify="left")
    for one in gaps:
        allowed = "–" if one.allowed == np.inf else f"{one.allowed:g}"
        table.add_row(one.what, "–" if one.size is None else f"{one.size:.3g}", allowed)
    console.print(table)
    for fact in facts:
        console.print(Text(f"not the same: {fact}"), soft_wrap=True)
    if not is_lone:
        console.print(
            Text("The recorded trial trained together with others, so its sums were rounded in another order.")
        )
    *numbers, weights = gaps
    close = all(one.size is not None and one.size <= one.allowed for one in numbers)
    exact = all(one.size == 0 for one in numbers) and weights.size in (0, None)
    verdict = "bit for bit" if exact else "within what is allowed"
    console.print(Text(f"The same numbers, {verdict}." if close else "Not the same numbers."))
    return close


def reproduce_trial(request: Request, console: Console) -> bool:
    """True where the trial gave the same numbers again. Raises `ConfigError` and `StoreError`."""
    before, there = read_recorded(request)
    folder = study_folder(request.config) / "reproduced" / there.name
    now = _rerun_trial(before, request, folder, console)
    if now.status is not before.status:
        console.print(Text(f"It was {before.status.value}, and is {now.status.value} now: {now.reason}"))
        return False
    facts = list(compare_provenance(before.provenance, now.provenance))
    return show_comparison(
        compare_records(before, now, (there, folder)), facts, not before.trained_among_others, console
    )
