"""What the tasks of this folder run of their own, as lm-eval's tasks do: documents, prompts, results, aggregations."""

import random
from typing import Any

import numpy as np
from sklearn.metrics import f1_score


def first_five(documents: Any) -> Any:
    return documents.select(range(5))


def shuffle_choices(documents: Any) -> Any:
    def shuffle(document: dict[str, Any]) -> dict[str, Any]:
        right = document["choices"][document["label"]]
        choices = random.sample(document["choices"], len(document["choices"]))
        return {"choices": choices, "label": choices.index(right)}

    return documents.map(shuffle)


def ask(document: dict[str, Any]) -> str:
    return f"{document['instruction']}\n"


def compare(document: dict[str, Any], results: list[str]) -> dict[str, float]:
    """With a number that not every item has, and one that no aggregation is named for."""
    numeric = float(results[0] == document["output"]) if document["output"].isdigit() else np.nan
    length = float(len(results[0]))
    sparse = {"sparse": numeric} if document["output"].isdigit() else {}  # of some items only
    return sparse | {"length": length, "longest": length, "numeric": numeric, "unnamed": float("a" in results[0])}


def longest(lengths: list[float]) -> float:
    return max(lengths)


def weighted_f1(pairs: list[tuple[int, int]]) -> float:
    golds, predictions = zip(*pairs, strict=True)
    return float(f1_score(golds, predictions, average="weighted"))


def fail(document: dict[str, Any], results: list[str]) -> dict[str, float]:
    raise KeyError(document["output"])


def end(documents: Any) -> Any:
    raise SystemExit("Prolog is not installed")
