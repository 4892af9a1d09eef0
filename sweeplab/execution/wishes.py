"""The driver's side of wishes: notices that a person asked for something, and keeps in mind which trials are to end."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sweeplab.config.trial_spec import TrialSpec
from sweeplab.execution.worker_handle import Event
from sweeplab.records.lock import read_driver
from sweeplab.records.record import Status, TrialRecord
from sweeplab.records.store import record_path, set_aside
from sweeplab.records.wishes import AddSeed, StopStudy, StopTrial, Wish, list_wish_files, read_wishes, remove_wish
from sweeplab.search.search import Search

WISHED: Final = Event(-1, {"kind": "wished"})  # of no worker: somebody asked for something
_LOOK_SECONDS: Final = 0.3  # between two looks


class StudyStopped(Exception):
    """The study ends early, as its configuration or a person asks for; the message says why."""


class HandStop(StudyStopped):
    """A person ends it, and it has trials left."""


class Wishes:
    """What is asked of one study. A file stays until what it asks for is done, or cannot be."""

    def __init__(self, folder: Path, search: Search, say: Callable[[str], None]) -> None:
        self.folder = folder
        self.search = search
        self.say = say
        self.driver = read_driver(folder)  # this one's own token
        self.to_stop: set[int] = set()  # trials without a record yet

    @contextmanager
    def noticed(self, tell: Callable[[Event], None]) -> Iterator[None]:
        """Within it `tell` gets `WISHED` soon after a wish was written."""
        over = threading.Event()

        def look() -> None:
            seen = list_wish_files(self.folder)
            while not over.wait(_LOOK_SECONDS):
                now = list_wish_files(self.folder)
                if set(now) - set(seen):
                    tell(WISHED)
                seen = now

        threading.Thread(target=look, daemon=True).start()
        try:
            yield
        finally:
            over.set()

    def read(self) -> list[int]:
        """Takes in what is asked for; returns the trials to stop that were not asked for before.

        Raises `HandStop` where this driver is to end, and `StoreError`.
        """
        wishes, damaged = read_wishes(self.folder)
        for path, reason in damaged.items():
            self.say(f"{path} is no wish ({reason}), and is kept as {set_aside(path).name}")
        return [number for wish in wishes if (number := self._take_in(wish)) is not None]

    def _take_in(self, wish: Wish) -> int | None:
        """The trial to stop, where that is new."""
        if isinstance(wish, StopStudy):
            remove_wish(self.folder, wish)
            if wish.driver == self.driver:
                raise HandStop("by hand")
        elif isinstance(wish, AddSeed):
            if not self.search.add_seed(wish):
                remove_wish(self.folder, wish)
        elif record_path(self.folder, wish.trial).exists() or not self.search.has_trial(wish.trial):
            remove_wish(self.folder, wish)
        elif wish.trial not in self.to_stop:
            self.to_stop.add(wish.trial)
            return wish.trial
        return None

    def note_ended(self, record: TrialRecord) -> None:
        """Forgets the wish to stop a trial that has a record now."""
        if record.number in self.to_stop:
            self.to_stop.remove(record.number)
            remove_wish(self.folder, StopTrial(record.number))


def add_wished_seeds(folder: Path, search: Search) -> None:
    """Takes in the seeds that were asked for before the driver began, so that what is planned counts them."""
    for wish in read_wishes(folder)[0]:
        if isinstance(wish, AddSeed):
            search.add_seed(wish)


def record_unstarted(spec: TrialSpec) -> TrialRecord:
    """The record of a trial that a person stopped while no worker had it."""
    return spec.new_record(Status.STOPPED, "by hand, while it did not train")
