"""Hydra puts the same options together once a test process: it takes a sixth of a second, and thousands of tests do it.

What follows from the files of `conf/` and the chosen options is kept; what else an override says is set in a copy of it
by Hydra itself, as always. Folders other than `conf/` are read anew each time.
"""

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

import pytest
from hydra._internal import config_loader_impl as loader
from hydra._internal import defaults_list
from hydra._internal.config_repository import ConfigRepository, IConfigRepository
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.defaults_list import DefaultsList, Overrides, create_defaults_list
from hydra.core.default_element import InputDefault, ResultDefault
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from sweeplab.config.conf import CONF

_SOURCES: Final = ["pkg://hydra.conf", f"file://{CONF}", "structured://"]
_lists: Final[dict[Any, DefaultsList]] = {}
_files: Final[dict[str, bytes]] = {}
_file_results: Final[dict[str, bytes]] = {}
_composed: Final[dict[int, bytes]] = {}  # by the identity of a list's defaults
_compose: Final[Any] = loader.ConfigLoaderImpl._compose_config_from_defaults_list
_map: Final[Any] = defaults_list._create_interpolation_map
_load: Final[Any] = ConfigRepository.load_config
_load_file: Final[Any] = FileConfigSource.load_config


def _is_of_conf(repo: IConfigRepository) -> bool:
    return [f"{one.scheme()}://{one.path}" for one in repo.get_sources()] == _SOURCES


def _load_once(self: ConfigRepository, config_path: str) -> Any:
    if not _is_of_conf(self):
        return _load(self, config_path)
    if config_path not in _files:
        _files[config_path] = pickle.dumps(_load(self, config_path))
    return pickle.loads(_files[config_path])


def _load_file_once(self: FileConfigSource, config_path: str) -> Any:
    """A file of `conf/` beside a user's own folder, which is read anew."""
    if self.path != str(CONF):
        return _load_file(self, config_path)
    if config_path not in _file_results:
        _file_results[config_path] = pickle.dumps(_load_file(self, config_path))
    return pickle.loads(_file_results[config_path])


def _list_once(
    repo: IConfigRepository,
    config_name: str | None,
    overrides_list: list[Override],
    prepend_hydra: bool,
    skip_missing: bool,
) -> DefaultsList:
    """`create_defaults_list`, which depends on those overrides only that choose options."""
    if not _is_of_conf(repo):
        return create_defaults_list(repo, config_name, overrides_list, prepend_hydra, skip_missing)
    values = Overrides(repo, overrides_list).config_overrides
    options = [one for one in overrides_list if not any(one is other for other in values)]
    key = (config_name, tuple(one.input_line for one in options), prepend_hydra, skip_missing)
    if key not in _lists:
        _lists[key] = create_defaults_list(repo, config_name, options, prepend_hydra, skip_missing)
    return replace(_lists[key], config_overrides=values)


def _map_if_needed(overrides: Overrides, defaults: list[InputDefault], self_added: bool) -> DictConfig:
    """What the names of options are resolved with; made for every file, also where none refers to another."""
    if any(one.is_interpolation() for one in defaults):
        made: DictConfig = _map(overrides, defaults, self_added)
        return made
    return OmegaConf.create()


def _compose_once(self: Any, defaults: list[ResultDefault], repo: IConfigRepository) -> DictConfig:
    if not any(defaults is one.defaults for one in _lists.values()):
        made: DictConfig = _compose(self, defaults, repo)
        return made
    if id(defaults) not in _composed:
        _composed[id(defaults)] = pickle.dumps(_compose(self, defaults, repo))
    copied: DictConfig = pickle.loads(_composed[id(defaults)])
    return copied


@contextmanager
def composed_anew() -> Iterator[None]:
    """Within it Hydra does what it does elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ConfigRepository, "load_config", _load)
        patch.setattr(FileConfigSource, "load_config", _load_file)
        patch.setattr(loader, "create_defaults_list", create_defaults_list)
        patch.setattr(defaults_list, "_create_interpolation_map", _map)
        patch.setattr(loader.ConfigLoaderImpl, "_compose_config_from_defaults_list", _compose)
        yield


@pytest.fixture(scope="session", autouse=True)
def _composed_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ConfigRepository, "load_config", _load_once)
        patch.setattr(FileConfigSource, "load_config", _load_file_once)
        patch.setattr(loader, "create_defaults_list", _list_once)
        patch.setattr(defaults_list, "_create_interpolation_map", _map_if_needed)
        patch.setattr(loader.ConfigLoaderImpl, "_compose_config_from_defaults_list", _compose_once)
        yield
