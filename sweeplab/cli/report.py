"""`action=report`: writes a study's report again from its records."""

from pathlib import Path

from rich.console import Console

from sweeplab.config.study import StudyConfig, study_folder
from sweeplab.records.store import StoreError
from sweeplab.report import rebuild_report


def report_study(config: StudyConfig, console: Console) -> None:
    """Writes the report and prints its path. Raises `StoreError` where there is no study."""
    folder = study_folder(config)
    if not any((folder / name).exists() for name in ("study.json", "records.json")):
        raise StoreError(f"{folder} holds no study; run it first, with the same study.name")
    page = rebuild_report(folder, Path(config.study.reports_dir) / folder.name)
    console.print(f"report {page}", soft_wrap=True, markup=False)
