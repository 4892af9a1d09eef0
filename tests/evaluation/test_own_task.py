"""The task `own` is one of lm-eval's: its prompts, scores, standard errors and items are what lm-eval makes of them."""

import json
import math
from ast import literal_eval
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from lm_eval.evaluator import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from sweeplab.data.conversations import make_chat_example
from sweeplab.data.prompts import render_prompt
from sweeplab.evaluation.catalog import TaskError, is_comparison_only, load_tasks
from sweeplab.evaluation.files import fingerprint_tasks
from sweeplab.evaluation.results import Evaluation, _list_item_rows, _read_scores
from sweeplab.models.base import Base
from sweeplab.records.items import read_items
from sweeplab.records.store import trial_folder, write_json_lines
from sweeplab.runtime.errors import ConfigError
from tests.evaluation.conftest import evaluated, settings
from tests.trials import Compose

KINDS: Final = [json.loads(line) for line in (Path(__file__).parent / "kinds" / "items.jsonl").read_text().splitlines()]
ITEMS: Final = [
    {
        "question": f"{one['instruction']}\n{one['input']}".strip(),
        "answer": one["output"],
        "choices": one["choices"],
        "label": one["label"],
        "part": place % 3,
        "odd": {"a": 1} if place else ["of another form"],  # what `datasets` cannot hold
    }
    for place, one in enumerate(KINDS)
]
TEMPLATE: Final = (
    "{% for one in messages %}<{{ one.role }}>{{ one.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
BY_LM_EVAL: Final[dict[str, dict[str, Any]]] = {  # what a user of lm-eval would write
    "exact": {
        "output_type": "generate_until",
        "doc_to_target": "answer",
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": 6, "do_sample": False},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    },
    "choice": {
        "output_type": "multiple_choice",
        "doc_to_target": "label",
        "doc_to_choice": "choices",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    },
}
WRITTEN: Final[dict[str, Any]] = {"max_tokens": 6, "stop": ["\n"], "prompt": "{question}\n"}


@pytest.fixture
def path(tmp_path: Path) -> str:
    path = tmp_path / "items.jsonl"
    path.write_text("".join(json.dumps(item) + "\n" for item in ITEMS))
    return str(path)


def by_lm_eval(score: str, base: Base, folder: Path, **options: Any) -> Evaluation:
    """From a file of lm-eval's own making, on the fields that both read."""
    data = folder / "plain.jsonl"
    data.write_text("".join(json.dumps({name: item[name] for name in list(item)[:4]}) + "\n" for item in ITEMS))
    task = BY_LM_EVAL[score] | {
        "task": "own",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}, "cache_dir": str(folder / "cache")},
        "test_split": "test",
        "fewshot_config": {"split": "test"},
        "doc_to_text": "{{question}}" if "apply_chat_template" in options else "{{question}}\n",
        "target_delimiter": "",
    }
    found: Any = simple_evaluate(
        model=HFLM(pretrained=base.model, tokenizer=base.tokenizer, batch_size=4),
        tasks=[task],
        task_manager=TaskManager(include_defaults=False),
        fewshot_as_multiturn=bool(options.get("apply_chat_template")),
        bootstrap_iters=20,
        **options,
    )
    return Evaluation(_read_scores(found["results"], found["n-samples"]), _list_item_rows(found["samples"]))


OPTIONS: Final[dict[str, dict[str, Any]]] = {
    "plain": {},
    "few-shot": {"num_fewshot": 2},
    "chat": {"apply_chat_template": True, "system_instruction": "Answer.", "num_fewshot": 1},
    "limit": {"limit": 4},
}


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("score", BY_LM_EVAL)
def test_scores_errors_and_items_are_lm_evals(
    score: str, options: str, embedded_base: Base, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_base.tokenizer, "chat_template", TEMPLATE)
    chosen = OPTIONS[options]
    expected = by_lm_eval(score, embedded_base, tmp_path, **chosen)
    changes: dict[str, Any] = {"limit": None, "batch_size": 4, "bootstrap_iters": 20} | chosen
    asked = settings("own", path=path, score=score, **({} if score == "choice" else WRITTEN), **changes)
    if score == "choice":
        asked = asked.replaced(prompt=WRITTEN["prompt"])
    found = evaluated(embedded_base.model, embedded_base.tokenizer, asked)
    assert found.scores == expected.scores
    for row, wanted in zip(found.items, expected.items, strict=True):
        if score == "choice":  # answers share their question's tokens: log-likelihoods differ by rounding
            ours, theirs = ([literal_eval(one)[0] for one in each.pop("responses")] for each in (row, wanted))
            assert ours == pytest.approx(theirs, rel=1e-5)
        assert row == wanted
    assert len(found.items) == chosen.get("limit", len(ITEMS))


