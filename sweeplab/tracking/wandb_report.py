"""The report on Weights & Biases: the page, tables of trials, settings and claims, a plot, an artifact."""

import json
import os
from typing import Any

from sweeplab.records.record import TrialRecord, metric_value
from sweeplab.report import summarize_settings
from sweeplab.report.evidence.costs import choose_memory_metric
from sweeplab.report.evidence.settings import group_by_setting, list_varied_keys
from sweeplab.report.findings.verdicts import Verdict, judge_claims
from sweeplab.tracking.tracker import ReportedStudy

_Row = list[Any]


def judge_study_claims(study: ReportedStudy) -> list[Verdict]:
    """One verdict for every claim of the study."""
    return judge_claims(study.facts, group_by_setting(study.facts, study.records), study.items)


def _list_trial_rows(study: ReportedStudy) -> tuple[list[str], list[_Row]]:
    """(columns, rows), one row for each trial: status, varied values, objectives and memory; None where missing."""
    keys = list_varied_keys(study.facts, study.records)
    memory = choose_memory_metric(study.records)
    metrics = list(dict.fromkeys([*study.facts.objectives, *([memory] if memory else [])]))

    def row(record: TrialRecord) -> _Row:
        own = [record.number, record.seed, record.status.value, record.reason]
        values = [metric_value(record, name) for name in metrics]
        return [*own, *(record.params.get(key) for key in keys), *values]

    return ["trial", "seed", "status", "reason", *keys, *metrics], [row(record) for record in study.records]


def _list_setting_rows(study: ReportedStudy) -> tuple[list[str], list[_Row]]:
    """(columns, rows), one row for each setting, as in the terminal's table."""
    table = summarize_settings(study.facts, study.records, study.items)
    titles = [f"{column.title} ({column.unit})" if column.unit else column.title for column in table.columns]
    return titles, [[cell.text for cell in row] for row in table.rows]


def _list_claim_rows(study: ReportedStudy) -> tuple[list[str], list[_Row]]:
    """(columns, rows), one row for each claim: sentence, verdict, our effect with its interval, published value."""
    columns = ["claim", "source", "verdict", "effect", "ours", "low", "high", "published", "rule", "reason"]
    rows: list[_Row] = []
    for one in judge_study_claims(study):
        estimate, claim = one.estimate, one.claim
        ours = [None, None, None] if estimate is None else [estimate.value, estimate.low, estimate.high]
        rows.append([claim.words, claim.source, one.word, one.effect, *ours, claim.published, one.rule, one.reason])
    return columns, rows


def _hide_home(run: Any) -> None:
    """Makes the artifacts of `run` use relative paths for their local files.

    W&B sends these paths to the server; absolute ones would show the user's name. Tables are artifacts, too.
    """
    log_artifact = run.log_artifact

    def log_with_relative_paths(artifact: Any, **options: Any) -> Any:
        for entry in artifact.manifest.entries.values():
            entry.local_path = os.path.relpath(entry.local_path)
        return log_artifact(artifact, **options)

    run.log_artifact = log_with_relative_paths


def _read_answer(study: ReportedStudy) -> dict[str, Any]:
    """What `answer.json` says first: the answer in words, the setting that leads with its interval, and the bound."""
    answer = json.loads(study.page.with_name("answer.json").read_text(encoding="utf-8"))
    return {name: answer[name] for name in ("statement", "state", "leading", "bound", "within") if name in answer}


def log_report(wandb: Any, run: Any, study: ReportedStudy) -> None:
    """Logs the whole report into `run`."""
    _hide_home(run)
    values = {"report": wandb.Html(str(study.page))}
    for name, rows_of in (("trials", _list_trial_rows), ("settings", _list_setting_rows), ("claims", _list_claim_rows)):
        columns, rows = rows_of(study)
        if rows:
            values[name] = wandb.Table(columns=columns, data=rows, allow_mixed_types=True)
    memory, objective = choose_memory_metric(study.records), next(iter(study.facts.objectives))
    if memory is not None and memory != objective:
        columns, rows = _list_trial_rows(study)
        table = wandb.Table(columns=columns, data=rows, allow_mixed_types=True)
        values["score_and_memory"] = wandb.plot.scatter(table, memory, objective, title=f"{objective} and {memory}")
    run.log(values)
    run.summary.update({"answer": _read_answer(study)})
    artifact = wandb.Artifact(f"{study.facts.name}-report", type="report")
    for path in sorted(study.page.parent.iterdir()):
        if path.is_file() and not path.name.startswith("."):
            artifact.add_file(str(path), name=path.name, skip_cache=True)
    run.log_artifact(artifact)
