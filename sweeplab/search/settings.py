"""`search.json`: the settings that must not change after a study began, and the trials of its warm start."""

from pathlib import Path

from sweeplab.config.space import Axis, flatten_keys
from sweeplab.config.study import StudyConfig
from sweeplab.records.asked import SEARCH_FILE, TRIAL_FILE, SearchFacts, read_search_facts, write_search_facts
from sweeplab.records.store import trial_files
from sweeplab.runtime.errors import ConfigError, write_value
from sweeplab.search.dashboard import remove_dashboard
from sweeplab.search.warm_start import read_earlier_trials


def _list_changed_settings(earlier: SearchFacts, config: StudyConfig) -> list[str]:
    """A sentence for each setting that has changed; empty where the study may go on."""
    study = config.study
    before, now = (
        dict(flatten_keys({"constraints": constraints})) | {"warm_start": warm_start}
        for constraints, warm_start in (
            (earlier.constraints, earlier.warm_start),
            (study.constraints, study.warm_start),
        )
    )
    return [
        f"study.{key} was {write_value(before.get(key))} when the study began, now {write_value(now.get(key))}"
        for key in {**before, **now}
        if before.get(key) != now.get(key)
    ]


def has_changed_settings(folder: Path, config: StudyConfig) -> bool:
    """True where a setting of `search.json` has changed. Raises `StoreError` for a damaged file."""
    earlier = read_search_facts(folder)
    return earlier is not None and bool(_list_changed_settings(earlier, config))


def read_or_write_settings(folder: Path, config: StudyConfig, varied: list[Axis], has_trials: bool) -> SearchFacts:
    """The settings of a study that has trials; otherwise those of `config`, which are written to `search.json`.

    Raises `ConfigError` where a study with trials was started with other settings.
    """
    earlier = read_search_facts(folder)
    if earlier is not None and has_trials:
        for change in _list_changed_settings(earlier, config):
            raise ConfigError(f"{change}; choose another study.name")
        return earlier
    trials = [] if config.study.warm_start is None else read_earlier_trials(config, varied)
    facts = SearchFacts(config.study.constraints, config.study.warm_start, trials)
    if facts != earlier:
        write_search_facts(folder, facts)
    return facts


def discard_search(folder: Path) -> None:
    """Removes the files of the search, so that a study without any result can begin again as another experiment."""
    for path in (folder / SEARCH_FILE, *trial_files(folder, TRIAL_FILE)):
        path.unlink(missing_ok=True)
    remove_dashboard(folder)