def generated(base: Base, path: str, score: str, **changes: Any) -> Evaluation:
    values: dict[str, Any] = WRITTEN | {"limit": None, "path": path, "score": score} | changes
    return evaluated(base.model, base.tokenizer, settings("own", **values))


def test_a_score_is_the_mean_of_its_items_with_their_standard_error(
    embedded_base: Base, path: str, tmp_path: Path
) -> None:
    """By NumPy; and the items are paired as those of any task are."""
    for number, (score, metric) in enumerate([("exact", "exact_match"), ("rouge_l", "rouge_l"), ("f1", "f1")]):
        found = generated(embedded_base, path, score, clusters={"own": "part"})
        values = [row["metrics"][metric] for row in found.items]
        (one,) = found.scores["own"].values()
        assert one.value == pytest.approx(np.mean(values), rel=1e-12)
        assert one.stderr == pytest.approx(np.std(values, ddof=1) / math.sqrt(len(values)), rel=1e-12)
        assert one.num_items == len(ITEMS)
        write_json_lines(trial_folder(tmp_path / metric, number) / "items.jsonl", found.items)
        table = read_items(tmp_path / metric)[f"scores.own.{metric}"]
        assert table.values == {number: values}
        assert table.clusters == [0, 1, 2] * 3


def test_messages_are_what_the_chat_template_makes_of_them(
    embedded_base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_base.tokenizer, "chat_template", TEMPLATE)
    messages = [
        {"role": "user", "content": "1+1?"},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": "2+2?"},
    ]
    path = tmp_path / "items.jsonl"
    path.write_text(json.dumps({"messages": messages, "answer": "4"}) + "\n")
    asked = settings("own", path=str(path), score="exact", apply_chat_template=True, limit=None, max_tokens=4)
    task = load_tasks(asked)["tasks"]["own"]
    seen = []

    def render(chat: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        seen.append((chat, add_generation_prompt))
        return str(embedded_base.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True))

    text = task.fewshot_context(task.eval_docs[0], 0, system_instruction="Be short.", chat_template=render)
    assert text == "<system>Be short.\n<user>1+1?\n<assistant>2\n<user>2+2?\n<assistant>"
    assert seen == [([{"role": "system", "content": "Be short."}, *messages], True)]
    found = evaluated(embedded_base.model, embedded_base.tokenizer, asked)
    assert found.scores["own"]["exact_match"].num_items == 1
    with pytest.raises(ConfigError, match=r"evaluation\.num_fewshot goes with question, not with messages, got 1"):
        evaluated(embedded_base.model, embedded_base.tokenizer, asked.replaced(num_fewshot=1))


def test_keys_of_generation_reach_it(embedded_base: Base, path: str) -> None:
    def responses(**changes: Any) -> list[str]:
        return [row["responses"][0] for row in generated(embedded_base, path, "exact", limit=4, **changes).items]

    whole = responses()
    assert any(len(one) > 1 for one in whole)
    assert responses(max_tokens=1) == [one[:1] for one in whole]  # the base reads letters
    first = next(one for one in whole if len(one) > 1)
    assert responses(stop=["\n", first[1]]) == [one.partition(first[1])[0] for one in whole]
    assert responses(gen_kwargs={"max_gen_toks": 1}) == [one[:1] for one in whole]
    assert responses(prompt="Q: {question} A:") != whole
    plain = generated(embedded_base, path, "exact", limit=4)
    assert generated(embedded_base, path, "exact", limit=4, extract="no such text").scores != plain.scores
    assert generated(embedded_base, path, "exact", limit=4, extract="^.*$").scores == plain.scores


def test_a_question_is_written_as_training_writes_it(path: str, compose_trial: Compose) -> None:
    for style in ("plain", "alpaca", "chatml"):
        asked = compose_trial("evaluation=own", f"evaluation.path={path}", f"data.style={style}").evaluation
        assert asked.prompt == style
        task = load_tasks(asked)["tasks"]["own"]
        for item in ITEMS:
            example = make_chat_example(
                {"m": [{"role": "user", "content": item["question"]}, {"role": "assistant", "content": "a"}]}, "", "m"
            )
            assert task.fewshot_context(item, 0) == render_prompt(example, style)
    assert compose_trial("evaluation=own", f"evaluation.path={path}", "evaluation.prompt={question}!").evaluation.prompt


