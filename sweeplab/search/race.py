"""The queue of a race: every setting with one seed, then seeds where the contest is (`statistics.race`)."""

from optuna.trial import FrozenTrial

from sweeplab.config.search_rules import constraint_bounds, find_within, list_fresh_seeds
from sweeplab.config.space import Axis, Params, grid, list_begin
from sweeplab.config.study import StudyConfig
from sweeplab.records.record import TrialRecord
from sweeplab.report.evidence.race import RaceCourse, RaceRules
from sweeplab.search.queue import Queue, Queued
from sweeplab.statistics.race import Standing


class RaceQueue(Queue):
    """The trials of a race, in rounds."""

    def __init__(self, config: StudyConfig, varied: list[Axis], entries: list[Params]) -> None:
        super().__init__(config, varied, entries)
        study, self._within = config.study, find_within(config)
        constraints = dict(constraint_bounds(study.constraints))
        rules = RaceRules(varied, study.seeds, study.objectives[0], constraints, self._within, study.certainty)
        self._course = RaceCourse(rules, self._list_points())
        self._fresh_seeds = list_fresh_seeds(study)
        self._has_said_first = False  # where it stands within the first round

    @property
    def draws(self) -> bool:
        """No: every point is listed."""
        return False

    def note_record(self, record: TrialRecord) -> None:
        """Notes what came of a trial."""
        super().note_record(record)
        self._course.note(record)

    def fill(self, trials: list[FrozenTrial]) -> None:
        """Notes which trials have begun; what is next follows from their results."""
        for trial in trials:
            self._note_trial(trial)

    def take_next(self) -> Queued | None:
        """The next trial of the round; None where the race is over, or where others of its round still run."""
        course = self._course
        course.advance()
        running = [Queued(course.points[run.setting], course.rules.seeds[run.seed]) for run in course.runs]
        queued = self._list_fresh() if course.is_over else running
        return next((one for one in queued if not self.is_begun(one)), None)

    def _list_points(self) -> list[Params]:
        """The settings that the race begins with."""
        return grid(list_begin(self._varied))

    def judge(self) -> Standing | None:
        """Where the race stands with every result so far."""
        return self._course.judge()

    def describe_round(self) -> str | None:
        """Where the race stands, each time that a round is over, and once within the first one; else None."""
        course = self._course
        before = course.num_counted
        course.advance()
        if course.num_counted > before:
            return course.describe()
        if course.num_counted or self._has_said_first:
            return None
        sentence = course.describe()
        self._has_said_first = sentence is not None
        return sentence

    def _list_fresh(self) -> list[Queued]:
        """The setting that a decided race names, with seeds that had no part in naming it."""
        standing = self.judge() if self._fresh_seeds else None
        if standing is None or len(standing.find_open(self._within)):
            return []
        return [Queued(self._course.points[standing.leader], seed) for seed in self._fresh_seeds]
