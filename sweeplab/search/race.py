"""The queue of a race: every setting with one seed, then seeds where the contest is (`statistics.race`)."""

import math
from collections.abc import Iterable

from optuna.trial import FrozenTrial

from sweeplab.config.search_rules import constraint_bounds, find_within, list_fresh_seeds
from sweeplab.config.space import Axis, Params, grid, identify_params
from sweeplab.config.study import StudyConfig
from sweeplab.records.record import TrialRecord
from sweeplab.report.evidence.formatting import count_noun, describe_params
from sweeplab.report.evidence.race import tabulate_race
from sweeplab.search.queue import Queue, Queued
from sweeplab.statistics.race import RaceTable, Run, Standing, choose_runs, judge_race


class RaceQueue(Queue):
    """The trials of a race, in rounds. A round depends only on the results of those before it, so that a study which
    goes on after a stop has the rounds of one that was never stopped."""

    def __init__(self, config: StudyConfig, varied: list[Axis], entries: list[Params]) -> None:
        super().__init__(config, varied, entries)
        self._within, self._certainty = find_within(config), config.study.certainty
        self._metric, self._constraints = config.study.objectives[0], dict(constraint_bounds(config.study.constraints))
        self._points = grid(varied)
        self._records: dict[tuple[str, int], TrialRecord] = {}  # by setting and seed
        self._counted: list[TrialRecord] = []  # of the rounds that are over
        self._round: list[Run] = []
        self._fresh_seeds = list_fresh_seeds(config.study)
        self._is_over = False

    def note_record(self, record: TrialRecord) -> None:
        """Notes what came of a trial."""
        super().note_record(record)
        self._records[identify_params(record.params), record.seed] = record

    def fill(self, trials: list[FrozenTrial]) -> None:
        """Notes which trials have begun; what is next follows from their results."""
        for trial in trials:
            self._note_trial(trial)

    def put_other_seeds_first(self, params: Params) -> None:
        """Nothing: a race decides itself who gets another seed."""

    def take_next(self) -> Queued | None:
        """The next trial of the round; None where the race is over, or where others of its round still run."""
        self._close_rounds()
        queued = self._list_fresh() if self._is_over else list(map(self._queue_run, self._round))
        return next((one for one in queued if not self._is_begun(one)), None)

    def _list_fresh(self) -> list[Queued]:
        """The setting that a decided race names, with seeds that had no part in naming it."""
        standing = self.judge() if self._fresh_seeds else None
        if standing is None or len(standing.find_open(self._within)):
            return []
        return [Queued(self._points[standing.leader], seed) for seed in self._fresh_seeds]

    def judge(self) -> Standing | None:
        """Where the race stands with every result so far."""
        return judge_race(self._tabulate(self._records.values()), self._certainty)

    def describe_round(self) -> str | None:
        """Where the race stands, each time that a round is over; else None."""
        before = len(self._counted)
        self._close_rounds()
        standing = self.judge() if len(self._counted) > before else None
        if standing is None:
            return None
        leader, num_open = self._points[standing.leader], len(standing.find_open(self._within))
        words = f"Now: {describe_params(leader)} leads after {count_noun(len(self._counted), 'run')}"
        if math.isinf(standing.bound):
            return f"{words}; another seed will tell how sure that is"
        if not num_open:
            return f"{words}, and nothing tried is better by more than {self._within:g}"
        return f"{words}; {count_noun(num_open, 'setting')} may be better, by {standing.bound:.3g} at most"

    def _tabulate(self, records: Iterable[TrialRecord]) -> RaceTable:
        return tabulate_race(self._points, self._seeds, records, self._metric, self._constraints)

    def _queue_run(self, run: Run) -> Queued:
        return Queued(self._points[run.setting], self._seeds[run.seed])

    def _find_record(self, run: Run) -> TrialRecord | None:
        queued = self._queue_run(run)
        return self._records.get((identify_params(queued.params), queued.seed))

    def _close_rounds(self) -> None:
        """Goes on to the first round that is not over, if there is one."""
        while True:
            records = [self._find_record(run) for run in self._round]
            ended = [one for one in records if one is not None]
            if len(ended) < len(records) or self._is_over:
                return
            self._counted += ended
            self._round = choose_runs(self._tabulate(self._counted), self._within, self._certainty)
            self._is_over = not self._round
