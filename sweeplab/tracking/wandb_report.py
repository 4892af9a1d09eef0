"""The report on Weights & Biases: page, tables of trials, settings and claims, a plot, its folder as an artifact."""

import os
from typing import Any

from sweeplab.records.record import TrialRecord, metric_value
from sweeplab.report import summarize_settings
from sweeplab.report.evidence.costs import choose_memory_metric
from sweeplab.report.evidence.settings import group_by_setting, list_varied_keys
from sweeplab.report.findings.verdicts import Verdict, judge_claims
from sweeplab.tracking.tracker import ReportedStudy

Row = list[Any]


def judge_study_claims(found: ReportedStudy) -> list[Verdict]:
    """One verdict for every claim of the study."""
    return judge_claims(found.facts, group_by_setting(found.facts, found.records), found.items)


def list_trial_rows(found: ReportedStudy) -> tuple[list[str], list[Row]]:
    """(columns, a row per trial): how it ended, what varied, the objectives and the memory. Missing is None."""
    keys = list_varied_keys(found.facts, found.records)
    memory = choose_memory_metric(found.records)
    metrics = list(dict.fromkeys([*found.facts.objectives, *([memory] if memory else [])]))

    def row(record: TrialRecord) -> Row:
        own = [record.number, record.seed, record.status.value, record.reason]
        values = [metric_value(record, name) for name in metrics]
        return [*own, *(record.params.get(key) for key in keys), *values]

    return ["trial", "seed", "status", "reason", *keys, *metrics], [row(record) for record in found.records]


def _list_setting_rows(found: ReportedStudy) -> tuple[list[str], list[Row]]:
    """(columns, a row per setting), worded as the terminal's table."""
    table = summarize_settings(found.facts, found.records)
    titles = [f"{column.title} ({column.unit})" if column.unit else column.title for column in table.columns]
    return titles, [[cell.text for cell in row] for row in table.rows]


def list_claim_rows(found: ReportedStudy) -> tuple[list[str], list[Row]]:
    """(columns, a row per claim): the sentence, the verdict, our effect with its interval, the published figure."""
    columns = ["claim", "source", "verdict", "effect", "ours", "low", "high", "published", "rule", "reason"]
    rows: list[Row] = []
    for one in judge_study_claims(found):
        estimate, claim = one.estimate, one.claim
        ours = [None, None, None] if estimate is None else [estimate.value, estimate.low, estimate.high]
        rows.append([claim.words, claim.source, one.word, one.effect, *ours, claim.published, one.rule, one.reason])
    return columns, rows


def _hide_home(run: Any) -> None:
    """Artifacts of `run` name the files that wait to be sent from here on, not from the root.

    W&B sends these names along, and from the root they would tell whose machine it is. Tables are artifacts too.
    """
    log_artifact = run.log_artifact

    def shortened(artifact: Any, **options: Any) -> Any:
        for entry in artifact.manifest.entries.values():
            entry.local_path = os.path.relpath(entry.local_path)
        return log_artifact(artifact, **options)

    run.log_artifact = shortened


def log_report(wandb: Any, run: Any, found: ReportedStudy) -> None:
    """Everything of the report into `run`."""
    _hide_home(run)
    values = {"report": wandb.Html(str(found.page))}
    for name, rows_of in (("trials", list_trial_rows), ("settings", _list_setting_rows), ("claims", list_claim_rows)):
        columns, rows = rows_of(found)
        if rows:
            values[name] = wandb.Table(columns=columns, data=rows, allow_mixed_types=True)
    memory, objective = choose_memory_metric(found.records), next(iter(found.facts.objectives))
    if memory is not None and memory != objective:
        columns, rows = list_trial_rows(found)
        table = wandb.Table(columns=columns, data=rows, allow_mixed_types=True)
        values["score_and_memory"] = wandb.plot.scatter(table, memory, objective, title=f"{objective} and {memory}")
    run.log(values)
    artifact = wandb.Artifact(f"{found.facts.name}-report", type="report")
    for path in sorted(found.page.parent.iterdir()):
        if path.is_file() and not path.name.startswith("."):
            artifact.add_file(str(path), name=path.name, skip_cache=True)
    run.log_artifact(artifact)
