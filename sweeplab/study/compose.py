"""From command-line overrides to configurations: the study's, and one per trial, all composed by Hydra."""

import pickle
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from hydra import compose
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from sweeplab.checks.studies import check_study
from sweeplab.checks.trials import check_trial
from sweeplab.config import ConfigError, StudyConfig, TrialConfig

PACKAGE: Final = Path(__file__).parents[1]
WHEEL_CONF: Final = PACKAGE / "conf"
CONF: Final = WHEEL_CONF if WHEEL_CONF.is_dir() else PACKAGE.parent / "conf"  # a checkout has it beside the package


class Request(NamedTuple):
    """What the command line asked for."""

    config: StudyConfig
    overrides: list[str]  # as Hydra takes them, for composing trials
    command: str  # what a user types to run it again


def to_study_config(composed: DictConfig, default_name: str) -> StudyConfig:
    """The checked dataclasses of a composed study. Raises `ConfigError`."""
    try:
        config = OmegaConf.to_object(composed)
    except OmegaConfBaseException as error:
        key = error.full_key
        missing = isinstance(error, MissingMandatoryValue)
        raise ConfigError(f"{key} is missing; give {key}=..." if missing else f"{key}: {first_line(error)}") from error
    assert isinstance(config, StudyConfig)
    config.study.name = config.study.name or default_name
    check_study(config)
    return config


def first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0]


def spelled(value: Any) -> str:
    """A value in Hydra's override grammar; text is quoted."""
    if isinstance(value, str):
        return QuotedString(value, Quote.single).with_quotes()  # only a backslash before a quote is doubled
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)


@cache
def is_group(key: str) -> bool:
    return (CONF / key.replace(".", "/")).is_dir()


def override(key: str, value: Any) -> str:
    """One override; a group is chosen by its option's bare name."""
    return f"{key}={value}" if is_group(key) else f"{key}={spelled(value)}"


@lru_cache(maxsize=64)
def composed_with(overrides: tuple[str, ...]) -> bytes:
    """What Hydra makes of overrides, pickled, since it is copied six times as fast that way.

    To compose takes fifty times as long as to set a value in what was composed.
    """
    return pickle.dumps(compose("config", overrides=list(overrides)))


def trial_config(overrides: list[str], params: dict[str, Any]) -> TrialConfig:
    """The experiment with one trial's values on top. Raises `ConfigError` where a value or a combination cannot run.

    An option of a group is chosen before the values inside it, so that space.optimizer and space.optimizer.lr go
    together. Values are set as Hydra itself sets those of overrides, in what it composed of all else.
    """
    own = [override(key, value) for key, value in params.items()]
    kept = tuple(one for one in overrides if one.lstrip("+~").partition("=")[0] not in params)
    groups = tuple(one for one, key in zip(own, params, strict=True) if is_group(key))
    try:
        composed = pickle.loads(composed_with(kept + groups))
        for key, value in params.items():
            if not is_group(key):
                OmegaConf.update(composed, key, value, merge=True)
        config = OmegaConf.to_object(composed)
    except (HydraException, OmegaConfBaseException) as error:
        cause = first_line(error.__cause__ or error)
        raise ConfigError(f"space: a trial with {', '.join(own)} cannot be composed: {cause}; mend space") from error
    assert isinstance(config, StudyConfig)
    check_trial(config)
    return config.trial_config()
