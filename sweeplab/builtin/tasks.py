"""The small world as lm-eval tasks: each skill as a question to answer and as a choice of four."""

import random
from typing import Any, Final

from sweeplab.builtin.world import SKILLS, TARGETS, skill_items, wrong_answers

PREFIX: Final = "tiny_"
CHOICE: Final = "_choice"
PROMPT: Final = "{{instruction}}\n{% if input %}{{input}}\n{% endif %}"
MAX_ANSWER_TOKENS: Final = 16


def documents(skill: str) -> dict[str, Any]:
    """lm-eval's splits: the held-out items, each with its four choices and the place of the right one."""
    from datasets import Dataset

    rows = []
    for item in skill_items(skill):
        choices = [item["output"], *wrong_answers(item, skill)]
        random.Random(f"order {item['instruction']} {item['input']}").shuffle(choices)
        rows.append({**item, "choices": choices, "label": choices.index(item["output"])})
    return {"test": Dataset.from_list(rows)}


def task(skill: str, choice: bool) -> dict[str, Any]:
    """lm-eval's own task configuration; metrics exact_match for answers, acc for choices."""
    common = {
        "task": f"{PREFIX}{skill}{CHOICE if choice else ''}",
        "custom_dataset": lambda **_: documents(skill),
        "test_split": "test",
        "doc_to_text": PROMPT,
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
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": MAX_ANSWER_TOKENS, "do_sample": False},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }


WORLD_TASKS: Final = {
    made["task"]: made for skill in (*SKILLS, *TARGETS) for choice in (False, True) for made in (task(skill, choice),)
}
