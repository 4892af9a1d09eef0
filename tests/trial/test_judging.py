"""A whole study with a judge: refused early without one, judged as built in, and nothing is asked twice."""

import json
import shutil
from pathlib import Path

import pytest

from sweeplab.records.record import Status
from sweeplab.records.store import read_base_scores, read_json_lines, read_records, record_path, trial_folder
from tests.judges import standin_judge
from tests.study_runs import SHORT, run_cli

NUM_ITEMS = 8


def prefer_longer(request: str, first: str, second: str) -> str:
    """Text alone decides, whichever place it has."""
    return "[[A]]" if (len(first), first) > (len(second), second) else "[[B]]"


# slow: four commands, each in a process of its own
@pytest.mark.slow
def test_a_study_is_judged_once_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    items = [{"question": f"What is {n}+{n}?", "answer": str(2 * n)} for n in range(NUM_ITEMS)]
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    with standin_judge(prefer_longer) as judge:
        judge.key = "sk-hidden"
        asked = [
            *SHORT, "study.name=judged", "evaluation=judge", "evaluation.path=items.jsonl", "evaluation.max_tokens=4",
            f"evaluation.judge_url={judge.url}", "evaluation.judge_model=m", "evaluation.judge_key_variable=JUDGE_KEY",
            "study.objectives=[scores.own.win_rate]", "optimizer.lr=0.1", "tracking=none", "study.seeds=[0]",
            "++space.adapter.rank.choices=[2,8]", "executor.num_workers=1",
        ]  # fmt: skip
        refused = run_cli(tmp_path, *asked)
        assert refused.returncode == 2
        assert "evaluation.judge_url: the environment variable JUDGE_KEY is not set" in refused.stderr
        assert read_records(tmp_path / "runs" / "judged") == []
        done = run_cli(tmp_path, *asked, JUDGE_KEY=judge.key)
        assert done.returncode == 0, done.stderr
        study = tmp_path / "runs" / "judged"
        records = read_records(study)
        (base,) = read_base_scores(study)
        assert (base.scores["own"]["win_rate"].value, base.scores["own"]["win_rate"].stderr) == (0.5, 0.0)
        (base_items,) = study.glob("base/*.items.jsonl")
        before = read_json_lines(base_items)[1:]
        for record in records:
            rows = read_json_lines(trial_folder(study, record.number) / "items.jsonl")[1:]
            for mine, other in zip(rows, before, strict=True):
                own, its = mine["responses"][0], other["responses"][0]
                won = prefer_longer("", own, its) == "[[A]]"
                assert mine["metrics"]["win_rate"] == (0.5 if own.strip() == its.strip() else float(won))
        num_asked, num_distinct = len(judge.asked), len(set(judge.asked))
        assert num_asked == num_distinct <= 1 + 4 * NUM_ITEMS  # one of them to see whether it is there
        assert num_distinct > 1
        for record in records:  # as if the machine had ended before they were written
            record_path(study, record.number).unlink()
        again = run_cli(tmp_path, *asked, JUDGE_KEY=judge.key)
        assert again.returncode == 0, again.stderr
        assert len(judge.asked) == num_asked + 1
        assert [one.scores for one in read_records(study)] == [one.scores for one in records]
        for file in [one for one in tmp_path.rglob("*") if one.is_file()]:
            assert judge.key.encode() not in file.read_bytes(), file
        shutil.rmtree(study / "verdicts")
        for record in records:
            record_path(study, record.number).unlink()
        judge.break_after = len(judge.asked) + 1
        broken = run_cli(tmp_path, *asked, JUDGE_KEY=judge.key)
    failed = read_records(study)
    assert broken.returncode == 1
    assert {one.status for one in failed} == {Status.FAILED}
    for one in failed:
        assert one.phase == "evaluate"
        assert "the judge at" in str(one.reason)
        assert one.heldout_loss_nats_per_token is not None
        assert list((trial_folder(study, one.number) / "adapter").iterdir())
