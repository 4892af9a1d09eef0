"""Every option of `evaluation` does something, and what lm-eval's own option of that name does."""

from copy import deepcopy
from typing import Any, Final

import pytest
from lm_eval.evaluator import simple_evaluate
from lm_eval.models.huggingface import HFLM

from sweeplab.builtin.tasks import WORLD_TASKS
from sweeplab.config.compatible import check_trial
from sweeplab.evaluation.catalog import is_comparison_only, load_tasks, make_task_manager
from sweeplab.evaluation.results import Evaluation, _list_item_rows, _read_scores
from sweeplab.models.base import Base
from sweeplab.runtime.errors import ConfigError
from tests.evaluation.conftest import evaluated, settings
from tests.trials import Compose

TASKS: Final = ("tiny_new_facts", "tiny_subtraction")
TEMPLATE: Final = "{% for one in messages %}<{{ one.role }}>{{ one.content }}\n{% endfor %}"
OPTIONS: Final[dict[str, dict[str, Any]]] = {
    "num_fewshot": {"num_fewshot": 1},
    "gen_kwargs": {"gen_kwargs": {"max_gen_toks": 3, "until": ["a"]}},
    "sampling": {"gen_kwargs": {"do_sample": True, "temperature": 1.5}},
    "system_instruction": {"system_instruction": "Answer.\n"},
    "apply_chat_template": {"apply_chat_template": True},
    "chat with all": {"apply_chat_template": True, "system_instruction": "Answer.", "num_fewshot": 2},
    "limit": {"limit": 3},
}


def by_lm_eval(base: Base, options: dict[str, Any]) -> Evaluation:
    found: Any = simple_evaluate(
        model=HFLM(pretrained=base.model, tokenizer=base.tokenizer, batch_size=32),
        tasks=[deepcopy(WORLD_TASKS[name]) for name in TASKS],
        task_manager=make_task_manager((), None),
        fewshot_as_multiturn=bool(options.get("apply_chat_template")),
        **({"limit": 8} | options),
    )
    prompts = tuple(one["arguments"][0][0] for samples in found["samples"].values() for one in samples)
    scores = _read_scores(found["results"], found["n-samples"])
    return Evaluation(scores, _list_item_rows(found["samples"]), prompts=prompts)


@pytest.fixture(scope="module")
def without_options(embedded_base: Base) -> Evaluation:
    return by_lm_eval(embedded_base, {})


# slow: what "chat with all" has together, each by itself; another limit than that of the others
SLOW: Final = (*OPTIONS["chat with all"], "limit")
EACH: Final = [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in OPTIONS]


@pytest.mark.parametrize("name", EACH)
def test_an_option_does_what_lm_evals_does(
    name: str, embedded_base: Base, without_options: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_base.tokenizer, "chat_template", TEMPLATE)
    options = OPTIONS[name]
    found = evaluated(embedded_base.model, embedded_base.tokenizer, settings(*TASKS, **({"limit": 8} | options)))
    assert found == by_lm_eval(embedded_base, options)
    plain = evaluated(embedded_base.model, embedded_base.tokenizer, settings(*TASKS, limit=8))  # nothing stays behind
    assert found != plain == without_options


def test_a_chat_template_that_is_not_there_is_refused(embedded_base: Base) -> None:
    with pytest.raises(ConfigError, match=r"evaluation.apply_chat_template=true needs a tokenizer with a"):
        evaluated(embedded_base.model, embedded_base.tokenizer, settings(*TASKS, apply_chat_template=True))


def test_a_folder_that_is_not_there_is_refused(compose_trial: Compose) -> None:
    with pytest.raises(ConfigError, match=r"evaluation.data_dir must be a folder, got nowhere; check the path"):
        check_trial(compose_trial("evaluation.data_dir=nowhere"))


@pytest.mark.parametrize(
    "override",
    ["data_dir=.", "++evaluation.gen_kwargs={top_k: 1}", "apply_chat_template=true", "system_instruction=Answer"],
)
def test_what_is_for_text_is_refused_for_images(override: str, compose_trial: Compose) -> None:
    key = override if override.startswith("+") else f"evaluation.{override}"
    with pytest.raises(ConfigError, match=r"evaluation\..* is for text and does not go with data=digits"):
        check_trial(compose_trial("model=tiny_vit", "data=digits", key))


def test_a_hub_that_cannot_be_reached_is_said_so() -> None:
    with pytest.raises(ConfigError, match=r"needs data of the hub, which cannot be reached: .*evaluation.data_dir=DIR"):
        load_tasks(settings("blimp_causative"))


def test_answers_share_their_question_only_where_every_score_is_a_comparison(embedded_base: Base) -> None:
    loaded = load_tasks(settings("tiny_new_facts", "tiny_new_facts_choice"))
    assert is_comparison_only(loaded)
    task = loaded["tasks"]["tiny_new_facts_choice"]
    task.set_config(key="metric_list", value=[{"metric": "acc"}, {"metric": "brier_score"}])
    assert not is_comparison_only(loaded)
    task.set_config(key="metric_list", value=[{"metric": "acc"}])
    task.set_config(key="process_results", value=lambda doc, results: {"acc": results[0]})
    assert not is_comparison_only(loaded)
