"""All task files of the installed lm-eval, unrun: direction and main metric of each task are as its file says."""

from collections.abc import Iterator
from typing import Any

import pytest
from lm_eval.api.registry import is_higher_better
from lm_eval.tasks._index import Kind

from sweeplab.evaluation.catalog import make_task_manager
from sweeplab.records.metrics import choose_headline, direction, split_filter

SOME = ("arc", "glue", "gsm8k", "hellaswag", "lambada", "lingoly", "realtoxicityprompts", "wikitext", "wmt2016")


def list_tasks(folders: tuple[str, ...] | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and configuration of each task, without the code that it refers to."""
    for name, entry in make_task_manager(folders, None).task_index.items():
        if entry.kind is Kind.TASK:
            yield name, entry.cfg


@pytest.mark.parametrize("folders", [SOME, pytest.param(None, marks=pytest.mark.slow)], ids=["some", "all"])
def test_direction_and_main_metric_of_every_task(folders: tuple[str, ...] | None) -> None:
    num_metrics = 0
    for task, config in list_tasks(folders):
        metrics = [one for one in config.get("metric_list") or () if "/" not in str(one["metric"])]  # not a function
        filters = [one["name"] for one in config.get("filter_list") or ()] or ["none"]
        names = [
            one["metric"] if chosen == "none" else f"{one['metric']}@{chosen}" for one in metrics for chosen in filters
        ]
        for name in names:
            metric = next(one for one in metrics if one["metric"] == name or name.startswith(f"{one['metric']}@"))
            rises = metric.get("higher_is_better", is_higher_better(metric["metric"]))
            if rises is not None:
                assert direction(f"scores.{task}.{name}") == ("maximize" if rises else "minimize"), (task, name)
                num_metrics += 1
        if names:
            headline = choose_headline(task, names)
            assert headline in names
            assert choose_headline(task, names, [f"scores.{task}.{names[-1]}"]) == names[-1]
            if task.startswith(("arc_challenge", "arc_eu_challenge", "hellaswag")) and "acc_norm" in names:
                assert split_filter(headline)[0] == "acc_norm", task
    assert num_metrics > (30 if folders else 13_000)
