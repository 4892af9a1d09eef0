"""Records to a report: tables, figures and one honest answer, as Markdown and as one HTML file."""

from sweeplab.report.study_report import rebuild_report, summarize_answer, summarize_settings, write_report

__all__ = ["rebuild_report", "summarize_answer", "summarize_settings", "write_report"]
