"""Tasks and metrics that cannot be are refused before anything is trained, without lm-eval."""

from collections.abc import Iterator

import pytest

from sweeplab.builtin.digits import DIGITS_TASKS
from sweeplab.builtin.tasks import WORLD_TASKS
from sweeplab.config import tasks
from sweeplab.config.claim_rules import check_claims
from sweeplab.config.tasks import OWN_METRICS, check_metric, check_objectives, check_task_names, stands_nowhere
from sweeplab.records.claim import ClaimConfig
from sweeplab.runtime.errors import ConfigError
from tests.evaluation.conftest import settings
from tests.study_runs import ComposeStudy, compose_study, hydra

__all__ = ["compose_study", "hydra"]  # rooms of the study's tests

CLAIM = "claims=[{words: w, source: s, metric: heldout_loss_nats_per_token, rises_with: adapter.rank}]"


def test_the_table_has_every_task_of_ours_with_its_only_metric() -> None:
    measured = {name: [one["metric"] for one in made["metric_list"]] for name, made in WORLD_TASKS.items()}
    assert measured | {name: ["accuracy"] for name in DIGITS_TASKS} == {
        name: [metric] for name, metric in OWN_METRICS.items()
    }


def test_a_task_s_name_may_hold_dots() -> None:
    check_objectives(["scores.mmlu.v2.acc"], settings("mmlu.v2"))
    with pytest.raises(ConfigError, match=r"^study\.objectives must name what evaluation\.tasks=\[piqa\] measures"):
        check_objectives(["scores.mmlu.v2.acc"], settings("piqa"))


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("beauty", r"key must name metrics of a record, got beauty; choose from heldout_loss"),
        ("scores.tiny_new_facts.acc", r"key must name what tiny_new_facts measures, got .*; use .*facts\.exact_match$"),
        ("scores.tiny_addition_choice.exact_match", r"key must name what .*; use scores\.tiny_addition_choice\.acc$"),
        ("scores.digits_upright.acc", r"key must name what .*; use scores\.digits_upright\.accuracy$"),
    ],
)
def test_a_metric_that_no_record_will_have_is_refused(metric: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        check_metric("key", metric)
    claim = ClaimConfig(words="w", source="s", metric=metric, every={}, between=[0, None])
    with pytest.raises(ConfigError, match=r"^claims\[0\]\.metric must name"):
        check_claims([claim], {})


def test_an_objective_is_measured_by_a_task_that_is_asked_for() -> None:
    asked = settings("tiny_new_facts", "mmlu")
    check_objectives(["scores.tiny_new_facts.exact_match", "scores.mmlu_anatomy.acc"], asked)
    with pytest.raises(ConfigError, match=r"must name what evaluation\.tasks=\[tiny_new_facts\] measures, got .*_ch"):
        check_objectives(["scores.tiny_new_facts_choice.acc"], settings("tiny_new_facts"))
    with pytest.raises(ConfigError, match=r"must name what evaluation\.tasks=\[\] measures, got scores\.mmlu\.acc"):
        check_objectives(["scores.mmlu.acc"], settings())


def test_a_task_that_lm_eval_cannot_have_is_refused_with_the_nearest() -> None:
    pytest.importorskip("lm_eval")
    check_task_names(["tiny_addition", "hellaswag", "mmlu", "truthfulqa_mc2", "acp_gen_2shot", "flores_afr-eng"])
    with pytest.raises(ConfigError, match=r"^evaluation\.tasks must .*, got helaswag; did you mean hellaswag\?$"):
        check_task_names(["helaswag"])


def test_without_lm_eval_every_name_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing() -> Iterator[str]:
        yield from ()

    monkeypatch.setattr(tasks, "task_files", nothing)
    stands_nowhere.cache_clear()
    check_task_names(["helaswag"])
    stands_nowhere.cache_clear()


def test_a_plan_checks_claims_as_a_run_does(compose_study: ComposeStudy) -> None:
    for action in ("run", "plan"):
        with pytest.raises(ConfigError, match=r"^claims\[0\]\.rises_with must be a varied key, got adapter\.rank"):
            compose_study(CLAIM, f"action={action}")
    assert compose_study(CLAIM, "action=watch").claims
    for spec in ("{low: 3}", "{choices: 3}", "{low: a, high: b}"):
        claim = CLAIM.replace("rises_with: adapter.rank", "every: {adapter.rank: 3}, between: [0, null]")
        with pytest.raises(ConfigError, match=r"adapter\.rank must be a value of the space, got 3"):
            compose_study(claim, "action=plan", f"++space.adapter.rank={spec}")
