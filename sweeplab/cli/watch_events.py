"""`action=watch` and `action=list` for programs: one JSON object a line (`docs/watch.schema.json`)."""

import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from sweeplab.cli.watch import Watcher, has_ended
from sweeplab.config.study import StudyConfig, study_folder
from sweeplab.records.events import EVENT_VERSION, RunningNow, StudyEvent, TrialEvent
from sweeplab.report.evidence.settings import read_number
from sweeplab.runtime.errors import ConfigError

if TYPE_CHECKING:
    from sweeplab.cli.watch import _Ending, _StudyState

_LOOK_SECONDS: Final = 1.0  # between two looks


def print_events(config: StudyConfig) -> None:
    """Prints what happens until the study has ended, or what has happened so far. Raises `ConfigError` where once is
    too early, and `StoreError`."""
    folder = study_folder(config)
    for event in _follow(Watcher(folder), config.watch.once):
        _print_line(event)
        if isinstance(event, StudyEvent) and event.state == "ended":
            return
    if config.watch.once and not (folder / "study.json").exists():
        raise ConfigError(
            f"watch.once=true: {folder} holds no study yet; start it, or use watch.once=false to wait for it"
        )


def print_studies(config: StudyConfig) -> None:
    """Prints how far each study in `study.runs_dir` is. Raises `StoreError` for a damaged one."""
    for path in sorted(Path(config.study.runs_dir).glob("*/study.json")):
        seen = Watcher(path.parent).look()
        if seen is not None:
            _print_line(describe_study(seen, time.time()))


def _print_line(event: StudyEvent | TrialEvent) -> None:
    print(json.dumps(event.to_dict(), ensure_ascii=False, allow_nan=False), file=sys.stdout, flush=True)


def _follow(watcher: Watcher, is_once: bool) -> Iterator[StudyEvent | TrialEvent]:
    """Each ending once, by the time of its record, and the study whenever it has changed."""
    told: set[tuple[int, float]] = set()
    last: StudyEvent | None = None
    while True:
        seen = watcher.look()
        if seen is not None:
            for ending in sorted(seen.endings, key=lambda one: (one.when, one.record.number)):
                if (ending.record.number, ending.when) not in told:
                    told.add((ending.record.number, ending.when))
                    yield describe_ending(seen, ending)
            now = describe_study(seen, time.time())
            if last is None or now.replaced(time=last.time) != last:
                last = now
                yield now
        if is_once:
            return
        time.sleep(_LOOK_SECONDS)


def describe_study(seen: "_StudyState", now: float) -> StudyEvent:
    """How far the study is; `now` is a Unix time."""
    underway = None if seen.driven is False else seen.underway
    statuses = Counter(ending.record.status.value for ending in seen.endings)
    return StudyEvent(
        event="study",
        version=EVENT_VERSION,
        time=now,
        study=seen.facts.name,
        state=_name_state(seen),
        command=seen.facts.command,
        num_ended=len(seen.endings),
        num_planned=seen.facts.num_planned,
        by_status=dict(sorted(statuses.items())),
        seconds_left=None if underway is None else underway.seconds_left,
        doing=[] if underway is None else underway.doing,
        running=[
            RunningNow(number=one.number, label=one.label, since=one.since, fraction=one.fraction, loss=one.loss)
            for one in ([] if underway is None else underway.running)
        ],
    )


def _name_state(seen: "_StudyState") -> Literal["running", "running elsewhere", "stopped", "ended"]:
    if has_ended(seen):
        return "ended"
    if seen.driven is None:
        return "running elsewhere"
    return "running" if seen.driven else "stopped"


def describe_ending(seen: "_StudyState", ending: "_Ending") -> TrialEvent:
    """The line of a trial that has ended."""
    record, when = ending
    return TrialEvent(
        event="trial",
        version=EVENT_VERSION,
        time=when,
        study=seen.facts.name,
        number=record.number,
        seed=record.seed,
        params=record.params,
        status=record.status.value,
        reason=record.reason,
        values={metric: read_number(record, metric) for metric in seen.facts.objectives},
    )
