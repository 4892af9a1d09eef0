"""The trials to run before the sampler draws another point: further seeds of drawn points, enqueued points, a grid."""

import ast
from collections import deque
from collections.abc import Iterable
from typing import Final, NamedTuple

from optuna.trial import FrozenTrial

from sweeplab.config.search_rules import RACES
from sweeplab.config.space import Axis, Params, fits, grid, identify_params, list_begin, to_plain_numbers
from sweeplab.config.study import StudyConfig
from sweeplab.records.record import Status, TrialRecord

SEED: Final = "seed"
ENTRY: Final = "enqueued"  # the entry of study.enqueue that a trial began with


class Queued(NamedTuple):
    """A trial to run before the sampler draws another point. One from an `entry` of study.enqueue may leave some axes
    to the sampler."""

    params: Params
    seed: int
    entry: str | None = None


def identify_entry(values: Params) -> str:
    """A text that is equal for equal entries of study.enqueue."""
    return repr(to_plain_numbers(values))


def identify_stored_entry(text: str) -> str:
    """The same for an entry as a trial's file has it: older versions told 1 from 1.0."""
    try:
        return identify_entry(ast.literal_eval(text))
    except (ValueError, SyntaxError, AttributeError):  # no entry of this version's
        return text


class Queue:
    """The queue of a study. It is computed from the trials so far, so that a study which goes on after a stop has the
    same queue as one that was never stopped."""

    def __init__(self, config: StudyConfig, varied: list[Axis], entries: list[Params]) -> None:
        self._entries = entries  # points of study.enqueue
        self._varied = varied
        self._lists_points = config.sampler.name in ("grid", "race")
        self._orders_seeds = config.sampler.name in ("grid", *RACES)  # other seeds of a setting have their own time
        self._seeds = config.study.seeds
        self._begun_seeds: dict[str, set[int]] = {}  # settings that were drawn, with the seeds that have a trial
        self._begun_entries: set[str] = set()  # entries of study.enqueue that have a trial
        self._pruned: set[str] = set()
        self._queue: deque[Queued] = deque()

    @property
    def draws(self) -> bool:
        """Whether the sampler may draw a point where nothing is queued."""
        return True

    @property
    def num_settings(self) -> int:
        """Number of settings that have a trial."""
        return len(self._begun_seeds)

    @property
    def num_left_out(self) -> int:
        """Number of trials that do not run, because another seed of their setting was pruned."""
        return sum(len(set(self._seeds) - self._begun_seeds.get(setting, set())) for setting in self._pruned)

    def fill(self, trials: list[FrozenTrial]) -> None:
        """Fills the queue when a study starts: missing seeds of earlier settings, then entries of study.enqueue.

        A grid is queued seed by seed; a drawn point with all its seeds one after another.
        """
        drawn = [params for trial in trials if (params := self._note_trial(trial)) is not None]
        self._queue.extend(self.list_missing(drawn))
        self._queue.extend(self._list_entries())

    def _list_entries(self) -> list[Queued]:
        """The entries of study.enqueue that have no trial yet."""
        entries = [Queued(one, self._seeds[0], identify_entry(one)) for one in self._entries]
        return [one for one in entries if not self.is_begun(one)]

    def list_missing(self, drawn: Iterable[Params]) -> list[Queued]:
        """Trials that are missing: of a grid all its points, otherwise the points `drawn`, with every seed."""
        if self._lists_points:
            wanted = [Queued(point, seed) for seed in self._seeds for point in grid(list_begin(self._varied))]
        else:
            points = {identify_params(params): params for params in drawn}
            wanted = [Queued(point, seed) for point in points.values() for seed in self._seeds]
        return [one for one in wanted if not self.is_begun(one)]

    def _note_trial(self, trial: FrozenTrial) -> Params | None:
        """Notes what a trial says; returns its setting, or None where an axis is missing or not of this space."""
        if ENTRY in trial.user_attrs:
            self._begun_entries.add(identify_stored_entry(trial.user_attrs[ENTRY]))
        params = read_params(trial, self._varied)
        if not fits(params, self._varied):
            return None
        self.note(params, trial.user_attrs[SEED])
        return params

    def note(self, params: Params, seed: int) -> None:
        """Notes that a setting has a trial with `seed`."""
        self._begun_seeds.setdefault(identify_params(params), set()).add(seed)

    def note_record(self, record: TrialRecord) -> None:
        """Notes what came of a trial: whether the pruner stopped it."""
        if record.status is Status.PRUNED:
            self._pruned.add(identify_params(record.params))

    def describe_round(self) -> str | None:
        """What a trial's end has changed, in a sentence; None where nothing is to say."""
        return None

    def is_begun(self, queued: Queued) -> bool:
        """True where the queued trial has already begun."""
        if queued.entry is not None:
            return queued.entry in self._begun_entries
        return queued.seed in self._begun_seeds.get(identify_params(queued.params), ())

    def put_other_seeds_first(self, params: Params) -> None:
        """Queues the other seeds of a setting that was drawn with one seed; grids and races keep their own order."""
        if self._orders_seeds or len(self._begun_seeds[identify_params(params)]) > 1:
            return
        others = (Queued(params, seed) for seed in reversed(self._seeds))
        self._queue.extendleft(one for one in others if not self.is_begun(one))

    def take_next(self) -> Queued | None:
        """The next queued trial, or None. Further seeds of a pruned setting are left out, to save time for others."""
        while self._queue:
            queued = self._queue.popleft()
            if self.is_begun(queued):
                continue
            if queued.entry is not None or identify_params(queued.params) not in self._pruned:
                return queued
        return None


def read_params(trial: FrozenTrial, varied: list[Axis]) -> Params:
    """The values of a trial in the configuration's own types; axes that are not of this space are left out."""
    by_key = {axis.key: axis for axis in varied}
    return {key: by_key[key].exact(value) for key, value in trial.params.items() if key in by_key}
