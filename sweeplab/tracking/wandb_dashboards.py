"""W&B's workspace and report of a study as code: built without a network, kept beside the report, sent where asked.

The panels name what the mirror logs: curves by step, summary keys with `/` where a record's metric has a dot, and the
resolved configuration under `config`. Needs the extra `dashboards`; it imports W&B, so the imports are inside.
"""

import warnings
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from sweeplab.records.metrics import METRICS
from sweeplab.records.store import read_json, write_json
from sweeplab.report import summarize_answer
from sweeplab.report.evidence.costs import choose_memory_metric
from sweeplab.report.evidence.formatting import format_number, label_metric, label_score
from sweeplab.report.evidence.settings import list_varied_keys, pick_headline_scores
from sweeplab.tracking.tracker import ReportedStudy
from sweeplab.tracking.wandb_report import judge_study_claims

WORKSPACE: Final = "workspace.json"
REPORT: Final = "wandb_report.json"
WIDTH, HEIGHT, COLUMNS = 12, 8, 2  # of a panel on W&B's grid of 24, and panels in a row
TITLE_LENGTH: Final = 128  # W&B's limit


def import_packages() -> tuple[ModuleType, ModuleType]:
    """(workspaces, reports) of wandb-workspaces, which is written for an older pydantic and says so."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import wandb_workspaces.reports.v2 as reports
        import wandb_workspaces.workspaces as workspaces
    return workspaces, reports


def _summary_key(metric: str) -> str:
    """What the mirror calls a record's metric."""
    return metric.replace(".", "/")


def _config_key(axis: str) -> str:
    """Where a run's configuration has the axis: a group's choice is among the parameters, a key in the trial's own."""
    return f"config.{axis}" if "." in axis else f"params.{axis}"


def _build_learning_panels(reports: Any, found: ReportedStudy) -> list[Any]:
    """Curves by step; runs are grouped by setting, so that a line is a mean over seeds."""
    curves = {"heldout_loss": "Held-out loss", "train_loss": "Training loss"}
    losses = [
        reports.LinePlot(title=title, x="Step", y=[name], title_y="nats/target") for name, title in curves.items()
    ]
    rungs = [rung for record in found.records for rung in record.rung_scores]
    scores = [
        reports.LinePlot(title=label_score(task, metric), x="Step", y=[f"scores/{task}/{metric}"])
        for task, metric in pick_headline_scores(rungs, found.facts.objectives)
    ]
    return losses + scores


def _build_setting_panels(reports: Any, found: ReportedStudy, axes: list[str]) -> list[Any]:
    """What varied beside what came out, and how much each key says about the first objective."""
    column, config = reports.ParallelCoordinatesPlotColumn, reports.Config
    columns = [
        column(config(_config_key(axis)), display_name=axis, log=found.facts.space.get(axis, {}).get("log") or None)
        for axis in axes
    ]
    columns += [
        column(reports.SummaryMetric(_summary_key(metric)), display_name=label_metric(metric))
        for metric in found.facts.objectives
    ]
    first = next(iter(found.facts.objectives))
    return [
        reports.ParallelCoordinatesPlot(title="Settings and objectives", columns=columns),
        reports.ParameterImportancePlot(with_respect_to=_summary_key(first)),
    ]


def _build_memory_panels(reports: Any, found: ReportedStudy) -> list[Any]:
    """Each objective against the memory that the report goes by; none where none was measured."""
    memory = choose_memory_metric(found.records)
    if memory is None:
        return []
    return [
        reports.ScatterPlot(
            title=f"{label_metric(metric)} and {METRICS[memory].label}",
            x=reports.SummaryMetric(_summary_key(memory)),
            y=reports.SummaryMetric(_summary_key(metric)),
        )
        for metric in found.facts.objectives
        if metric != memory
    ]


def write_claims_text(found: ReportedStudy) -> str:
    """The verdict on every claim as Markdown, with our effect and its interval."""
    lines = []
    for one in judge_study_claims(found):
        ours = "–"
        if one.estimate is not None:
            ours = f"{one.effect} {format_number(one.estimate.value)}"
            if one.estimate.low is not None and one.estimate.high is not None:
                ours += f" [{format_number(one.estimate.low)}, {format_number(one.estimate.high)}]"
        lines.append(f"- **{one.word}**: {one.claim.words} ({one.claim.source}): {ours}, {one.rule}")
    return "\n".join(lines) or "The experiment states no claims."


