"""`action=list`: the studies of a folder, how far each is, and what it says so far."""

import textwrap
from pathlib import Path

from rich.console import Console
from rich.text import Text

from sweeplab.cli.watch import Watcher, describe_state
from sweeplab.config.study import StudyConfig
from sweeplab.records.store import StoreError
from sweeplab.report.evidence.formatting import DASH
from sweeplab.report.findings.standing import describe_standing


def list_studies(config: StudyConfig, console: Console) -> None:
    """Prints every study in `study.runs_dir`; a damaged one with what is wrong with it."""
    runs, reports = Path(config.study.runs_dir), Path(config.study.reports_dir)
    folders = sorted(path.parent for path in runs.glob("*/study.json"))
    if not folders:
        console.print(Text(f"{runs} holds no study; run one, or give study.runs_dir=DIR"), soft_wrap=True)
    for folder in folders:
        try:
            lines = _describe_study(folder)
        except StoreError as error:
            lines = [str(error)]
        page = reports / folder.name / "report.html"
        console.print(Text(folder.name, style="bold"))
        for line in [*lines, *([f"report {page}"] if page.exists() else [])]:
            wrapped = textwrap.wrap(
                line,
                console.width,
                initial_indent="  ",
                subsequent_indent="    ",
                break_long_words=False,
                break_on_hyphens=False,
            )
            console.print(Text("\n".join(wrapped)), soft_wrap=True)


def _describe_study(folder: Path) -> list[str]:
    """How far it is, and where it stands. Raises `StoreError`."""
    seen = Watcher(folder).look()
    if seen is None:
        return []
    planned = DASH if seen.facts.num_planned is None else seen.facts.num_planned
    counted = f"{len(seen.endings)}/{planned} trials, {describe_state(seen)}"
    return [counted, *describe_standing(seen.facts, [ending.record for ending in seen.endings])]
