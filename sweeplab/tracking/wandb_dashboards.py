"""Builds W&B's workspace and report of a study without a network, writes them beside the report, and can send them.

Panels use the names that `wandb_runs` logs: curves by step, summary keys with `/` where a metric of a record has a dot,
and the resolved configuration under `config`. It needs the extra `dashboards`, which is imported inside functions.
"""

import warnings
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from sweeplab.records.metrics import METRICS, score_parts
from sweeplab.records.store import read_json, write_json
from sweeplab.report import summarize_answer, summarize_settings
from sweeplab.report.evidence.costs import choose_memory_metric
from sweeplab.report.evidence.formatting import format_number, label_metric, label_score
from sweeplab.report.evidence.settings import list_varied_keys, pick_headline_scores
from sweeplab.report.templating import escape_markdown, format_markdown_table
from sweeplab.tracking.tracker import ReportedStudy
from sweeplab.tracking.wandb_report import judge_study_claims

_WORKSPACE: Final = "workspace.json"
_REPORT: Final = "wandb_report.json"
WIDTH, HEIGHT, COLUMNS = 12, 8, 2  # of a panel on W&B's grid of 24, and panels in a row
_TITLE_LENGTH: Final = 128  # W&B's limit


def _import_packages() -> tuple[ModuleType, ModuleType]:
    """The modules (workspaces, reports) of wandb-workspaces; its warnings about pydantic are ignored."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import wandb_workspaces.reports.v2 as reports
        import wandb_workspaces.workspaces as workspaces
    return workspaces, reports


def _summary_key(metric: str) -> str:
    """The summary key of a record's metric; the name of a task may contain dots."""
    if metric.startswith("scores."):
        return "/".join(("scores", *score_parts(metric)))
    return metric.replace(".", "/")


def _config_key(axis: str) -> str:
    """The key of an axis in a run: the choice of a group is in `params`, another key in the trial's `config`."""
    return f"config.{axis}" if "." in axis else f"params.{axis}"


def _build_answer_panels(reports: Any, study: ReportedStudy) -> list[Any]:
    """The answer in sentences above the settings with their intervals, and a bar for each setting beside it."""
    stated = summarize_answer(study.facts, study.records, study.items, study.bases)
    table = summarize_settings(study.facts, study.records, study.items)
    first = next(iter(study.facts.objectives))
    return [
        reports.MarkdownPanel(markdown="\n\n".join([*map(escape_markdown, stated), format_markdown_table(table)])),
        reports.BarPlot(
            title=f"{label_metric(first)}: mean, least and most of a setting's seeds",
            metrics=[_summary_key(first)],
            groupby_aggfunc="mean",
            groupby_rangefunc="minmax",
        ),
    ]


def _build_learning_panels(reports: Any, study: ReportedStudy) -> list[Any]:
    """Curves by step. Runs are grouped by setting, so each line is a mean over seeds."""
    curves = {"heldout_loss": "Held-out loss", "train_loss": "Training loss"}
    losses = [
        reports.LinePlot(title=title, x="Step", y=[name], title_y="nats/target") for name, title in curves.items()
    ]
    rungs = [rung for record in study.records for rung in record.rung_scores]
    scores = [
        reports.LinePlot(title=label_score(task, metric), x="Step", y=[f"scores/{task}/{metric}"])
        for task, metric in pick_headline_scores(rungs, study.facts.objectives)
    ]
    return losses + scores


def _build_setting_panels(reports: Any, study: ReportedStudy, axes: list[str]) -> list[Any]:
    """Varied values with objectives, and the importance of each key for the first objective."""
    column, config = reports.ParallelCoordinatesPlotColumn, reports.Config
    columns = [
        column(config(_config_key(axis)), display_name=axis, log=study.facts.space.get(axis, {}).get("log") or None)
        for axis in axes
    ]
    columns += [
        column(reports.SummaryMetric(_summary_key(metric)), display_name=label_metric(metric))
        for metric in study.facts.objectives
    ]
    first = next(iter(study.facts.objectives))
    return [
        reports.ParallelCoordinatesPlot(title="Settings and objectives", columns=columns),
        reports.ParameterImportancePlot(with_respect_to=_summary_key(first)),
    ]


def _build_memory_panels(reports: Any, study: ReportedStudy) -> list[Any]:
    """Each objective against the memory that the report uses; none where no memory was measured."""
    memory = choose_memory_metric(study.records)
    if memory is None:
        return []
    return [
        reports.ScatterPlot(
            title=f"{label_metric(metric)} and {METRICS[memory].label}",
            x=reports.SummaryMetric(_summary_key(memory)),
            y=reports.SummaryMetric(_summary_key(metric)),
        )
        for metric in study.facts.objectives
        if metric != memory
    ]


