"""The small world as lm-eval tasks: each skill as a question to answer and as a choice of four."""

import random
from typing import Any, Final

from sweeplab.builtin.world import SKILLS, TARGETS, make_skill_items, make_wrong_answers

_PREFIX: Final = "tiny_"
_CHOICE: Final = "_choice"
_PROMPT: Final = "{{instruction}}\n{% if input %}{{input}}\n{% endif %}"
_MAX_ANSWER_TOKENS: Final = 16


def make_documents(skill: str) -> dict[str, Any]:
    """lm-eval's splits: the held-out items, each with its four choices and the place of the right one."""
    from datasets import Dataset

    rows = []
    for item in make_skill_items(skill):
        choices = [item["output"], *make_wrong_answers(item, skill)]
        random.Random(f"order {item['instruction']} {item['input']}").shuffle(choices)
        rows.append({**item, "choices": choices, "label": choices.index(item["output"])})
    return {"test": Dataset.from_list(rows)}


def _make_task(skill: str, choice: bool) -> dict[str, Any]:
    """lm-eval's own task configuration; metrics exact_match for answers, acc for choices."""
    common = {
        "task": f"{_PREFIX}{skill}{_CHOICE if choice else ''}",
        "custom_dataset": lambda **_: make_documents(skill),
        "test_split": "test",
        "doc_to_text": _PROMPT,
        "target_delimiter": "",
        "metadata": {"version": 1.0},
    }
    if choice:
        return common | {
            "output_type": "multiple_choice",
            "doc_to_choice": "choices",
            "doc_to_target": "label",
            "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        }
    return common | {
        "output_type": "generate_until",
        "doc_to_target": "output",
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": _MAX_ANSWER_TOKENS, "do_sample": False},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }


WORLD_TASKS: Final = {
    task["task"]: task
    for skill in (*SKILLS, *TARGETS)
    for choice in (False, True)
    for task in (_make_task(skill, choice),)
}
