"""`python -m sweeplab`: compose, check, act, exit code."""

import errno
import os
import re
import sys
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from sweeplab.cli.mistakes import dashed, explained, refuse_added
from sweeplab.config.compose import CONF, DEFAULT_NAME, is_group, options, to_study_config
from sweeplab.config.study import StudyConfig, register
from sweeplab.records.store import StoreError
from sweeplab.runtime.errors import ConfigError, mask_passwords
from sweeplab.runtime.paths import quote_command

if TYPE_CHECKING:
    from rich.console import Console

    from sweeplab.config.compose import Request

NOTHING_FINISHED: Final = 1
NOT_THE_SAME: Final = 1
MISTAKE: Final = 2
INTERRUPTED: Final = 130
NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
LONG_NUMBER: Final = re.compile(r"(?:\d_?){300}")
MOST_NESTED: Final = 30  # brackets of a value within each other
MAPPINGS: Final = (  # the user chooses their keys
    "space",
    "study.constraints",
    "executor.sbatch",
    "quantization.pattern",
    "evaluation.gen_kwargs",
    "model.modules",
    "model.architecture",
    "adapter.rank_pattern",
    "adapter.alpha_pattern",
    "adapter.lr_pattern",
)
OPEN: Final = tuple(f"{key}{end}" for key in MAPPINGS for end in ".=")
ADDED: Final = tuple(f"++{one}" for one in OPEN)


def refuse(message: str) -> NoReturn:
    """One line, also where a name holds line breaks or what moves a terminal's cursor."""
    shown = "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in mask_passwords(message)
    )
    print(f"sweeplab: {shown}", file=sys.stderr)
    sys.exit(MISTAKE)


def refuse_by_system(error: OSError) -> NoReturn:
    """One line for what the system refuses because of what it was given; raises any other error again."""
    if error.errno in NO_ROOM:
        refuse(f"{error.filename or 'a file'} cannot be written: {error.strerror}; free space or choose another folder")
    if error.errno == errno.ENAMETOOLONG:
        refuse(f"{Path(str(error.filename)).name[:60]}... is longer than a file's name can be; choose a shorter one")
    raise error


def refuse_unreadable(argument: str) -> None:
    """Refuses what cannot be written to a file, and what Hydra 1.3 answers with a traceback."""
    try:
        argument.encode()
    except UnicodeEncodeError:
        refuse(f"{argument[:100]} is no text in UTF-8; write it in UTF-8")
    if sum(map(argument.count, "([{")) > MOST_NESTED and nesting(argument) > MOST_NESTED:
        refuse(f"{argument[:100]}... is nested deeper than {MOST_NESTED} levels; nothing in the configuration is")
    if LONG_NUMBER.search(argument):
        refuse(
            f"{argument[:100]}... holds a number of 300 digits or more, beyond what a float can be; write a smaller one"
        )
    key, _, value = argument.lstrip("+~").partition("=")
    group = key.partition("@")[0]
    if any(mark in value for mark in ("${", "[", "{")) and key and is_group(group):
        refuse(f"{argument[:100]} is no option's name, which is what a group takes; choose {', '.join(options(group))}")


def nesting(text: str) -> int:
    """The most brackets that are open at once, quotes and other kinds of brackets not looked at."""
    steps = ((one in "([{") - (one in ")]}") for one in text)
    return max(accumulate(steps), default=0)


def command() -> str:
    """What a user types to run this again; a password is left out."""
    typed = (one.removeprefix("++") if one.startswith(ADDED) else one for one in sys.argv[1:])
    return quote_command(["python", "-m", "sweeplab", *map(mask_passwords, typed)])


def study_name(asked: str | None) -> str:
    """The name that is asked for, else the experiment's; jobs of `--multirun` that have it in common add their number.

    A name has no comma, so that `study.name=a,b` gives each job its own.
    """
    context = HydraConfig.get()
    name = asked or str(context.runtime.choices.get("experiment") or DEFAULT_NAME)
    own = any(one.startswith("study.name=") and "," in one for one in sys.argv[1:])
    return f"{name}-{context.job.num}" if context.mode is RunMode.MULTIRUN and not own else name


