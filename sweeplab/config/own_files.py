"""The YAML files of a user's own folder: read for Hydra, with one line for whatever is wrong in them."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NoReturn

import yaml
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import OmegaConf
from omegaconf._utils import get_yaml_loader

from sweeplab.config.conf import CONF, is_group
from sweeplab.config.texts import is_converted, is_text
from sweeplab.runtime.errors import ConfigError, describe_error

_PACKAGE: Final = "# @package _global_"
_MOST_BYTES: Final = 1_000_000
_MOST_VALUES: Final = 20_000  # with what aliases repeat
_MOST_NESTED: Final = 30
_GIVEN: Final = re.compile(r"\s*(override\s+)?(/?)([\w/]+)(@.*)?\s*")


class _File(FileConfigSource):
    """What Hydra reads a folder of YAML with."""

    def load_config(self, config_path: str) -> ConfigResult:
        path = Path(self.path, self._normalize_file_name(config_path))
        if Path(self.path) == CONF or not path.is_file():
            loaded: ConfigResult = super().load_config(config_path)
            return loaded
        text = _read_text(path)
        header = ConfigSource._get_header_dict(text[:512])
        is_experiment = path.parent.name == "experiment"
        if is_experiment and header.get("package") != "_global_":
            raise ConfigError(
                f"{path}, line 1: an experiment's first line must be `{_PACKAGE}`; write it above all else"
            )
        package = "" if header.get("package") == "_global_" else path.parent.name
        values = _read_values(path, text, package)
        if is_experiment:
            _check_defaults(path, text, values.get("defaults"))
        config = OmegaConf.create(values)
        return ConfigResult(config=config, path=f"file://{self.path}", provider=self.provider, header=header)


_File.__name__ = FileConfigSource.__name__  # the registry takes one class by its name


def read_own_files() -> None:
    """Makes Hydra read files in this way."""
    Plugins.instance()  # registers Hydra's own class, which this one replaces
    SourcesRegistry.instance().types["file"] = _File


def _refuse(path: Path, line: int | None, rule: str, remedy: str) -> NoReturn:
    where = f"{path}, line {line}" if line is not None else str(path)
    raise ConfigError(f"{where}: {rule}; {remedy}")


def _read_text(path: Path) -> str:
    """A file in UTF-8, with or without its mark. Raises `ConfigError`."""
    try:
        with path.open("rb") as stream:
            data = stream.read(_MOST_BYTES + 1)
    except OSError as error:
        _refuse(path, None, f"cannot be read: {error.strerror}", "check the path and its permissions")
    if len(data) > _MOST_BYTES:
        _refuse(path, None, f"is larger than {_MOST_BYTES} bytes", "keep only what an experiment says")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        rule = f"the byte 0x{data[error.start]:02x} is not UTF-8"
        _refuse(path, line, rule, f"save it in UTF-8: iconv -f latin1 -t utf-8 {path.name} > new.yaml")


def _read_values(path: Path, text: str, package: str) -> dict[str, Any]:
    """The mapping that a file holds. Raises `ConfigError` naming file and line."""
    try:
        loader = get_yaml_loader()(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return {}
            if not isinstance(node, yaml.MappingNode):
                _refuse(path, node.start_mark.line + 1, "holds no keys", "write KEY: VALUE")
            _check_nodes(path, node)
            for one, key in _walk(node, package):
                if isinstance(one, yaml.ScalarNode) and one.style is None and is_text(key) and _is_changed(one):
                    one.tag = "tag:yaml.org,2002:str"
            values = loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        _explain(path, text, error)
    except yaml.YAMLError as error:
        _refuse(path, None, f"is no YAML ({describe_error(error)})", "remove what cannot be printed")
    except (RecursionError, ValueError, TypeError, OverflowError) as error:
        _refuse(path, None, f"is no YAML ({describe_error(error)})", "mend the value")
    _check_keys(path, values)
    return dict(values)


def _is_changed(node: yaml.ScalarNode) -> bool:
    """True for a text without quotes that YAML takes for a number, a date, or true or false; null stays null."""
    kind = node.tag.rpartition(":")[2]
    return kind in ("int", "float", "bool", "timestamp") or (kind != "null" and is_converted(node.value))


def _check_nodes(path: Path, root: yaml.Node) -> None:
    """Raises `ConfigError` for values within themselves, and for more or deeper ones than an experiment has."""
    waiting: list[tuple[yaml.Node, tuple[int, ...]]] = [(root, ())]
    num_seen = 0
    while waiting:
        node, around = waiting.pop()
        num_seen += 1
        line = node.start_mark.line + 1
        if id(node) in around:
            _refuse(path, line, "an alias stands within what it repeats", "write the values out")
        if len(around) > _MOST_NESTED or num_seen > _MOST_VALUES:
            rule = f"holds more than {_MOST_VALUES} values, or is nested deeper than {_MOST_NESTED} levels"
            _refuse(path, line, rule, "nothing in the configuration is; write less")
        if isinstance(node, yaml.CollectionNode):
            for one in node.value:
                for part in one if isinstance(one, tuple) else (one,):
                    waiting.append((part, (*around, id(node))))


def _walk(node: yaml.Node, key: str) -> Iterator[tuple[yaml.Node, str]]:
    """Every value with its dotted key."""
    yield node, key
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            yield from _walk(value, f"{key}.{getattr(name, 'value', '')}".lstrip("."))
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _walk(value, f"{key}[]")


def _explain(path: Path, text: str, error: yaml.MarkedYAMLError) -> NoReturn:
    """One line for an error of the parser's."""
    mark = error.problem_mark or error.context_mark
    line = None if mark is None else mark.line + 1
    problem = (error.problem or describe_error(error)).strip()
    lines = text.splitlines()
    typed = lines[line - 1] if line is not None and line <= len(lines) else ""
    if "\t" in typed[: len(typed) - len(typed.lstrip())] or "'\\t'" in problem:
        _refuse(path, line, "begins with a tab, which YAML does not allow", "use blanks")
    if problem.startswith("found duplicate key"):
        _refuse(path, line, f"{problem.removeprefix('found duplicate key ')} stands there twice", "keep one of them")
    if line is not None and line >= len(lines) and ("stream end" in problem or "unexpected end" in problem):
        _refuse(path, min(line, len(lines)), "the file ends within a bracket or a quote", "close it, or copy it whole")
    _refuse(path, line, f"is no YAML ({problem})", "write KEY: VALUE, and quote what holds : # { [ or @")


