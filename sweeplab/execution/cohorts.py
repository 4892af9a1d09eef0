"""Builds cohorts: trials of the search wait in a queue until others of the same geometry can train with them."""

import math
from collections import deque
from collections.abc import Callable
from typing import Final

from sweeplab.config.search_rules import LEARNING
from sweeplab.config.study import StudyConfig
from sweeplab.config.training import TrainingConfig
from sweeplab.config.trial_spec import TrialSpec
from sweeplab.records.metrics import SOLO_METRICS

_LARGEST_COHORT: Final = 16  # the worker trains fewer at a time where more are not faster or do not fit
_LARGEST_LEARNING_COHORT: Final = 4  # a sampler that learns from results should not draw many points before it has any
_COHORTS_AHEAD: Final = 4  # cohorts that fit into the queue, so that it has enough trials of one geometry


def choose_cohort_size(config: StudyConfig) -> int:
    """Trials that may train at once: `executor.cohort_size`, or what suits the sampler and the objectives."""
    size = config.executor.cohort_size
    if size != "auto":
        return int(size)
    if config.training.num_devices > 1:
        return 1  # the fastest size is not measured on several devices
    if any(metric.startswith(SOLO_METRICS) for metric in config.study.objectives):
        return 1  # time and memory of a trial can be measured only where it trains by itself
    return _LARGEST_LEARNING_COHORT if config.sampler.name in LEARNING else _LARGEST_COHORT


def halve_micro_batch(training: TrainingConfig) -> TrainingConfig | None:
    """The same training with micro-batches of at most half the size and as many examples per optimizer step; None
    where every device already has one row."""
    window, count = training.micro_batch_size * training.accumulation, training.num_devices
    sizes = [size for size in range(training.micro_batch_size // 2, 0, -1) if window % size == 0 == size % count]
    return training.replaced(micro_batch_size=sizes[0], accumulation=window // sizes[0]) if sizes else None


class CohortBuilder:
    """Asks for trials as cohorts need them. Trials of one geometry keep their order."""

    def __init__(self, ask: Callable[[], TrialSpec | None], config: StudyConfig) -> None:
        self.ask = ask  # None: there is no trial now; a race has further ones once the results of others are there
        self.size = choose_cohort_size(config)
        self.queue_length = self.size * (1 if config.sampler.name in LEARNING else _COHORTS_AHEAD)
        self.queue: deque[TrialSpec] = deque()

    def _fill_queue(self, count: int) -> None:
        """Asks for trials until `count` are in the queue, or there are no more."""
        while len(self.queue) < count and (spec := self.ask()) is not None:
            self.queue.append(spec)

    def build_cohort(self, num_idle: int = 1) -> list[TrialSpec]:
        """The next trial and, where it can share a base, others of its geometry; empty at the end of the study.

        The queue is divided among `num_idle` workers that wait for a cohort.
        """
        self._fill_queue(1)
        if not self.queue:
            return []
        first = self.queue.popleft()
        if first.geometry is None:
            return [first]
        if self.size > 1:
            self._fill_queue(self.queue_length)
        share = min(self.size, math.ceil((1 + len(self.queue)) / num_idle))
        return [first, *self._take_matching(first, share - 1, num_idle)]

    def find_refill(self, ended: TrialSpec) -> list[TrialSpec]:
        """A trial of the same geometry as `ended`, to train in its place; empty where there is none."""
        if ended.geometry is None or self.size == 1:
            return []
        self._fill_queue(self.queue_length)
        return self._take_matching(ended, 1)

    def _take_matching(self, trial: TrialSpec, most: int, num_idle: int = 1) -> list[TrialSpec]:
        """Takes up to `most` trials from the queue that can train with `trial`.

        Those of its seed are dealt to the idle workers in turn, so that the first settings end first.
        """
        matching = [queued for queued in self.queue if queued.geometry == trial.geometry]
        alike = [queued for queued in matching if queued.seed == trial.seed]
        dealt = alike[num_idle - 1 :: num_idle]
        others = [queued for queued in matching if queued not in dealt]
        taken = [*dealt, *others][:most]
        for queued in taken:
            self.queue.remove(queued)
        return sorted(taken, key=matching.index)
