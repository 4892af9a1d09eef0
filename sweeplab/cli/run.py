"""`action=run`: trains the study's trials, or goes on with those that are left."""

from rich.console import Console

from sweeplab.config.compose import Request
from sweeplab.config.study import study_folder
from sweeplab.execution.driver import Driver


def run_study(request: Request, console: Console) -> bool:
    """True where at least one trial has finished. Raises `ConfigError`, `StoreError` and `KeyboardInterrupt`."""
    try:
        return Driver(request, console).run() > 0
    except KeyboardInterrupt:
        folder = study_folder(request.config)
        line = f"\nInterrupted. Finished trials are kept in {folder}; the same command goes on from there."
        console.print(line, markup=False)
        raise