def act(config: StudyConfig) -> None:
    """Does what `action` says. Exits with 1 where that came to nothing, and with 130 where a study was interrupted."""
    from rich.console import Console

    from sweeplab.config.compose import Request

    console = Console()
    request = Request(config, list(HydraConfig.get().overrides.task), command())
    match config.action:
        case "plan":
            from sweeplab.cli.plan import plan_study

            plan_study(request, console)
        case "watch":
            from sweeplab.cli.watch import watch_study

            watch_study(config, console)
        case "export":
            from sweeplab.cli.export import export_study

            export_study(request, console)
        case "analyze":
            analyze_study(config, console)
        case "report":
            rebuild(config, console)
        case "compare":
            compare(config, console)
        case "reproduce":
            from sweeplab.cli.reproduce import reproduce_trial

            if not reproduce_trial(request, console):
                sys.exit(NOT_THE_SAME)
        case _:
            run(request, console)


def rebuild(config: StudyConfig, console: "Console") -> None:
    """Says where the report is."""
    from sweeplab.config.study import study_folder
    from sweeplab.report import rebuild_report

    folder = study_folder(config)
    if not any((folder / name).exists() for name in ("study.json", "records.json")):
        raise StoreError(f"{folder} holds no study; run it first, with the same study.name")
    console.print(
        f"report {rebuild_report(folder, Path(config.study.reports_dir) / folder.name)}", soft_wrap=True, markup=False
    )


def compare(config: StudyConfig, console: "Console") -> None:
    """Says where the studies stand side by side."""
    from sweeplab.cli.compare import compare_studies

    page = compare_studies(
        config.studies, Path(config.study.runs_dir), Path(config.study.reports_dir), config.compare.uncontrolled
    )
    console.print(f"report {page}", soft_wrap=True, markup=False)


def analyze_study(config: StudyConfig, console: "Console") -> None:
    """Says where the analysis is."""
    from sweeplab.analysis import analyze
    from sweeplab.cli.export import silence
    from sweeplab.config.study import study_folder

    silence()
    with console.status("reading adapters") as status:
        page = analyze(study_folder(config), Path(config.study.reports_dir), status.update)
    console.print(f"analysis {page}", soft_wrap=True, markup=False)


def run(request: "Request", console: "Console") -> None:
    """Exits with 1 where no trial finished and with 130 where it was interrupted."""
    from sweeplab.config.study import study_folder
    from sweeplab.execution.driver import Driver

    try:
        num_finished = Driver(request, console).run()
    except KeyboardInterrupt:
        kept = study_folder(request.config)
        told = f"\nInterrupted. Finished trials are kept in {kept}; the same command goes on from there."
        console.print(told, markup=False)
        sys.exit(INTERRUPTED)
    if num_finished == 0:
        sys.exit(NOTHING_FINISHED)


@hydra.main(config_path=str(CONF), config_name="config", version_base="1.3")
def job(composed: DictConfig) -> None:
    """One study: the whole command line, or one job of `--multirun`."""
    try:
        refuse_added(composed)
        composed.study.name = study_name(composed.study.name)
        act(to_study_config(composed, DEFAULT_NAME))
    except (ConfigError, StoreError) as error:
        refuse(str(error))
    except (HydraException, OmegaConfBaseException) as error:  # here, since Hydra would print a line of its own
        refuse(explained(error))
    except OSError as error:
        refuse_by_system(error)


def main() -> None:
    """The command line. Exit codes: 0 done, 1 no trial finished or not the same again, 2 a mistake, 130 interrupted."""
    register()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra would print mistakes its own way and exit with 1
    # Hydra wants a mapping's new keys added, not overridden; space.x=... may be written without the plus signs
    for argument in sys.argv[1:]:
        refuse_unreadable(argument)
    if (said := dashed(sys.argv[1:])) is not None:
        refuse(said)
    sys.argv[1:] = [f"++{one}" if one.startswith(OPEN) else one for one in sys.argv[1:]]
    try:
        job()
    except (HydraException, OmegaConfBaseException) as error:
        refuse(explained(error))
    except OSError as error:
        refuse_by_system(error)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)  # before a study had begun, or while one was planned
    except ValueError as error:
        if not str(error).startswith("Config group override"):
            raise
        refuse(f"{error}; choose an option by its name, such as adapter=lora")


if __name__ == "__main__":
    main()
