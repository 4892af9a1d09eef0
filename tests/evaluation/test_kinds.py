"""Every kind of task that lm-eval has, on the files in `kinds`: its own numbers, to the last digit."""

import contextlib
import json
import multiprocessing
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

import datasets
import numpy as np
import pytest
from lm_eval.evaluator import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from sweeplab.config.evaluation import EvaluationConfig
from sweeplab.evaluation import catalog
from sweeplab.evaluation.catalog import TaskError, load_tasks, make_task_manager
from sweeplab.evaluation.harness import run_lm_eval
from sweeplab.evaluation.results import Evaluation
from sweeplab.evaluation.sampling import draw_sample
from sweeplab.models.base import Base
from sweeplab.records.items import read_items
from sweeplab.records.record import Score
from sweeplab.records.store import trial_folder, write_json_lines
from sweeplab.report.evidence.item_values import list_mean_values
from sweeplab.runtime.errors import ConfigError
from tests.evaluation.conftest import evaluated, settings

KINDS: Final = Path(__file__).parent / "kinds"
SINGLE: Final = ("loglikelihood", "rolling", "mutual", "shuffled", "votes", "translated", "own_results")
ASKED: Final = ("kinds_nested", *(f"kinds_{name}" for name in SINGLE))
TASKS: Final = tuple(f"kinds_{name}" for name in ("choice", "few", "filters", "binary", *SINGLE))
BOOTSTRAPS: Final = 20
BATCH: Final = 4


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data as `evaluation.data_dir` wants them, a file for each task and split."""
    folder = tmp_path_factory.mktemp("data")
    for task in TASKS:
        for split, name in (("train", "pool"), ("test", "items")):
            (folder / f"{task}_{split}.jsonl").symlink_to(KINDS / f"{name}.jsonl")
    return folder


@pytest.fixture(scope="module")
def expected(embedded_base: Base, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """By what lm-eval's command line calls; in one process, since a fork of one with torch's threads may hang.

    lm-eval draws the same bootstraps then: each chunk has a generator of its own.
    """
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(KINDS):
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        patch.setenv("DISABLE_MULTIPROC", "1")
        made: Any = simple_evaluate(
            model=HFLM(pretrained=embedded_base.model, tokenizer=embedded_base.tokenizer, batch_size=BATCH),
            tasks=list(ASKED),
            task_manager=TaskManager(include_path=str(KINDS), include_defaults=False),
            bootstrap_iters=BOOTSTRAPS,
        )
        yield made


def choose_kinds(asked: EvaluationConfig) -> Any:
    return make_task_manager((str(KINDS),), asked.data_dir)


@pytest.fixture
def kinds_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "_choose_task_manager", choose_kinds)


@pytest.fixture(scope="module")
def evaluations(embedded_base: Base, data_dir: Path) -> list[Evaluation]:
    """Of two trials in one cohort, which have the same model here, without a process for the bootstraps."""
    asked = settings(*ASKED, limit=None, batch_size=BATCH, bootstrap_iters=BOOTSTRAPS, data_dir=str(data_dir))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalog, "_choose_task_manager", choose_kinds)
        patch.setattr(multiprocessing, "Pool", None)
        patch.setenv("DISABLE_MULTIPROC", "1")
        return run_lm_eval(embedded_base.model, embedded_base.tokenizer, asked, 2, lambda places: nullcontext())


def test_every_score_and_standard_error_is_lm_evals(expected: dict[str, Any], evaluations: list[Evaluation]) -> None:
    wanted: dict[str, dict[str, Score]] = {}
    for task, values in expected["results"].items():
        for key in [key for key in values if "," in key and "_stderr" not in key]:
            metric, chosen = key.split(",")
            name = metric if chosen == "none" else f"{metric}@{chosen}"
            error = float(str(values[f"{metric}_stderr,{chosen}"]).replace("N/A", "nan"))
            samples = [one for one in expected["samples"].get(task, ()) if one["filter"] == chosen]
            count = sum(metric in one["metrics"] for one in samples) if samples else values["sample_count"][key]
            score = Score(float(values[key]), None if np.isnan(error) else error, count)
            wanted.setdefault(task, {})[name] = score
    for found in evaluations:
        assert found.scores == wanted
    assert wanted.keys() == {*TASKS, "kinds_group", "kinds_nested", "kinds_nested::kinds_inner"}


def test_every_item_is_lm_evals(expected: dict[str, Any], evaluations: list[Evaluation]) -> None:
    for found in evaluations:
        rows = [row for row in found.items if "group" not in row]
        assert len(rows) == sum(len(samples) for samples in expected["samples"].values()) == 113
        for task, samples in expected["samples"].items():
            for row, sample in zip([row for row in rows if row["task"] == task], samples, strict=True):
                assert (row["item"], row["filter"]) == (sample["doc_id"], sample["filter"])
                assert row["responses"] == [str(one) for one in sample["filtered_resps"]]
                values = row["metrics"] | row.get("inputs", {})
                assert {name: str(value) for name, value in values.items()} == {
                    name: str(float(sample[name]) if np.isscalar(sample[name]) else sample[name])
                    for name in sample["metrics"]
                }


def test_what_is_bootstrapped_has_a_standard_error(evaluations: list[Evaluation]) -> None:
    scores = evaluations[0].scores
    for name in ("loglikelihood.perplexity", "binary.f1", "choice.mcc", "own_results.length", "own_results.numeric"):
        task, metric = name.split(".")
        error = scores[f"kinds_{task}"][metric].stderr
        assert error is not None, name
        assert error >= 0, name
    assert all(score.stderr is not None for score in scores["kinds_translated"].values())
    assert scores["kinds_own_results"]["longest"].stderr is None  # lm-eval knows none


def test_items_are_paired_where_a_score_is_their_mean_or_a_ratio(evaluations: list[Evaluation], tmp_path: Path) -> None:
    found = evaluations[0]
    write_json_lines(trial_folder(tmp_path, 0) / "items.jsonl", found.items)
    tables = read_items(tmp_path)
    for name, table in tables.items():
        task, metric = name.removeprefix("scores.").split(".")
        score = found.scores[task][metric]
        assert len(table.items) == score.num_items, name
        assert np.mean(list_mean_values(table, 0)) == pytest.approx(score.value, rel=1e-12), name
    scores = {f"scores.{task}.{metric}" for task, metrics in found.scores.items() for metric in metrics}
    assert {name.removeprefix("scores.kinds_") for name in scores - tables.keys()} == {
        "choice.f1",
        "choice.mcc",
        "choice.brier_score",
        "binary.f1",
        "binary.mcc",
        "translated.bleu",
        "translated.chrf",
        "translated.ter",
        "own_results.length",
        "own_results.numeric",
        "own_results.longest",
        "group.mcc",  # of one of its tasks, and no mean
        "group.acc_norm",  # every task counts as much, however many items it has
        "nested.acc",
    }


@pytest.mark.filterwarnings("ignore:A single label was found")  # of three items
@pytest.mark.usefixtures("kinds_are_known")
def test_a_tag_and_a_limit(embedded_base: Base, data_dir: Path) -> None:
    asked = settings("kinds_tag", limit=3, data_dir=str(data_dir), bootstrap_iters=BOOTSTRAPS)
    scores = evaluated(embedded_base.model, embedded_base.tokenizer, asked.replaced(tasks=["kinds_tag"])).scores
    assert {task: metrics["acc"].num_items for task, metrics in scores.items()} == {
        "kinds_choice": 3,
        "kinds_mutual": 3,
    }
    grouped = evaluated(embedded_base.model, embedded_base.tokenizer, asked.replaced(tasks=["kinds_group"])).scores
    assert grouped["kinds_choice"] == scores["kinds_choice"]
    assert grouped["kinds_group"]["acc"].num_items == 6


@pytest.mark.usefixtures("kinds_are_known")
def test_a_sample_s_scores_are_lm_evals_for_the_same_items(
    embedded_base: Base, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With few-shot examples that are drawn item by item, and with a group."""
    asked = settings("kinds_group", "kinds_filters", limit=5, limit_seed=7, data_dir=str(data_dir), batch_size=BATCH)
    found = evaluated(embedded_base.model, embedded_base.tokenizer, asked)
    numbers: dict[str, list[int]] = {}
    for row in found.items:
        if row.get("filter") in ("none", "strict-match") and "task" in row:
            numbers.setdefault(row["task"], []).append(row["item"])
    assert numbers["kinds_choice"] == numbers["kinds_filters"] == draw_sample(9, asked) != list(range(5))
    assert numbers["kinds_few"] == list(range(5))  # the task has no more
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    with contextlib.chdir(KINDS):
        expected: Any = simple_evaluate(
            model=HFLM(pretrained=embedded_base.model, tokenizer=embedded_base.tokenizer, batch_size=BATCH),
            tasks=asked.tasks,
            task_manager=TaskManager(include_path=str(KINDS), include_defaults=False),
            samples={name: numbers[name] for name in ("kinds_choice", "kinds_filters")},
            bootstrap_iters=0,
        )
    for task, metrics in found.scores.items():
        for name, score in metrics.items():
            metric, _, chosen = name.partition("@")
            assert score.value == expected["results"][task][f"{metric},{chosen or 'none'}"], (task, name)
    for task, samples in expected["samples"].items():
        rows = [row for row in found.items if row.get("task") == task]
        assert [row["responses"] for row in rows] == [[str(one) for one in each["filtered_resps"]] for each in samples]


