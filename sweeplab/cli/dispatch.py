"""From the checked command line to its action. Each action imports only what it needs; short ones stand here."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from sweeplab.cli.arguments import check_arguments, choose_study_name, quote_typed_command
from sweeplab.cli.errors import exits_with_one_line
from sweeplab.config.compose import DEFAULT_NAME, Request, to_study_config
from sweeplab.config.conf import CONF
from sweeplab.config.study import StudyConfig, study_folder
from sweeplab.records.store import StoreError

if TYPE_CHECKING:
    from rich.console import Console

_WITHOUT_RESULT: Final = 1


def run_command() -> None:
    """What `sys.argv` asks for: one study, or one for each job of `--multirun`. Raises `ConfigError`."""
    sys.argv[1:] = check_arguments(sys.argv[1:])
    _run_job()


@hydra.main(config_path=str(CONF), config_name="config", version_base="1.3")
def _run_job(composed: DictConfig) -> None:
    """One study: the whole command line, or one job of `--multirun`."""
    with exits_with_one_line():  # in here too, since Hydra would print a line of its own
        composed.study.name = choose_study_name(composed.study.name)
        overrides = list(HydraConfig.get().overrides.task)
        config = to_study_config(composed, DEFAULT_NAME, overrides)
        if not _act(Request(config, overrides, quote_typed_command())):
            sys.exit(_WITHOUT_RESULT)


def _act(request: Request) -> bool:
    """Does what `action` says; false where that came to nothing."""
    from rich.console import Console

    console = Console()
    match request.config.action:
        case "plan":
            from sweeplab.cli.plan import plan_study

            plan_study(request, console)
        case "watch":
            from sweeplab.cli.watch import watch_study

            watch_study(request.config, console)
        case "export":
            from sweeplab.cli.export import export_study

            export_study(request, console)
        case "analyze":
            _analyze_study(request.config, console)
        case "report":
            _report_study(request.config, console)
        case "compare":
            from sweeplab.cli.compare import report_comparison

            report_comparison(request.config, console)
        case "reproduce":
            from sweeplab.cli.reproduce import reproduce_trial

            return reproduce_trial(request, console)
        case "run":
            return _run_study(request, console)
    return True


def _run_study(request: Request, console: "Console") -> bool:
    """Trains the study's trials, or goes on with those that are left; true where at least one has finished.

    Raises `ConfigError`, `StoreError` and `KeyboardInterrupt`.
    """
    from sweeplab.execution.driver import Driver

    try:
        return Driver(request, console).run() > 0
    except KeyboardInterrupt:
        folder = study_folder(request.config)
        line = f"\nInterrupted. Finished trials are kept in {folder}; the same command goes on from there."
        console.print(line, markup=False)
        raise


def _report_study(config: StudyConfig, console: "Console") -> None:
    """Writes the report again from the records and prints its path. Raises `StoreError` where there is no study."""
    from sweeplab.report import rebuild_report

    folder = study_folder(config)
    if not any((folder / name).exists() for name in ("study.json", "records.json")):
        raise StoreError(f"{folder} holds no study; run it first, with the same study.name")
    page = rebuild_report(folder, Path(config.study.reports_dir) / folder.name)
    console.print(f"report {page}", soft_wrap=True, markup=False)


def _analyze_study(config: StudyConfig, console: "Console") -> None:
    """Writes what the study's adapters hold and prints its path. Raises `StoreError` where there is no study."""
    from sweeplab.analysis import analyze
    from sweeplab.cli.export import silence_libraries

    silence_libraries()
    with console.status("reading adapters") as status:
        page = analyze(study_folder(config), Path(config.study.reports_dir), status.update)
    console.print(f"analysis {page}", soft_wrap=True, markup=False)
