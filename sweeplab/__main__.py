"""`python -m sweeplab`: compose, check, act, exit code."""

import os
import shlex
import sys
from typing import Final

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from sweeplab.config import ConfigError, StudyConfig, register
from sweeplab.store import StoreError
from sweeplab.study.compose import CONF, first_line, to_study_config

MISTAKE: Final = 2
INTERRUPTED: Final = 130
NO_EXPERIMENT: Final = "single"


def explained(error: HydraException | OmegaConfBaseException) -> str:
    """Hydra's message in one line, with the cause that says which value was wrong, and the nearest name that exists."""
    from difflib import get_close_matches

    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if lines and "Could not find" in lines[0]:
        asked = lines[0].split("'")[-2]
        folder, _, name = asked.rpartition("/")
        there = sorted(path.stem for path in (CONF / folder).glob("*.yaml") if not path.name.startswith("_"))
        near = get_close_matches(name, there, 1, 0.4)
        nearest = f"; did you mean {near[0]}?" if near else ""
        return f"{folder}={name} does not exist; there are: {', '.join(there)}{nearest}"
    if lines and lines[0].startswith("Could not override"):
        key = lines[0].split("'")[1]
        return f"{key} is no key of the configuration; `python -m sweeplab --cfg job` lists them all"
    cause = f": {first_line(error.__cause__)}" if error.__cause__ is not None else ""
    return f"{lines[0] if lines else type(error).__name__}{cause}"


def act(config: StudyConfig, overrides: list[str]) -> None:
    """Runs or plans one study."""
    from sweeplab.study.driver import Driver, Request, study_folder

    console = Console()
    request = Request(config, overrides, shlex.join(["python", "-m", "sweeplab", *sys.argv[1:]]))
    if config.action == "plan":
        from sweeplab.study.plan import plan_study

        plan_study(request, console)
        return
    try:
        Driver(request, console).run()
    except KeyboardInterrupt:
        console.print(
            f"\nInterrupted. Finished trials are kept in {study_folder(config)}; the same command goes on from there."
        )
        sys.exit(INTERRUPTED)


@hydra.main(config_path=str(CONF), config_name="config", version_base="1.3")
def job(composed: DictConfig) -> None:
    """One study: the whole command line, or one job of `--multirun`."""
    overrides = list(HydraConfig.get().overrides.task)
    name = str(HydraConfig.get().runtime.choices.get("experiment") or NO_EXPERIMENT)
    if HydraConfig.get().job.override_dirname and HydraConfig.get().mode is hydra.types.RunMode.MULTIRUN:
        name = f"{name}-{HydraConfig.get().job.num}"
    act(to_study_config(composed, name), overrides)


def main() -> None:
    """The command line. Exit codes: 0 done, 2 a mistake of the user's, 130 interrupted."""
    register()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra would print mistakes its own way and exit with 1
    # conf holds no axis, so Hydra wants its keys added, not overridden: space.x=... may be written without a plus
    sys.argv[1:] = [f"++{one}" if one.startswith("space.") else one for one in sys.argv[1:]]
    try:
        job()
    except (HydraException, OmegaConfBaseException) as error:
        message = explained(error)
    except (ConfigError, StoreError) as error:
        message = str(error)
    else:
        return
    print(f"sweeplab: {message}", file=sys.stderr)
    sys.exit(MISTAKE)


if __name__ == "__main__":
    main()