def _check_keys(path: Path, values: Any) -> None:
    """Raises `ConfigError` for keys and values that no configuration can hold."""
    if isinstance(values, dict):
        for key, value in values.items():
            if not isinstance(key, str | int | float | bool):
                _refuse(path, None, f"{key} cannot be a key", "write a name")
            _check_keys(path, value)
    elif isinstance(values, list):
        for value in values:
            _check_keys(path, value)
    elif not isinstance(values, str | int | float | bool | None):
        _refuse(path, None, f"{values} is a {type(values).__name__}", "write a number, a text, a list or a mapping")


def _check_defaults(path: Path, text: str, defaults: Any) -> None:
    """Raises `ConfigError` for an entry that Hydra would refuse with a word that names no remedy."""
    if defaults is None:
        return
    if not isinstance(defaults, list):
        _refuse(
            path, _line_of(text, "defaults"), "defaults must be a list", "write `- override /GROUP: OPTION` below it"
        )
    for entry in defaults:
        is_option = isinstance(entry, dict) and len(entry) == 1 and _names_options(*entry.values())
        if not isinstance(entry, str) and not is_option:
            rule = f"defaults holds {entry}, which is no entry"
            _refuse(path, _line_of(text, "defaults"), rule, "write `- override /GROUP: OPTION`")
        if not isinstance(entry, dict):
            continue
        for typed, option in entry.items():
            given = _GIVEN.fullmatch(str(typed))
            if given is None or not is_group(given[3]) or given[3] == "experiment":
                continue
            if not given[1] or not given[2]:
                right = f"- override /{given[3]}{given[4] or ''}: {option}"
                rule = f"`{typed}: {option}` does not choose another option than conf/config.yaml"
                _refuse(path, _line_of(text, str(typed)), rule, f"write `{right}`")


def _names_options(value: Any) -> bool:
    return isinstance(value, str | None) or (isinstance(value, list) and all(isinstance(one, str) for one in value))


def _line_of(text: str, start: str) -> int | None:
    """The first line that begins with this, behind blanks and a dash."""
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip(" -").startswith(start):
            return number
    return None
