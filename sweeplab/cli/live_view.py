"""What the live page shows: the report as it stands, made anew now and then, and what runs now."""

import hashlib
import threading
import time
from pathlib import Path
from typing import Any, Final

from sweeplab.cli.steer import AskedSetting, Steering
from sweeplab.cli.watch import Watcher, describe_state, has_ended, tally_endings
from sweeplab.records.asked import AskedTrial
from sweeplab.records.items import read_items
from sweeplab.records.store import StoreError, read_base_scores
from sweeplab.records.wishes import AddSeed, StopStudy, StopTrial
from sweeplab.report import render_live_report
from sweeplab.report.evidence.formatting import DASH, describe_params
from sweeplab.report.evidence.stored import StoredStudy
from sweeplab.runtime.errors import ConfigError, describe_error
from sweeplab.tracking.pace import format_clock

_SHARE: Final = 0.05  # of the time that making the report may take
_LEAST_SECONDS: Final = 2.0  # between two of them
_MOST_RUNNING: Final = 50  # that have a row


class LiveView:
    """One study, looked at again and again. Any thread may ask; one at a time is answered."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.watcher = Watcher(folder)
        self.asked: dict[Path, AskedTrial] = {}
        self.mutex = threading.RLock()
        self.page = ""
        self.version: str | None = None  # of the page that was made last
        self.due = 0.0  # when another may be made

    def make_page(self) -> str:
        """The report as HTML, of the records that are there. Raises `StoreError`."""
        with self.mutex:
            version = self._find_version()
            if version != self.version or not self.page:
                began = time.monotonic()
                self.page, self.version = render_live_report(self._read_study(), version), version
                took = time.monotonic() - began
                self.due = began + max(_LEAST_SECONDS, took / _SHARE)
            return self.page

    def _read_study(self) -> StoredStudy | None:
        seen = self.watcher.look()
        if seen is None:
            return None
        records = [ending.record for ending in seen.endings]
        return StoredStudy(seen.facts, records, read_items(self.folder) or None, read_base_scores(self.folder))

    def _find_version(self) -> str:
        """Of the page that would be made now: another one once trials have ended, and often enough only."""
        seen = self.watcher.look()
        if self.version is not None and time.monotonic() < self.due and not (seen is not None and has_ended(seen)):
            return self.version
        if seen is None:
            return "none"
        known = [seen.facts.num_planned, *((str(path), written) for path, written in self.watcher.known)]
        return hashlib.sha256(repr(known).encode()).hexdigest()[:16]

    def state(self) -> dict[str, Any]:
        """What runs now, as plain values for the page's script."""
        with self.mutex:
            try:
                return self._describe()
            except StoreError as error:
                return _EMPTY | {"phase": "stopped", "state": describe_error(error), "version": self.version}

    def _describe(self) -> dict[str, Any]:
        seen = self.watcher.look()
        if seen is None:
            return _EMPTY | {"phase": "waiting", "state": f"waiting for {self.folder}", "version": "none"}
        steering = Steering(self.folder, self.asked)
        stopping = {wish.trial for wish in steering.wishes if isinstance(wish, StopTrial)}
        running = seen.underway.running if seen.underway is not None and seen.driven is not False else []
        now, is_race = time.time(), seen.facts.race is not None
        phase = "ended" if has_ended(seen) else "running" if steering.is_driven else "stopped"

        def seed_for(one: AskedSetting | None) -> int | None:
            return None if one is None or is_race else steering.find_next_seed([one])

        return {
            "version": self._find_version(),
            "phase": phase,
            "state": f"{_NAMES[phase]}{describe_state(seen)} · {tally_endings(seen)}",
            "driven": steering.is_driven,
            "doing": seen.underway.doing if running and seen.underway is not None else [],
            "running": [
                {
                    "number": one.number,
                    "label": one.label,
                    "done": f"{one.fraction:.0%}",
                    "loss": DASH if one.loss is None else f"{one.loss:.4g}",
                    "time": format_clock(now - one.since),
                    "stopping": one.number in stopping,
                    "seed": seed_for(steering.setting_of.get(one.number)),
                }
                for one in running[:_MOST_RUNNING]
            ],
            "wished": [_describe_wish(wish, steering) for wish in steering.wishes],
            "settings": [
                {"trial": one.trial, "label": describe_params(one.params) or "as configured", "seed": seed_for(one)}
                for one in ([] if is_race else steering.settings.values())
            ],
        }

    def ask(self, values: Any) -> str:
        """Does what a button asks for, and says so. Raises `ConfigError` and `StoreError`."""
        with self.mutex:
            steering = Steering(self.folder, self.asked)
            match values:
                case {"ask": "stop_study"}:
                    return steering.stop_study()
                case {"ask": "stop_trial", "trial": int(trial)}:
                    return steering.stop_trial(trial)
                case {"ask": "add_seed", "trial": int(trial), "seed": int(seed)}:
                    return steering.add_seeds(trial, [seed])
            raise ConfigError(f"{str(values)[:100]} asks for nothing that a button does")


_NAMES: Final = {"ended": "The study has ", "running": "The study is ", "stopped": "The study is "}
_EMPTY: Final[dict[str, Any]] = {"driven": False, "doing": [], "running": [], "wished": [], "settings": []}


def _describe_wish(wish: StopTrial | StopStudy | AddSeed, steering: Steering) -> str:
    if isinstance(wish, StopStudy):
        return "the study is asked to stop"
    if isinstance(wish, StopTrial):
        return f"trial {wish.trial} is asked to stop"
    setting = steering.setting_of.get(wish.trial)
    return f"asked for: seed {wish.seed} of {describe_params(setting.params) if setting else f'trial {wish.trial}'}"