def _write_claims_text(study: ReportedStudy) -> str:
    """The verdict on every claim as Markdown, with our effect and its interval."""
    lines = []
    for one in judge_study_claims(study):
        ours = "–"
        if one.estimate is not None:
            ours = f"{one.effect} {format_number(one.estimate.value)}"
            if one.estimate.low is not None and one.estimate.high is not None:
                ours += f" [{format_number(one.estimate.low)}, {format_number(one.estimate.high)}]"
        lines.append(f"- **{one.word}**: {one.claim.words} ({one.claim.source}): {ours}, {one.rule}")
    return "\n".join(lines) or "The experiment states no claims."


def _build_sections(reports: Any, study: ReportedStudy) -> dict[str, list[Any]]:
    """Panels by the title of their section; their ids are the same in every run."""
    axes = list_varied_keys(study.facts, study.records)
    sections = {
        "The answer": _build_answer_panels(reports, study),
        "Learning curves by setting": _build_learning_panels(reports, study),
        "Settings": _build_setting_panels(reports, study, axes),
        "Score against memory": _build_memory_panels(reports, study),
        "Claims": [reports.MarkdownPanel(markdown=_write_claims_text(study))],
    }
    for title, panels in sections.items():
        for index, panel in enumerate(panels):
            row, column = divmod(index, COLUMNS)
            panel.layout = reports.Layout(x=column * WIDTH, y=row * HEIGHT, w=WIDTH, h=HEIGHT)
            panel._id = f"{title.split()[-1].lower()}{index}"
    return {title: panels for title, panels in sections.items() if panels}


def _filter_trials(study: ReportedStudy) -> str:
    return f"Group == '{study.facts.name}' and JobType == 'trial'"


def _build_workspace(study: ReportedStudy, project: str, entity: str) -> Any:
    """The study's trials, grouped by setting, with one section of panels for each question."""
    workspaces, reports = _import_packages()
    axes = list_varied_keys(study.facts, study.records)
    return workspaces.Workspace(
        entity=entity,
        project=project,
        name=study.facts.name,
        sections=[
            workspaces.Section(name=title, panels=panels, is_open=True)
            for title, panels in _build_sections(reports, study).items()
        ],
        runset_settings=workspaces.RunsetSettings(
            filters=_filter_trials(study), groupby=[workspaces.Config(_config_key(axis)) for axis in axes]
        ),
    )


def _build_report(study: ReportedStudy, project: str, entity: str) -> Any:
    """The study's question above the workspace's panels, the answer first."""
    _, reports = _import_packages()
    axes = list_varied_keys(study.facts, study.records)
    blocks: list[Any] = [reports.P(study.facts.question)] if study.facts.question else []
    for title, panels in _build_sections(reports, study).items():
        # no project: the report's is used, and the server is not asked for it
        runs = reports.Runset(
            name=study.facts.name,
            filters=_filter_trials(study),
            groupby=[f"config.{_config_key(axis)}" for axis in axes],
        )
        runs._id = title.split()[-1].lower()
        blocks += [reports.H2(title), reports.PanelGrid(runsets=[runs], panels=panels)]
    title = f"sweeplab: {study.facts.name}"[:_TITLE_LENGTH]
    return reports.Report(project=project, entity=entity, title=title, blocks=blocks, width="fluid")


def _read_sent(path: Path) -> dict[str, str]:
    """W&B's id and name of what an earlier run sent; empty where nothing was sent."""
    stored = read_json(path) if path.exists() else {"id": "", "name": ""}
    return {key: stored[key] for key in ("id", "name")}


def _write_model(path: Path, model: Any) -> None:
    write_json(path, model.model_dump(mode="json", by_alias=True, exclude_none=True))


def publish(study: ReportedStudy, project: str, entity: str, online: bool) -> None:
    """Writes workspace and report beside the study's report and, if `online`, sends them; earlier ones are replaced.

    Raises `StoreError` for files, and any error of W&B.
    """
    workspace, report = _build_workspace(study, project, entity), _build_report(study, project, entity)
    workspace_path, report_path = study.page.with_name(_WORKSPACE), study.page.with_name(_REPORT)
    sent = _read_sent(workspace_path)
    workspace._internal_id, workspace._internal_name = sent["id"], sent["name"]
    report.id = _read_sent(report_path)["id"]
    for path, document in ((workspace_path, workspace), (report_path, report)):
        _write_model(path, document._to_model())
        if online:
            document.save()
            _write_model(path, document._to_model())
