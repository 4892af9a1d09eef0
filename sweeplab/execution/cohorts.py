"""Who trains with whom: asked trials wait here until a cohort of their geometry has room."""

import math
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Final

from sweeplab.config.search_rules import LEARNING
from sweeplab.config.study import StudyConfig
from sweeplab.config.trial_spec import TrialSpec
from sweeplab.records.metrics import SOLO_METRICS

MOST_AT_ONCE: Final = 16  # fewer where the worker finds that more are not faster, or do not fit
MOST_WHILE_LEARNING: Final = 4  # a sampler that learns from results should not draw too much without any
LOOK_AHEAD: Final = 4  # cohorts asked for in advance, to find trials of one geometry


def cohort_size(config: StudyConfig) -> int:
    """Trials that may train at once: `executor.cohort_size`, or what suits the sampler and the objectives."""
    asked = config.executor.cohort_size
    if asked != "auto":
        return int(asked)
    if config.training.num_devices > 1:
        return 1  # nobody measures how many at once are fastest
    if any(metric.startswith(SOLO_METRICS) for metric in config.study.objectives):
        return 1  # time and memory of a trial are its own only where it is alone
    return MOST_WHILE_LEARNING if config.sampler.name in LEARNING else MOST_AT_ONCE


class Lineup:
    """Takes trials from `ready` as cohorts need them, in its order within a geometry."""

    def __init__(self, ready: Iterator[TrialSpec], config: StudyConfig) -> None:
        self.ready = ready
        self.size = cohort_size(config)
        self.most_waiting = self.size * (1 if config.sampler.name in LEARNING else LOOK_AHEAD)
        self.waiting: deque[TrialSpec] = deque()

    def fill(self, count: int) -> None:
        """Asks for trials until `count` wait, or there are no more."""
        self.waiting.extend(islice(self.ready, max(0, count - len(self.waiting))))

    def cohort(self, num_idle: int = 1) -> list[TrialSpec]:
        """The next trial and, where it can share its base, others of its geometry; empty at the end of the study.

        `num_idle` workers want one: each gets its share of what waits.
        """
        self.fill(1)
        if not self.waiting:
            return []
        first = self.waiting.popleft()
        if first.geometry is None:
            return [first]
        if self.size > 1:
            self.fill(self.most_waiting)
        return [first, *self.like(first, min(self.size, math.ceil((1 + len(self.waiting)) / num_idle)) - 1)]

    def newcomer(self, member: TrialSpec) -> list[TrialSpec]:
        """A trial for the place of one that has ended, of the geometry of `member`; none where there is none."""
        if member.geometry is None or self.size == 1:
            return []
        self.fill(self.most_waiting)
        return self.like(member, 1)

    def like(self, member: TrialSpec, most: int) -> list[TrialSpec]:
        """Takes up to `most` waiting trials that can train with `member`."""
        found = [one for one in self.waiting if one.geometry == member.geometry][:most]
        for one in found:
            self.waiting.remove(one)
        return found
