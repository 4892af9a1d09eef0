"""`action=analyze`: what a study's adapters hold."""

from pathlib import Path

from rich.console import Console

from sweeplab.analysis import analyze
from sweeplab.cli.export import silence_libraries
from sweeplab.config.study import StudyConfig, study_folder


def analyze_study(config: StudyConfig, console: Console) -> None:
    """Writes the analysis and prints its path. Raises `StoreError` where there is no study."""
    silence_libraries()
    with console.status("reading adapters") as status:
        page = analyze(study_folder(config), Path(config.study.reports_dir), status.update)
    console.print(f"analysis {page}", soft_wrap=True, markup=False)