def test_a_schema_holds_for_every_item(embedded_base: Base, path: str, tmp_path: Path) -> None:
    """The base answers with numbers and with words; the former are JSON."""
    schema = tmp_path / "schema.json"
    for text, largest in (('{"type": "integer"}', math.inf), ('{"type": "integer", "maximum": 100}', 100)):
        schema.write_text(text)
        found = generated(embedded_base, path, "json", schema_path=str(schema))
        written = [row["responses"][0] for row in found.items]
        expected = [float(one.isdigit() and one[0] != "0" and int(one) <= largest) for one in written]
        assert [row["metrics"]["valid"] for row in found.items] == expected
        assert 0 < sum(expected) < len(expected)


@pytest.mark.parametrize(
    ("score", "answer", "shown"),
    [
        ("json", {"a": True}, '{"a": true}'),
        ("json", ["\u00e9", 1], '["\u00e9", 1]'),  # what a schema describes, not a list of which one counts
        ("json", '{"a":1}', '{"a":1}'),
        ("number", [7, 8], "7"),
        ("number", 1.5, "1.5"),
        ("math:isqrt", ["a", "b"], "a"),
        ("math:isqrt", False, "false"),
        ("math:isqrt", [], ""),
        ("math:isqrt", None, ""),
    ],
)
def test_a_few_shot_example_shows_the_answer_as_a_model_should_write_it(
    score: str, answer: Any, shown: str, tmp_path: Path
) -> None:
    items = [{"question": f"{place}?", "answer": answer, "schema": {}} for place in (1, 2)]
    path = tmp_path / "items.jsonl"
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    task = load_tasks(settings("own", path=str(path), score=score, limit=None))["tasks"]["own"]
    first, second = task.eval_docs
    assert task.doc_to_target(first) == shown
    if shown:
        assert task.fewshot_context(first, 1) == f"{second['question']}\n{shown}\n\n{first['question']}\n"


MODULE: Final = """
def length(response, item):
    assert item["question"]
    return len(response)

def nothing(response, item):
    return float("nan")

def failing(response, item):
    return response["a"]

number = 3
"""


def test_a_function_of_the_users_scores(
    embedded_base: Base, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_scores.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    found = generated(embedded_base, path, "my_scores:length")
    assert [row["metrics"]["score"] for row in found.items] == [len(row["responses"][0]) for row in found.items]
    for name, message in (("nothing", "ValueError: my_scores:nothing returned nan, no number"), ("failing", "TypeErr")):
        with pytest.raises(TaskError, match=rf"^own cannot score an answer: {message}"):
            generated(embedded_base, path, f"my_scores:{name}")
    for name in ("number", "missing"):
        with pytest.raises(ConfigError, match=rf"must name a function of the module, got my_scores:{name}; check its"):
            load_tasks(settings("own", path=path, score=f"my_scores:{name}"))
    (tmp_path / "bad_scores.py").write_text("1 / 0\n")
    with pytest.raises(ConfigError, match=r"evaluation\.score cannot be imported \(ZeroDivisionError: .*\), got bad_s"):
        load_tasks(settings("own", path=path, score="bad_scores:a"))


def test_the_fingerprint_follows_the_file_the_schema_and_the_module(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    schema, module = tmp_path / "schema.json", tmp_path / "other_scores.py"
    schema.write_text("{}")
    module.write_text(MODULE)
    asked = [
        settings("own", path=path, score="json", schema_path=str(schema)),
        settings("own", path=path, score="other_scores:length"),
    ]
    prints = [[fingerprint_tasks(one) for one in asked]]
    for changed in (schema, module, Path(path)):
        with changed.open("a") as file:
            file.write("\n")
        prints.append([fingerprint_tasks(one) for one in asked])
    first, second = zip(*prints, strict=True)
    assert len(set(first)) == 3
    assert first[1] == first[2]
    assert len(set(second)) == 3
    assert second[0] == second[1]


def test_beside_other_tasks(embedded_base: Base, path: str) -> None:
    asked = settings("tiny_addition", "own", path=path, score="choice", prompt="{question}\n", limit=2)
    loaded = load_tasks(asked)
    assert is_comparison_only(loaded)
    assert evaluated(embedded_base.model, embedded_base.tokenizer, asked).scores.keys() == {"tiny_addition", "own"}
