"""`search.json`: what must stay as it was when the study began, and the trials that it took over."""

from pathlib import Path

from sweeplab.config.space import Axis
from sweeplab.config.study import StudyConfig
from sweeplab.records.asked import SEARCH_FILE, TRIAL_FILE, SearchFacts, read_search_facts, write_search_facts
from sweeplab.records.store import trial_files
from sweeplab.runtime.errors import ConfigError
from sweeplab.search.dashboard import remove_dashboard
from sweeplab.search.warm_start import read_earlier_trials


def list_changed_settings(earlier: SearchFacts, config: StudyConfig) -> list[str]:
    """In words; empty where the study may go on."""
    pairs = {
        "constraints": (earlier.constraints, config.study.constraints),
        "warm_start": (earlier.warm_start, config.study.warm_start),
    }
    return [f"study.{key} was {was} when the study began, now {now}" for key, (was, now) in pairs.items() if was != now]


def has_changed_settings(folder: Path, config: StudyConfig) -> bool:
    """Raises `StoreError` for a damaged file."""
    earlier = read_search_facts(folder)
    return earlier is not None and bool(list_changed_settings(earlier, config))


def keep_settings(folder: Path, config: StudyConfig, varied: list[Axis], has_trials: bool) -> SearchFacts:
    """Those of a study that has trials, else those of `config`, which are written. Raises `ConfigError`."""
    earlier = read_search_facts(folder)
    if earlier is not None and has_trials:
        for change in list_changed_settings(earlier, config):
            raise ConfigError(f"{change}; choose another study.name")
        return earlier
    trials = [] if config.study.warm_start is None else read_earlier_trials(config, varied)
    facts = SearchFacts(config.study.constraints, config.study.warm_start, trials)
    if facts != earlier:
        write_search_facts(folder, facts)
    return facts


def discard_search(folder: Path) -> None:
    """Forgets what was asked, so that a study without any result can begin as another experiment."""
    for path in (folder / SEARCH_FILE, *trial_files(folder, TRIAL_FILE)):
        path.unlink(missing_ok=True)
    remove_dashboard(folder)
