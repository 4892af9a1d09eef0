"""Writes a report from records: tables, figures and an answer, as Markdown and as one HTML file."""

from sweeplab.report.study_report import (
    Ending,
    end_study,
    find_answer,
    rebuild_report,
    render_live_file,
    render_live_report,
    summarize_answer,
    summarize_settings,
    write_index,
    write_report,
)

__all__ = [
    "Ending",
    "end_study",
    "find_answer",
    "rebuild_report",
    "render_live_file",
    "render_live_report",
    "summarize_answer",
    "summarize_settings",
    "write_index",
    "write_report",
]
