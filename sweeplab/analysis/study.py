"""The analysis of a study from its folder to its pages."""

from collections.abc import Callable
from pathlib import Path

from sweeplab.analysis.outcomes import rate_settings
from sweeplab.analysis.pages import write_analysis
from sweeplab.analysis.results import AnalysisResults
from sweeplab.analysis.sharing import MOST_MATRICES, choose_matrices, measure_sharing
from sweeplab.analysis.trials import find_pairs, read_trials
from sweeplab.analysis.weights import measure_weights
from sweeplab.records.store import StoreError, read_facts, read_records
from sweeplab.report.evidence.settings import group_by_setting


def analyze(study_folder: Path, reports_dir: Path, say: Callable[[str], None]) -> Path:
    """Reads the finished trials in `study_folder`, writes `reports_dir`/<study>/analysis; gives analysis.md's path.

    `say` is told in a few words what is being done. Loads the base, for its weights; one that cannot be loaded is
    named on the page. Raises `StoreError` in one line for a folder without a study, and for a damaged adapter or items.
    """
    facts = read_facts(study_folder)
    if facts is None:
        raise StoreError(f"{study_folder} holds no study; run it first, with the same study.name")
    records = read_records(study_folder)
    settings = group_by_setting(facts, records)
    trained, left_out = read_trials(study_folder, records)
    pairs, names = find_pairs(trained), choose_matrices(trained, MOST_MATRICES)
    shared = measure_sharing(pairs, names, say)
    measured, trouble = measure_weights(trained, MOST_MATRICES, say)
    say("Elo over items")
    ratings = rate_settings(facts, settings, study_folder)
    findings = AnalysisResults(facts, settings, trained, left_out, pairs, names, shared, measured, trouble, ratings)
    return write_analysis(findings, reports_dir / facts.name / "analysis")
