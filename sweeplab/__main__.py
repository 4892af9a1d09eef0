"""`python -m sweeplab`: parses the command line and calls the action that it names.

Exit codes: 0 done; 1 no trial finished, or a trial was not reproduced; 2 a mistake of the user's; 130 interrupted.
"""

import os
import sys
from typing import Final

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

import sweeplab
from sweeplab.cli.arguments import check_arguments, choose_study_name, quote_typed_command
from sweeplab.cli.errors import exits_with_one_line
from sweeplab.cli.help import asked_help
from sweeplab.config.compose import DEFAULT_NAME, Request, to_study_config
from sweeplab.config.conf import CONF

_WITHOUT_RESULT: Final = 1
_INTERRUPTED: Final = 130


def _act(request: Request) -> bool:
    """Does what `action` says; false where that came to nothing. Each action imports only what it needs."""
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
            from sweeplab.cli.analyze import analyze_study

            analyze_study(request.config, console)
        case "report":
            from sweeplab.cli.report import report_study

            report_study(request.config, console)
        case "compare":
            from sweeplab.cli.compare import report_comparison

            report_comparison(request.config, console)
        case "reproduce":
            from sweeplab.cli.reproduce import reproduce_trial

            return reproduce_trial(request, console)
        case _:
            from sweeplab.cli.run import run_study

            return run_study(request, console)
    return True


@hydra.main(config_path=str(CONF), config_name="config", version_base="1.3")
def _run_job(composed: DictConfig) -> None:
    """One study: the whole command line, or one job of `--multirun`."""
    with exits_with_one_line():  # in here too, since Hydra would print a line of its own
        composed.study.name = choose_study_name(composed.study.name)
        overrides = list(HydraConfig.get().overrides.task)
        config = to_study_config(composed, DEFAULT_NAME, overrides)
        if not _act(Request(config, overrides, quote_typed_command())):
            sys.exit(_WITHOUT_RESULT)


def main() -> None:
    """The command line."""
    if "--version" in sys.argv[1:]:
        print(f"sweeplab {sweeplab.__version__}")
        return
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra would print mistakes its own way and exit with 1
    try:
        with exits_with_one_line():
            if (text := asked_help(sys.argv[1:])) is not None:
                print(text)
                return
            sys.argv[1:] = check_arguments(sys.argv[1:])
            _run_job()
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


if __name__ == "__main__":
    main()
