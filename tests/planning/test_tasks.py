"""What tasks ask of a base, against the tokens that go through a real one while lm-eval scores it."""

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from sweeplab.config.executor import LocalWorkers
from sweeplab.config.trial import TrialConfig
from sweeplab.evaluation import lm
from sweeplab.evaluation.harness import run_lm_eval
from sweeplab.evaluation.lm import CohortLM
from sweeplab.planning import tasks
from sweeplab.planning.tasks import NO_TASKS, count_evaluation_work
from sweeplab.records.plan import PlannedTask
from sweeplab.runtime.errors import ConfigError
from sweeplab.trial.resources import Resources
from tests.trials import Compose

FLOAT = torch.float32


def planned(task: str, *counts: int) -> PlannedTask:
    return PlannedTask(
        task=task, **dict(zip(("num_items", "num_tokens", "num_steps", "most_steps"), counts, strict=True))
    )


def count_real_tokens(config: TrialConfig) -> tuple[int, int]:
    """Entries of the ids of all texts that the base is given while it is scored, and its forwards."""
    resources = Resources.open(LocalWorkers(device="cpu", num_workers=1, cohort_size=1, on_out_of_memory="skip"))
    base = resources.base_for(config)
    shapes: list[torch.Size] = []

    def note(_: Any, args: Any, named: dict[str, Any]) -> None:
        shapes.append(named["input_ids"].shape)

    base.model.register_forward_pre_hook(note, with_kwargs=True)
    run_lm_eval(base.model, base.tokenizer, config.evaluation, 1, lambda _: nullcontext())
    return sum(rows * length for rows, length in shapes if length > 1), len(shapes)


@pytest.mark.parametrize("batch_size", [4, 64])
@pytest.mark.parametrize("shares", [True, False])
def test_choices_read_what_scoring_reads(
    compose_trial: Compose, monkeypatch: pytest.MonkeyPatch, batch_size: int, shares: bool
) -> None:
    """Beside it scoring compares the longest item in both ways, and scores close ones again: left out here."""
    monkeypatch.setattr(tasks, "_counted", {})  # what was counted with the other way
    monkeypatch.setattr(CohortLM, "_find_difference", lambda *_: None)
    monkeypatch.setattr(lm, "find_close_calls", lambda *_: set())
    config = compose_trial(
        "evaluation.tasks=[tiny_old_facts_choice]", "evaluation.limit=12", f"evaluation.batch_size={batch_size}"
    )
    if not shares:
        monkeypatch.setattr(lm, "_is_maskable", lambda _: False)
    work = count_evaluation_work(config, FLOAT)
    assert work is not None
    assert work.tasks == (planned("tiny_old_facts_choice", 12, count_real_tokens(config)[0], 0, 0),)


def test_answers_are_written_for_as_long_as_the_right_ones(
    compose_trial: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The base knows the old facts: its responses are the right answers. Beside it a batch is tried once for the model:
    left out here."""
    monkeypatch.setattr(lm, "find_batch_effect", lambda *_: None)
    config = compose_trial(
        "evaluation.tasks=[tiny_old_facts]", "evaluation.limit=12", "evaluation.batch_size=4", "quantization=none"
    )
    work = count_evaluation_work(config, FLOAT)
    assert work is not None
    (task,) = work.tasks
    read, num_forwards = count_real_tokens(config)
    assert task.num_tokens == read
    assert (task.num_items, work.written_rows, task.most_steps) == (12, 4, 3 * 16)
    assert num_forwards <= task.num_steps <= 1.5 * num_forwards  # of all batches the longest answer counts
    assert task.num_steps < task.most_steps


def test_lm_evals_own_files_are_counted(compose_trial: Compose, tmp_path: Path) -> None:
    rows = [{"sentence_good": "a b c", "sentence_bad": "a c b"}, {"sentence_good": "d e", "sentence_bad": "e d"}]
    (tmp_path / "blimp_causative.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    config = compose_trial("evaluation.tasks=[blimp_causative]", f"evaluation.data_dir={tmp_path}")
    work = count_evaluation_work(config, FLOAT)
    assert work is not None
    # a token before both sentences of an item, a blank, and no last character: 1 + 5 + 5, and the shorter as long
    assert work.tasks == (planned("blimp_causative", 2, 2 * 11, 0, 0),)


def test_an_own_task_is_counted(compose_trial: Compose, tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text("\n".join(json.dumps({"question": f"{n} + 1 =", "answer": f"{n + 1}"}) for n in range(5)))
    config = compose_trial("evaluation=own", f"evaluation.path={path}", "evaluation.max_tokens=8")
    work = count_evaluation_work(config, FLOAT)
    assert work is not None
    # "0 + 1 =" and the line's end are 8 characters, a token each, in one batch; an answer is one, and what ends it
    assert work.tasks == (planned("own", 5, 5 * 8, 2, 8),)


def test_what_cannot_be_known_is_not_invented(compose_trial: Compose) -> None:
    assert count_evaluation_work(compose_trial("evaluation=none"), FLOAT) == NO_TASKS
    assert count_evaluation_work(compose_trial("evaluation.tasks=[arc_easy]"), FLOAT) is None  # it is on the hub


def test_what_the_run_would_refuse_the_plan_does(compose_trial: Compose, tmp_path: Path) -> None:
    config = compose_trial("evaluation.tasks=[blimp_causative]", f"evaluation.data_dir={tmp_path}")
    with pytest.raises(ConfigError, match="blimp_causative"):
        count_evaluation_work(config, FLOAT)