@pytest.mark.usefixtures("kinds_are_known")
def test_items_have_the_cluster_that_their_field_names(embedded_base: Base, data_dir: Path) -> None:
    asked = settings("kinds_few", data_dir=str(data_dir), clusters={"kinds_few": "label"})
    rows = evaluated(embedded_base.model, embedded_base.tokenizer, asked).items
    labels = [json.loads(line)["label"] for line in (KINDS / "items.jsonl").read_text().splitlines()][:5]
    assert [row["cluster"] for row in rows] == [list(dict.fromkeys(labels)).index(label) for label in labels]
    assert len({row["cluster"] for row in rows}) < 5
    for clusters, message in (
        ({"kinds_few": "passage"}, "a field that every item of kinds_few has, got passage; choose from .*label"),
        ({"kinds_binary": "label"}, r"tasks that are scored \(kinds_few\), got kinds_binary; drop it"),
    ):
        with pytest.raises(ConfigError, match=f"^evaluation.clusters must name {message}"):
            evaluated(embedded_base.model, embedded_base.tokenizer, asked.replaced(clusters=clusters))


@pytest.mark.usefixtures("kinds_are_known")
@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        (
            "kinds_mutual kinds_ends",
            r"\[kinds_ends\] cannot be used, .* fails: SystemExit: Prolog is not installed",
        ),
        ("kinds_unsafe", r"tasks must not run code that a model has written, got kinds_unsafe; drop it, or the group"),
        ("kinds_pictures", r"tasks must be of text, without images or sound, got kinds_pictures; drop it"),
        (
            "kinds_lacking",
            r"\[kinds_lacking\] needs a package that is not installed: .* module 'no_such",
        ),
        (
            "kinds_unknown_metric",
            r"tasks has the metric no_such_metric, which .* kinds_unknown_metric",
        ),
        ("kinds_unknown_aggregation", r"tasks cannot aggregate the metric exact_match, got kinds_unknown_aggregation"),
        ("kinds_unknown_filter", r"tasks=\[kinds_unknown_filter\] cannot be used, .*no_such_filter"),
        (
            "kinds_group kinds_few",
            r"must have every task once: Duplicate task 'kinds_few': found in both",
        ),
    ],
)
def test_a_task_that_cannot_be_scored_is_refused_in_one_line(tasks: str, message: str, data_dir: Path) -> None:
    for name in tasks.split():
        for split, rows in (("train", "pool"), ("test", "items")):
            path = data_dir / f"{name}_{split}.jsonl"
            if not path.exists():
                path.symlink_to(KINDS / f"{rows}.jsonl")
    with pytest.raises(ConfigError, match=message) as caught:
        load_tasks(settings(*tasks.split(), data_dir=str(data_dir)))
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("kinds_are_known")
def test_data_that_only_a_script_or_the_network_gives_are_named() -> None:
    with pytest.raises(ConfigError, match=r"^evaluation\.tasks=\[kinds_scripted\] .*evaluation\.data_dir=DIR"):
        load_tasks(settings("kinds_scripted"))


@pytest.mark.usefixtures("kinds_are_known")
def test_an_answer_that_leaves_no_room_for_the_question_is_refused(embedded_base: Base, data_dir: Path) -> None:
    asked = settings("kinds_filters", data_dir=str(data_dir), gen_kwargs={"max_gen_toks": 256})
    with pytest.raises(ConfigError, match=r"a model of 256 tokens write 256, got kinds_filters; .*max_gen_toks: 64}"):
        evaluated(embedded_base.model, embedded_base.tokenizer, asked)


@pytest.mark.usefixtures("kinds_are_known")
def test_a_task_whose_code_fails_on_an_answer_is_named(embedded_base: Base, data_dir: Path) -> None:
    for split, rows in (("train", "pool"), ("test", "items")):
        (data_dir / f"kinds_broken_{split}.jsonl").symlink_to(KINDS / f"{rows}.jsonl")
    with pytest.raises(TaskError, match=r"^kinds_broken cannot score an answer: KeyError: '91'"):
        evaluated(embedded_base.model, embedded_base.tokenizer, settings("kinds_broken", data_dir=str(data_dir)))
