"""Which setting leads by the first objective, and which others may be as good."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from sweeplab.config.space import identify_params
from sweeplab.records.answer import RaceStatement
from sweeplab.records.items import Items
from sweeplab.records.record import StudyFacts
from sweeplab.report.evidence.comparability import group_comparable
from sweeplab.report.evidence.estimates import Evidence, gather_comparable_evidence, gather_evidence
from sweeplab.report.evidence.settings import Setting, first_objective, is_refused, keep_allowed
from sweeplab.report.findings.certainty import count_seeds
from sweeplab.statistics.comparison import Comparison
from sweeplab.statistics.intervals import Estimate

_PARAMS: Final = "num_trainable_params"


@dataclass(frozen=True)
class Standing:
    """The leading setting, and how the others compare with it."""

    evidence: Evidence
    compared: Comparison | None  # with the leading setting; None where no error is known
    leader: Setting
    race: RaceStatement | None = None

    @cached_property
    def tied(self) -> list[Setting]:
        """The other settings that are not worse for sure, by their order; where no error is known, all others."""
        settings = self.evidence.settings
        indices = range(len(settings)) if self.compared is None else self.compared.tied
        return [settings[index] for index in indices if settings[index] is not self.leader]

    @property
    def num_others(self) -> int:
        return len(self.evidence.settings) - 1

    @property
    def is_recommended(self) -> bool:
        """Whether the report says to use the leading setting: some other setting has to be worse."""
        if self.race is not None:
            return self.race.is_decided and not are_all_equal(self.evidence, self.leader)
        if self.compared is None or max(count_seeds(self.evidence)) == 1:
            return False
        return len(self.tied) < self.num_others

    @property
    def is_alone(self) -> bool:
        """True where every other setting is worse: one that others may equal is not called the best."""
        if self.race is not None:
            return self.is_recommended
        return self.is_recommended and not self.tied

    @cached_property
    def ranked(self) -> list[Setting]:
        """The settings by their means, the best first, seeds that some lack accounted for."""
        effects = (self.evidence.sign * self.evidence.table.effects_K).tolist()
        order = sorted(range(len(effects)), key=lambda index: -effects[index])
        settings = [self.evidence.settings[index] for index in order]
        return [self.leader, *(one for one in settings if one is not self.leader)]

    def find_difference(self, setting: Setting) -> Estimate | None:
        """The setting minus the leading one; None where it is not known."""
        index = self.evidence.index_of(setting)
        return None if self.compared is None or index is None else self.compared.differences[index]


def find_standing(
    facts: StudyFacts, settings: list[Setting], items: Items | None = None, race: RaceStatement | None = None
) -> Standing | None:
    """None where settings cannot be compared, or none that is allowed has a value."""
    metric = first_objective(facts)[0]
    if len(group_comparable(facts, settings, metric)) > 1:
        return None
    allowed = [setting for setting in keep_allowed(facts, settings) if not is_refused(setting)]
    evidence = gather_evidence(facts, allowed, metric, items)
    if evidence is None:
        return None
    leader = evidence.best
    if race is None or identify_params(race.leader) == identify_params(leader.params):
        return Standing(evidence, evidence.compared(), leader, race)
    wanted = identify_params(race.leader)
    found = (Standing(evidence, None, one, race) for one in evidence.settings if identify_params(one.params) == wanted)
    return next(found, None)


def list_equals(evidence: Evidence, setting: Setting) -> list[Setting]:
    """The settings whose mean is that of `setting` up to rounding, itself included."""
    own = evidence.estimate(setting)
    assert own is not None
    pairs = zip(evidence.settings, evidence.estimates, strict=True)
    rounding = 1e-12 * max(abs(estimate.value) for estimate in evidence.estimates)
    return [one for one, estimate in pairs if math.isclose(estimate.value, own.value, rel_tol=1e-9, abs_tol=rounding)]


def are_all_equal(evidence: Evidence, setting: Setting) -> bool:
    """True where several settings, all of them, are equal to the last digit, so that nothing says which to use."""
    return 1 < len(evidence.settings) == len(list_equals(evidence, setting))


def count_all(evidence: Evidence) -> str:
    """'both' settings, or 'all 7'."""
    return "both" if len(evidence.settings) == 2 else f"all {len(evidence.settings)}"


def find_cheapest(settings: list[Setting]) -> Setting | None:
    """The setting that trains the fewest parameters; None where several do, or that is not known of all."""
    sizes = [one.spreads[_PARAMS].mean for one in settings if _PARAMS in one.spreads]
    if len(sizes) < len(settings) or sizes.count(min(sizes)) > 1:
        return None
    return settings[sizes.index(min(sizes))]


def rank_settings(facts: StudyFacts, settings: list[Setting], items: Items | None) -> list[Setting]:
    """The settings by the first objective, the best first; where groups cannot be compared, within each of them.

    Those beyond the study's constraints come after the others, and those without a value last.
    """
    metric = first_objective(facts)[0]
    allowed = keep_allowed(facts, settings)
    ranked: list[Setting] = []
    for members in (allowed, settings):
        for evidence in gather_comparable_evidence(facts, members, metric, items).values():
            effects = (evidence.sign * evidence.table.effects_K).tolist()
            order = sorted(range(len(effects)), key=lambda index: -effects[index])
            ranked += [evidence.settings[index] for index in order]
    return list({id(one): one for one in [*ranked, *settings]}.values())
