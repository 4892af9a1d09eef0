"""From the checked command line to its action. Each action imports only what it needs; short ones stand here."""

import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from sweeplab.cli.arguments import check_arguments, choose_study_name, quote_typed_command
from sweeplab.cli.errors import exits_with_one_line
from sweeplab.cli.exit_codes import MISTAKE, WITHOUT_RESULT
from sweeplab.cli.terminal import Ended
from sweeplab.config.compose import DEFAULT_NAME, Request, to_study_config
from sweeplab.config.conf import CONF
from sweeplab.config.own_files import read_own_files
from sweeplab.config.study import StudyConfig, study_folder
from sweeplab.records.store import StoreError
from sweeplab.runtime.paths import quote_command

if TYPE_CHECKING:
    from rich.console import Console

_OUTCOMES: Final = {WITHOUT_RESULT: "came to nothing", MISTAKE: "was refused"}  # by exit code


class _FailedJob(NamedTuple):
    """A job of `--multirun` that came to nothing."""

    number: int
    overrides: str
    code: int


def run_command() -> None:
    """What `sys.argv` asks for: one study, or one for each job of `--multirun`. Raises `ConfigError`.

    A job of several that comes to nothing leaves the others their turn; the worst exit code is that of all.
    """
    sys.argv[1:] = check_arguments(sys.argv[1:])
    read_own_files()
    failed: list[_FailedJob] = []

    @hydra.main(config_path=str(CONF), config_name="config", version_base="1.3")
    def run_job(composed: DictConfig) -> None:
        _run_job(composed, failed)

    run_job()
    if failed:
        for job in failed:
            print(f"sweeplab: job {job.number} ({job.overrides}) {_OUTCOMES[job.code]}", file=sys.stderr)
        sys.exit(max(job.code for job in failed))


def _run_job(composed: DictConfig, failed: list[_FailedJob]) -> None:
    """The whole command line, or one job of `--multirun`, which joins `failed` instead of ending the program."""
    context = HydraConfig.get()
    if context.mode is not RunMode.MULTIRUN:
        _run_one(composed)
        return
    code: object = 0
    try:
        _run_one(composed)
    except SystemExit as end:
        code = end.code
    except Exception:  # the others are not to blame for it
        traceback.print_exc()
        code = WITHOUT_RESULT
    if isinstance(code, int) and code:
        shown = quote_command([one.removeprefix("++") for one in context.overrides.task])
        failed.append(_FailedJob(context.job.num, shown, code))


def _run_one(composed: DictConfig) -> None:
    """One study."""
    with exits_with_one_line():  # in here too, since Hydra would print a line of its own
        composed.study.name = choose_study_name(composed.study.name)
        overrides = list(HydraConfig.get().overrides.task)
        config = to_study_config(composed, DEFAULT_NAME, overrides)
        if not _act(Request(config, overrides, quote_typed_command())):
            sys.exit(WITHOUT_RESULT)


def _act(request: Request) -> bool:
    """Does what `action` says; false where that came to nothing."""
    from rich.console import Console

    is_json = request.config.output == "json"
    console = Console(stderr=is_json)  # stdout is the document's
    match request.config.action:
        case "plan":
            os.environ.setdefault("TQDM_DISABLE", "1")  # lm-eval's bars, as in a worker; tqdm reads it once
            from sweeplab.cli.plan import plan_study

            plan_study(request, console)
        case "watch" if is_json:
            from sweeplab.cli.watch_events import print_events

            print_events(request.config)
        case "watch":
            from sweeplab.cli.watch import watch_study

            watch_study(request.config, console)
        case "stop" | "extend":
            from sweeplab.cli.steer import steer_study

            steer_study(request.config, console)
        case "list" if is_json:
            from sweeplab.cli.watch_events import print_studies

            print_studies(request.config)
        case "list":
            from sweeplab.cli.list_studies import list_studies

            list_studies(request.config, console)
        case "export":
            from sweeplab.cli.export import export_study

            export_study(request, console)
        case "answers":
            from sweeplab.cli.answers import show_answers

            show_answers(request.config, console)
        case "analyze":
            _analyze_study(request.config, console)
        case "report":
            _end_with_answer(_report_study(request.config, console), is_json)
        case "compare":
            from sweeplab.cli.compare import report_comparison

            _end_with_answer(report_comparison(request.config, console), is_json)
        case "reproduce":
            from sweeplab.cli.reproduce import reproduce_trial

            return reproduce_trial(request, console)
        case "run" | "recommend":
            has_finished = _run_study(request, console)
            study = request.config.study
            _end_with_answer(Path(study.reports_dir) / str(study.name), is_json)
            return has_finished
    return True


def _end_with_answer(folder: Path, is_json: bool) -> None:
    """Prints the `answer.json` of a report's folder where programs read what this one prints."""
    if is_json:
        print((folder / "answer.json").read_text(encoding="utf-8"), end="")


def _run_study(request: Request, console: "Console") -> bool:
    """Trains the study's trials, or goes on with those that are left; true where at least one has finished.

    Raises `ConfigError`, `StoreError` and `KeyboardInterrupt`.
    """
    try:
        if request.config.action == "recommend":
            from sweeplab.cli.recommend import recommend_setting

            return recommend_setting(request, console)
        from sweeplab.execution.driver import Driver

        return Driver(request, console).run() > 0
    except KeyboardInterrupt as end:
        folder = study_folder(request.config)
        word = end.word.capitalize() if isinstance(end, Ended) else "Interrupted"
        line = f"\n{word}. Finished trials are kept in {folder}; the same command goes on from there."
        console.print(line, markup=False)
        raise


def _report_study(config: StudyConfig, console: "Console") -> Path:
    """Writes the report again from the records and prints its path; gives its folder.

    Raises `StoreError` where there is no study.
    """
    from sweeplab.report import rebuild_report, write_index

    folder = study_folder(config)
    if not any((folder / name).exists() for name in ("study.json", "records.json")):
        raise StoreError(
            f"{folder} holds no study; run it first, with the same study.name, or go to the folder where it was run"
        )
    page = rebuild_report(folder, Path(config.study.reports_dir) / folder.name)
    write_index(page.parent.parent)
    console.print(f"report {page}", soft_wrap=True, markup=False)
    return page.parent


def _analyze_study(config: StudyConfig, console: "Console") -> None:
    """Writes what the study's adapters hold and prints its path. Raises `StoreError` where there is no study."""
    from sweeplab.analysis import analyze
    from sweeplab.cli.export import silence_libraries

    silence_libraries()
    with console.status("reading adapters") as status:
        page = analyze(study_folder(config), Path(config.study.reports_dir), status.update)
    console.print(f"analysis {page}", soft_wrap=True, markup=False)
