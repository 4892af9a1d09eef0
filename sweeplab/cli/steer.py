"""`action=stop` and `action=extend`, and the same asked by a button of the live page.

What is asked of a study is checked against its files, written down for its driver, and answered in a line.
"""

from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.text import Text

from sweeplab.cli.watch import has_driver
from sweeplab.config.space import identify_params
from sweeplab.config.study import StudyConfig, study_folder
from sweeplab.records.asked import TRIAL_FILE, AskedTrial, read_asked
from sweeplab.records.lock import read_driver
from sweeplab.records.store import read_facts, read_record, record_path, trial_files
from sweeplab.records.wishes import AddSeed, StopStudy, StopTrial, Wish, read_wishes, write_wish
from sweeplab.report.evidence.formatting import describe_params
from sweeplab.runtime.errors import ConfigError


class AskedSetting(NamedTuple):
    """A setting that has trials."""

    params: dict[str, Any]
    trial: int  # the first of them
    seeds: set[int]  # of its trials
    wished: set[int]  # that were asked for, and have no trial yet


class Steering:
    """What may be asked of one study now, as its files say."""

    def __init__(self, folder: Path, known: dict[Path, AskedTrial] | None = None) -> None:
        """`known`: what was read before, by file, which is filled up. Raises `ConfigError` where there is no study, and
        `StoreError`."""
        facts = read_facts(folder)
        if facts is None:
            raise ConfigError(f"{folder} holds no study; give study.name=NAME, or +experiment=NAME")
        self.folder, self.facts = folder, facts
        self.is_driven = has_driver(folder) is not False
        known = {} if known is None else known
        asked = [
            known.get(path) or known.setdefault(path, read_asked(path)) for path in trial_files(folder, TRIAL_FILE)
        ]
        self.settings: dict[str, AskedSetting] = {}
        self.setting_of: dict[int, AskedSetting] = {}
        for one in asked:
            setting = self.settings.setdefault(
                identify_params(one.params), AskedSetting(one.params, one.number, set(), set())
            )
            setting.seeds.add(one.seed)
            self.setting_of[one.number] = setting
        self.wishes = read_wishes(folder)[0]
        for wish in self.wishes:
            if isinstance(wish, AddSeed) and wish.trial in self.setting_of:
                setting = self.setting_of[wish.trial]
                setting.wished.update({wish.seed} - setting.seeds)

    def stop_study(self) -> str:
        """Asks the driver to end, and says so."""
        driver = read_driver(self.folder)
        if not self.is_driven or driver is None:
            return f"{self.facts.name} is not running; there is nothing to stop."
        self._ask(StopStudy(driver))
        return f"{self.facts.name} stops now; trials that run go on from their checkpoints with: {self.facts.command}"

    def stop_trial(self, number: int) -> str:
        """Asks that a trial ends, and says so. Raises `ConfigError` for one that there is not, and `StoreError`."""
        self._check_trial(number)
        path = record_path(self.folder, number)
        if path.exists():
            return f"Trial {number} has ended: {read_record(path).status.value}. There is nothing to stop."
        is_new = self._ask(StopTrial(number))
        when = "now, after its present step" if self.is_driven else "when the study goes on, and is not trained further"
        return f"Trial {number} {'ends' if is_new else 'was asked to end before; it ends'} {when}."

    def add_seeds(self, number: int | None, seeds: list[int]) -> str:
        """Asks for seeds of the setting of a trial, or of every setting, and says so. Raises as `stop_trial`."""
        if self.facts.race is not None:
            raise ConfigError(
                "action=extend does not go with a race, which gives seeds where the contest is; for more of them raise "
                "study.budget or study.certainty"
            )
        if number is not None:
            self._check_trial(number)
        if not self.settings:
            raise ConfigError("action=extend has no setting to extend, since no trial was begun; run the study first")
        chosen = [*self.settings.values()] if number is None else [self.setting_of[number]]
        wanted = seeds or [self.find_next_seed(chosen)]
        new, before, there = list[int](), list[int](), list[int]()
        for seed in wanted:
            missing = [one for one in chosen if seed not in one.seeds | one.wished]
            for setting in missing:
                self._ask(AddSeed(setting.trial, seed))
            is_wished = any(seed in one.wished for one in chosen)
            (new if missing else before if is_wished else there).append(seed)
        who = describe_params(chosen[0].params) if len(chosen) == 1 else f"the {len(chosen)} settings so far"
        groups = {"Noted in the study": new, "Asked for before": before, "There already, with a trial": there}
        said = [f"{what}: {_describe_seeds(found)} of {who}." for what, found in groups.items() if found]
        if (new or before) and self.is_driven:
            said.append("This comes next.")
        elif new or before:
            said.append(f"Not trained yet; the study's command trains this next: {self.facts.command}")
        return " ".join(said)

    def find_next_seed(self, chosen: list[AskedSetting]) -> int:
        """The smallest seed that none of the settings has, and that the study does not plan."""
        taken = set(self.facts.seeds).union(*(one.seeds | one.wished for one in chosen))
        return next(seed for seed in range(len(taken) + 1) if seed not in taken)

    def _check_trial(self, number: int) -> None:
        if number not in self.setting_of:
            there = f"0 to {max(self.setting_of)}" if self.setting_of else "none"
            raise ConfigError(f"trial={number} is not there; trials that were begun: {there}; give one of them")

    def _ask(self, wish: Wish) -> bool:
        """Writes a wish down; false where it was there. Raises `StoreError`."""
        is_new = wish not in self.wishes
        write_wish(self.folder, wish)
        return is_new


def _describe_seeds(seeds: list[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def steer_study(config: StudyConfig, console: Console) -> None:
    """What `action=stop` or `action=extend` asks for. Raises `ConfigError` and `StoreError`."""
    steering = Steering(study_folder(config))
    number = config.trial if isinstance(config.trial, int) else None
    if config.action == "extend":
        said = steering.add_seeds(number, config.extend.seeds)
    else:
        said = steering.stop_study() if number is None else steering.stop_trial(number)
    console.print(Text(said), soft_wrap=True)
