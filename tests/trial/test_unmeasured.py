"""What a study asks of its tasks is held against what they measure of the base, before anything is trained."""

from pathlib import Path

import pytest

from sweeplab.records.record import Score
from sweeplab.records.store import write_facts
from sweeplab.runtime.errors import ConfigError
from sweeplab.trial.unmeasured import refuse_unmeasured
from tests.report_records import FactsFactory

SCORES = {"mmlu_anatomy": {"acc": Score(0.5, 0.1, 4)}, "gsm8k": {"exact_match@strict-match": Score(0.0, None, 4)}}


def test_an_objective_that_no_task_measures_is_refused_with_the_nearest(
    make_facts: FactsFactory, tmp_path: Path
) -> None:
    def check(*metrics: str, not_finite: set[str] | None) -> None:
        write_facts(tmp_path, make_facts(objectives=dict.fromkeys(metrics, "maximize")))
        refuse_unmeasured(tmp_path, SCORES, not_finite)

    refuse_unmeasured(tmp_path, SCORES, set())  # a trial outside a study
    check("heldout_loss_nats_per_token", "scores.mmlu_anatomy.acc", not_finite=set())
    check("scores.wikitext.word_perplexity", not_finite={"scores.wikitext.word_perplexity"})
    check("scores.wikitext.word_perplexity", not_finite=None)  # a stored score does not say that it was infinite
    for not_finite in (set[str](), None):
        with pytest.raises(ConfigError, match=r"name scores\.gsm8k\.exact_match, .*mean scores\.gsm8k\.exact_match@st"):
            check("scores.gsm8k.exact_match", not_finite=not_finite)
    with pytest.raises(ConfigError, match=r"name scores\.wikitext\.word_perplexity, which no task measures; did you"):
        check("scores.wikitext.word_perplexity", not_finite=set())
    write_facts(tmp_path, make_facts(constraints={"scores.mmlu.acc": {"min": 0.5}}))
    with pytest.raises(ConfigError, match=r"name scores\.mmlu\.acc, which no .*mean scores\.mmlu_anatomy\.acc"):
        refuse_unmeasured(tmp_path, SCORES, set())
