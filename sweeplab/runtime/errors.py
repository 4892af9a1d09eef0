"""What an error says, for a sentence of ours."""

from sweeplab.config.actions import CompareConfig as CompareConfig
from sweeplab.config.actions import ExportConfig as ExportConfig
from sweeplab.config.actions import PlanConfig as PlanConfig
from sweeplab.config.actions import WatchConfig as WatchConfig
from sweeplab.config.sampler import PrunerConfig as PrunerConfig
from sweeplab.config.sampler import SamplerConfig as SamplerConfig


def first_line(error: BaseException) -> str:
    """The first line of its message; the kind of error where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def with_kind(error: BaseException) -> str:
    """Such as `ValueError: no number`, of what is said the first line."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


class ConfigError(Exception):
    """A mistake of the user's: one line that names key, value, rule and remedy. Exit code 2, no traceback."""
