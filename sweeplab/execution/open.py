"""The executor that a study names."""

from importlib.util import find_spec
from pathlib import Path
from typing import Final

from sweeplab.config.study import StudyConfig
from sweeplab.execution.executor import Executor, LocalExecutor
from sweeplab.execution.on_ray import RayExecutor
from sweeplab.execution.on_slurm import SlurmExecutor
from sweeplab.execution.placement import places
from sweeplab.runtime.errors import ConfigError

PACKAGE_OF: Final = {"ray": "ray", "slurm": "submitit"}


def open_executor(config: StudyConfig, folder: Path) -> Executor:
    """Workers that have begun to start; `folder` is the study's. Raises `ConfigError` and `StoreError`."""
    name, pruning = config.executor.name, config.pruner.name != "none"
    package = PACKAGE_OF.get(name)
    if package is not None and find_spec(package) is None:
        raise ConfigError(f"executor={name} needs the package {package}; pip install -e '.[{name}]'")
    if name == "ray":
        return RayExecutor(config, pruning, folder)
    if name == "slurm":
        return SlurmExecutor(config, pruning, folder)
    return LocalExecutor(places(config), pruning, folder)
