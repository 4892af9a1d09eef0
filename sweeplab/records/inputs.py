"""What a study reads: its base, data and tasks, known by the fingerprints that its trials left."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from sweeplab.records.record import TrialRecord
from sweeplab.runtime.errors import StudyRefused

_SECTIONS: Final = {  # of a provenance -> the section of a configuration that names what is read
    "base_fingerprint": "model",
    "settings_fingerprint": "model",  # configuration, tokenizer and chat template in a folder
    "data_fingerprint": "data",
    "tasks_fingerprint": "evaluation",
}
TASK_FILES: Final = (
    "include_path",
    "path",
    "schema_path",
    "score",
)  # keys of an evaluation that name what tasks are read from
_DRAWN: Final = "random:"  # begins the fingerprint of weights that are drawn, other ones on another kind of device


class KnownInputs:
    """Fingerprints by what a configuration says of the base, the data and the tasks' files."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def note(self, record: TrialRecord) -> None:
        """What a trial read stands for the whole study; the first that read it decides."""
        for name, key in _list_keys(record.config):
            fingerprint = record.provenance.get(name)
            if isinstance(fingerprint, str) and not fingerprint.startswith(_DRAWN):
                self._known.setdefault(key, fingerprint)

    def find(self, config: dict[str, Any]) -> dict[str, str]:
        """The fingerprints that a trial with the resolved `config` must find, by their name in a provenance."""
        return {name: self._known[key] for name, key in _list_keys(config) if key in self._known}


def _list_keys(config: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Each fingerprint's name, and what tells the inputs of one configuration from those of another."""
    for name, section in _SECTIONS.items():
        if section in config:
            values = config[section]
            named = _name_task_files(values) if name == "tasks_fingerprint" else values
            yield name, json.dumps([name, named], sort_keys=True, default=str)


def _name_task_files(values: dict[str, Any]) -> Any:
    """What tells files of tasks from others: the folder of their data alone where there is nothing else."""
    own = {name: values[name] for name in TASK_FILES if values.get(name) is not None}
    return {**own, "data_dir": values.get("data_dir")} if own else values.get("data_dir")


def refuse_changed_inputs(config: dict[str, Any], expected: Mapping[str, str], provenance: Mapping[str, Any]) -> None:
    """Raises `StudyRefused` where a trial reads something else than the study's earlier ones under the same name."""
    for name, before in expected.items():
        now = provenance.get(name)
        if now is not None and now != before:
            raise StudyRefused(
                f"{_describe_source(config, name)} has changed since this study began (fingerprint {before}, "
                f"now {now}); put the earlier one back, or begin another study: study.name=NAME"
            )


def _describe_source(config: dict[str, Any], name: str) -> str:
    """The key and value that name what was read."""
    section = _SECTIONS[name]
    values = config[section]
    key = next((one for one in ("data_dir", *TASK_FILES, "name") if values.get(one)), None)
    return section if key is None else f"{section}.{key}={values[key]}"