def build_sections(reports: Any, found: ReportedStudy) -> dict[str, list[Any]]:
    """Panels by the title of their section, each with an id that stays from run to run."""
    axes = list_varied_keys(found.facts, found.records)
    made = {
        "Learning curves by setting": _build_learning_panels(reports, found),
        "Settings": _build_setting_panels(reports, found, axes),
        "Score against memory": _build_memory_panels(reports, found),
        "Claims": [reports.MarkdownPanel(markdown=write_claims_text(found))],
    }
    for title, panels in made.items():
        for place, panel in enumerate(panels):
            row, column = divmod(place, COLUMNS)
            panel.layout = reports.Layout(x=column * WIDTH, y=row * HEIGHT, w=WIDTH, h=HEIGHT)
            panel._id = f"{title.split()[0].lower()}{place}"
    return {title: panels for title, panels in made.items() if panels}


def _filter_trials(found: ReportedStudy) -> str:
    return f"Group == '{found.facts.name}' and JobType == 'trial'"


def _build_workspace(found: ReportedStudy, project: str, entity: str) -> Any:
    """The study's trials, grouped by setting, with one section of panels for each question."""
    workspaces, reports = import_packages()
    axes = list_varied_keys(found.facts, found.records)
    return workspaces.Workspace(
        entity=entity,
        project=project,
        name=found.facts.name,
        sections=[
            workspaces.Section(name=title, panels=panels, is_open=True)
            for title, panels in build_sections(reports, found).items()
        ],
        runset_settings=workspaces.RunsetSettings(
            filters=_filter_trials(found), groupby=[workspaces.Config(_config_key(axis)) for axis in axes]
        ),
    )


def _build_report(found: ReportedStudy, project: str, entity: str) -> Any:
    """The report's sentences above the workspace's panels."""
    _, reports = import_packages()
    axes = list_varied_keys(found.facts, found.records)
    sentences = summarize_answer(found.facts, found.records, found.items)
    opening = [found.facts.question, *sentences] if found.facts.question else sentences
    blocks: list[Any] = [reports.P(sentence) for sentence in opening]
    for title, panels in build_sections(reports, found).items():
        # without a project of its own, which would be looked up on the server: the report's
        runs = reports.Runset(
            name=found.facts.name,
            filters=_filter_trials(found),
            groupby=[f"config.{_config_key(axis)}" for axis in axes],
        )
        runs._id = title.split()[0].lower()
        blocks += [reports.H2(title), reports.PanelGrid(runsets=[runs], panels=panels)]
    title = f"sweeplab: {found.facts.name}"[:TITLE_LENGTH]
    return reports.Report(project=project, entity=entity, title=title, blocks=blocks, width="fluid")


def _read_sent(path: Path) -> dict[str, str]:
    """W&B's id and name of what an earlier run sent; empty where nothing was."""
    stored = read_json(path) if path.exists() else {"id": "", "name": ""}
    return {key: stored[key] for key in ("id", "name")}


def _write_model(path: Path, model: Any) -> None:
    write_json(path, model.model_dump(mode="json", by_alias=True, exclude_none=True))


def publish(found: ReportedStudy, project: str, entity: str, online: bool) -> None:
    """Writes both beside the report and, if `online`, sends them: what was sent before is replaced.

    Raises `StoreError` for files, and what W&B raises.
    """
    workspace, report = _build_workspace(found, project, entity), _build_report(found, project, entity)
    workspace_path, report_path = found.page.with_name(WORKSPACE), found.page.with_name(REPORT)
    sent = _read_sent(workspace_path)
    workspace._internal_id, workspace._internal_name = sent["id"], sent["name"]
    report.id = _read_sent(report_path)["id"]
    for path, made in ((workspace_path, workspace), (report_path, report)):
        _write_model(path, made._to_model())
        if online:
            made.save()
            _write_model(path, made._to_model())
