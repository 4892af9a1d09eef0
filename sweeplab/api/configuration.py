"""Configurations from the strings of the command line."""

from collections.abc import Callable
from typing import TypeVar

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from sweeplab.cli.arguments import check_arguments
from sweeplab.cli.errors import check_added_keys, explain_hydra_error
from sweeplab.config.compose import CONF, DEFAULT_NAME, to_study_config, trial_config
from sweeplab.config.study import StudyConfig, register
from sweeplab.config.trial import TrialConfig
from sweeplab.runtime.errors import ConfigError

_Config = TypeVar("_Config")


def compose_study(*overrides: str) -> StudyConfig:
    """The configuration of `python -m sweeplab` with these overrides. Raises `ConfigError` in one line.

    >>> study = compose_study("+experiment=rank_sweep", "study.seeds=[0,1]")
    >>> study.space["adapter"]["rank"]
    {'choices': [1, 2, 4, 8, 16, 32, 64]}
    >>> study.study.seeds
    [0, 1]
    >>> compose_study("adapter.rnak=8")
    Traceback (most recent call last):
        ...
    sweeplab.runtime.errors.ConfigError: adapter.rnak is no key ...; did you mean adapter.rank?
    """

    return _compose(overrides, lambda composed, _: to_study_config(composed, DEFAULT_NAME))


def compose_trial(*overrides: str) -> TrialConfig:
    """The configuration of one trial, without a study around it. Raises `ConfigError` in one line.

    >>> config = compose_trial("model=tiny", "adapter.rank=4", "quantization=none")
    >>> config.adapter.rank
    4
    """
    return _compose(overrides, lambda _, checked: trial_config(checked, {}))


def _compose(overrides: tuple[str, ...], make: Callable[[DictConfig, list[str]], _Config]) -> _Config:
    register()
    checked = check_arguments(overrides)
    if GlobalHydra.instance().is_initialized():  # within a program that composes with Hydra itself
        raise ConfigError("Hydra is at work already; leave its `initialize` before you compose with sweeplab")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        try:
            composed = compose("config", overrides=checked)
            check_added_keys(composed)
            return make(composed, checked)
        except (HydraException, OmegaConfBaseException) as error:
            raise ConfigError(explain_hydra_error(error)) from error
