"""`action=watch`: follows a study from another terminal. It reads files, and neither locks nor writes any.

With `watch.page=true` it serves a page instead, whose buttons write down what they ask for (`records.wishes`).

What has ended comes from the records, what is running from the driver's `progress.json`, and whether there is a driver
from the holder that `.lock` names.
"""

import re
import socket
import time
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

import psutil
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from sweeplab.config.study import StudyConfig, study_folder
from sweeplab.records.record import Status, StudyFacts, TrialRecord
from sweeplab.records.store import read_facts, read_record, trial_files
from sweeplab.report.evidence.formatting import DASH, describe_params, format_metric, label_metric
from sweeplab.report.evidence.settings import read_number
from sweeplab.report.findings.standing import describe_standing
from sweeplab.runtime.errors import ConfigError
from sweeplab.tracking.pace import format_clock
from sweeplab.tracking.status_file import StudyStatus, read_status

_LOOK_SECONDS: Final = 1.0  # between two looks
_NUM_ENDINGS: Final = 5  # that are shown
_MOST_RUNNING: Final = 6  # likewise, so that what ended stays on a screen of 24 lines
_HOLDER: Final = re.compile(r"process (\d+) on (\S+) since (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)")


class _Ending(NamedTuple):
    """A record, and the Unix time at which it was written."""

    record: TrialRecord
    when: float


class _StudyState(NamedTuple):
    """A study at one moment."""

    facts: StudyFacts
    endings: list[_Ending]  # by trial
    underway: StudyStatus | None
    driven: bool | None  # a driver is at work; None: it would be on another machine


class Watcher:
    """Looks at a study's folder again and again; a record is read once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.known: dict[tuple[Path, int], _Ending] = {}  # by file and time of its writing, in nanoseconds

    def look(self) -> _StudyState | None:
        """None before the study has begun. Raises `StoreError` for a damaged file."""
        facts = read_facts(self.folder)
        if facts is None:
            return None
        now: dict[tuple[Path, int], _Ending] = {}
        for path in trial_files(self.folder, "record.json"):
            written = path.stat()
            key = path, written.st_mtime_ns
            now[key] = self.known.get(key) or _Ending(read_record(path), written.st_mtime)
        self.known = now
        return _StudyState(facts, list(now.values()), read_status(self.folder), has_driver(self.folder))


def has_driver(folder: Path) -> bool | None:
    """Whether the process that `.lock` names is at work; None where it is another machine's.

    The system's lock is not asked for, since a driver that starts meanwhile would be refused.
    """
    path = folder / ".lock"
    holder = _HOLDER.match(path.read_text(encoding="utf-8")) if path.exists() else None
    if holder is None:
        return False
    if holder[2] != socket.gethostname():
        return None
    since = datetime.strptime(holder[3], "%Y-%m-%d %H:%M:%S").timestamp()
    try:
        process = psutil.Process(int(holder[1]))
        return bool(process.status() != psutil.STATUS_ZOMBIE and process.create_time() < since + 1)  # else another one
    except psutil.NoSuchProcess:
        return False


def has_ended(seen: _StudyState) -> bool:
    """No driver is at work, and none is needed: the last one asked for no more, or every planned trial has ended."""
    asked_all = seen.underway is not None and seen.underway.ended
    all_there = seen.facts.num_planned is not None and len(seen.endings) >= seen.facts.num_planned
    return not seen.driven and (asked_all or (all_there and seen.driven is False))


def describe_state(seen: _StudyState) -> str:
    """Where the study stands, and the time left while it runs."""
    if has_ended(seen):
        return "ended"
    if seen.driven is False:
        return f"stopped; it goes on with: {seen.facts.command}"
    seconds = None if seen.underway is None else seen.underway.seconds_left
    where = "running" if seen.driven else "running on another machine, as far as its files say"
    return where if seconds is None else f"{where}, {format_clock(seconds)} left"


def tally_endings(seen: _StudyState) -> str:
    """Such as '3/4 trials: 2 finished, 1 failed'."""
    counts = Counter(ending.record.status for ending in seen.endings)
    parts = [f"{counts[status]} {status.value}" for status in Status if counts[status]]
    planned = DASH if seen.facts.num_planned is None else seen.facts.num_planned
    return f"{len(seen.endings)}/{planned} trials" + (f": {', '.join(parts)}" if parts else "")


def _make_heading(seen: _StudyState) -> Text:
    return Text.assemble((seen.facts.name, "bold"), f"  {describe_state(seen)}\n{tally_endings(seen)}")


def _make_running_table(seen: _StudyState, now: float) -> RenderableType:
    """The trials that train, as the driver last wrote; empty without a driver."""
    running = seen.underway.running if seen.underway is not None and seen.driven is not False else []
    if not running:
        return Text("")
    table = Table(title="running", title_justify="left")
    table.add_column("trial", overflow="fold")
    for title in ("steps", "training loss", "time"):
        table.add_column(title, justify="right")
    for one in running[:_MOST_RUNNING]:
        loss = DASH if one.loss is None else f"{one.loss:.4g}"
        table.add_row(Text(one.label), f"{one.fraction:.0%}", loss, format_clock(now - one.since))
    left = len(running) - _MOST_RUNNING
    assert seen.underway is not None
    return Group(*map(Text, seen.underway.doing), table, *([Text(f"and {left} trials more")] if left > 0 else []))


def _make_endings_table(seen: _StudyState) -> RenderableType:
    """The last trials that ended, the latest first."""
    if not seen.endings:
        return Text("")
    table = Table(title="last endings", title_justify="left")
    table.add_column("trial", overflow="fold")
    table.add_column("ended", overflow="fold")
    for record, _ in sorted(seen.endings, key=lambda ending: ending.when, reverse=True)[:_NUM_ENDINGS]:
        headline = "  ".join(
            f"{label_metric(metric)} {format_metric(metric, read_number(record, metric))}"
            for metric in seen.facts.objectives
        )
        outcome = headline if record.status is Status.FINISHED else f"{record.status}: {record.reason}"
        table.add_row(
            Text(f"trial {record.number}: {describe_params(record.params)} seed={record.seed}"), Text(outcome)
        )
    return table


def draw_study(seen: _StudyState, now: float) -> Group:
    """The study for a terminal; `now` is a Unix time."""
    best = [Text(line) for line in describe_standing(seen.facts, [ending.record for ending in seen.endings])]
    return Group(_make_heading(seen), _make_running_table(seen, now), *best, _make_endings_table(seen))


def watch_study(config: StudyConfig, console: Console) -> None:
    """Shows the study until it has ended, or once. Raises `ConfigError` where once is too early, and `StoreError`."""
    folder = study_folder(config)
    if config.watch.page:
        from sweeplab.cli.live_page import serve_page

        serve_page(folder, console)
        return
    watcher = Watcher(folder)
    if config.watch.once:
        seen = watcher.look()
        if seen is None:
            raise ConfigError(
                f"watch.once=true: {folder} holds no study yet; start it, or use watch.once=false to wait for it"
            )
        console.print(draw_study(seen, time.time()))
        return
    with Live(console=console, auto_refresh=False) as live:
        while True:
            seen = watcher.look()
            shown = Text(f"waiting for {folder}") if seen is None else draw_study(seen, time.time())
            live.update(shown, refresh=True)
            if seen is not None and has_ended(seen):
                return
            time.sleep(_LOOK_SECONDS)
