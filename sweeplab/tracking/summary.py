"""What a finished study prints: its settings, the answer, and where everything is."""

from pathlib import Path

from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from sweeplab.records.items import Items
from sweeplab.records.record import StudyFacts, TrialRecord
from sweeplab.report import summarize_answer, summarize_settings


def show_summary(
    facts: StudyFacts, records: list[TrialRecord], items: Items | None, folder: Path, report: Path, console: Console
) -> None:
    """Prints the settings table, the answer in sentences, and the paths of records and report."""
    table = summarize_settings(facts, records)
    grid = Grid(title=facts.name, title_justify="left")
    for column in table.columns:
        unit = f"\n{column.unit}" if column.unit else ""
        grid.add_column(Text(column.title + unit), justify="right" if column.numeric else "left", overflow="fold")
    for place, row in enumerate(table.rows):
        grid.add_row(*(Text(cell.text) for cell in row), style="bold" if place == table.marked else "")
    console.print(grid)
    for sentence in summarize_answer(facts, records, items):
        console.print(Text(sentence), soft_wrap=True)
    console.print(Text(f"records  {folder / 'trials'}\nreport   {report}"), soft_wrap=True)
