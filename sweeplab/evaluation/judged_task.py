"""The task `own` with `evaluation.score=judge`: each response against a reference, asked in both orders."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from sweeplab.config.evaluation import OWN_TASK, EvaluationConfig
from sweeplab.config.own_items import Item, list_answers
from sweeplab.evaluation.answers import extract_answer
from sweeplab.evaluation.judge import Judge, Question
from sweeplab.evaluation.own_task import OwnTask, make_own_task
from sweeplab.records.judged import describe_judge
from sweeplab.records.store import StoreError, read_json_lines

JUDGED_METRICS: Final = ("win_rate", "first_rate", "unreadable")
_OF_VERDICT: Final = {"A": 1.0, "C": 0.5, "B": 0.0}


class Outcome(NamedTuple):
    """Of a response against its reference, each a number from 0 to 1."""

    win_rate: float  # 1 where it is better in both orders, 0 where it is worse in both, else .5
    first_rate: float  # of the two verdicts, the share for the response that was shown first; a tie is .5
    unreadable: float  # of the two verdicts, the share that names no winner and no tie


UNASKED: Final = Outcome(0.5, 0.5, 0.0)  # equal texts, which nobody has to compare


def read_outcome(as_first: str | None, as_second: str | None) -> Outcome:
    """What two verdicts say: of the response shown first, and of it shown second. One that cannot be read is none, so
    that the item is a tie and says nothing of the judge's preference for a place."""
    unreadable = (as_first is None) / 2 + (as_second is None) / 2
    if as_first is None or as_second is None:
        return Outcome(0.5, 0.5, unreadable)
    first_rate = (_OF_VERDICT[as_first] + _OF_VERDICT[as_second]) / 2
    return Outcome({("A", "B"): 1.0, ("B", "A"): 0.0}.get((as_first, as_second), 0.5), first_rate, 0.0)


class References(NamedTuple):
    """Whom responses are judged by, and what they are compared with."""

    judge: Judge
    base: Mapping[int, str] | None  # the base's responses by item; None: the items' own answers


class JudgedTask(OwnTask):
    """Asks the judge about all responses at once, before lm-eval scores one by one."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.asked: EvaluationConfig = config["judged"]
        self.references: References | None = None  # None: the base against itself, and a plan, which ask nobody
        self.outcomes: dict[str, Outcome] = {}
        super().__init__({key: value for key, value in config.items() if key != "judged"})

    def apply_filters(self) -> Any:
        filtered = super().apply_filters()
        self.outcomes = {} if self.references is None else self._judge(self.references)
        return filtered

    def _judge(self, references: References) -> dict[str, Outcome]:
        """By item and response. Raises `JudgeError` and `StoreError`."""
        pairs: dict[str, tuple[Question, Question]] = {}
        for request in self.instances:
            response = self._read_response(request.filtered_resps["none"])
            if references.base is None:
                reference = str(list_answers(request.doc)[0])
            else:
                reference = self._read_response(references.base[request.doc_id])
            if response.strip() != reference.strip():
                text = _write_request(request.doc)
                pairs[_identify(request.doc, response)] = (
                    Question(text, response, reference),
                    Question(text, reference, response),
                )
        verdicts = references.judge.compare([one for pair in pairs.values() for one in pair])
        return {key: read_outcome(*verdicts[2 * place : 2 * place + 2]) for place, key in enumerate(pairs)}

    def _read_response(self, text: str) -> str:
        return extract_answer(text, self.asked.extract)

    def process_results(self, doc: Item, results: Sequence[str]) -> dict[str, float]:
        return self.outcomes.get(_identify(doc, self._read_response(results[0])), UNASKED)._asdict()


def make_judged_task(asked: EvaluationConfig) -> dict[str, Any]:
    """lm-eval's configuration of the task `own`, whose responses are judged."""
    metrics = [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in JUDGED_METRICS]
    own = {"class": JudgedTask, "judged": asked, "metric_list": metrics, "process_results": _leave_unasked}
    return make_own_task(asked) | own


def _leave_unasked(doc: Item, results: Sequence[str]) -> dict[str, float]:
    """In lm-eval's copies of the configuration, which it writes down; the task has its own way."""
    return UNASKED._asdict()


@contextmanager
def judging(loaded: Mapping[str, Any], references: References | None) -> Iterator[None]:
    """Within it the task `own`, of lm-eval's loaded tasks, compares its responses with these references."""
    judged = [task for task in loaded["tasks"].values() if isinstance(task, JudgedTask)]
    for task in judged:
        task.references = references
    try:
        yield
    finally:  # the tasks are kept, and a plan scores them, too
        for task in judged:
            task.references = None


def list_judge_notes(rows: Sequence[dict[str, Any]]) -> list[str]:
    """What the results of a trial by item say of its judge."""
    metrics = [row["metrics"] for row in rows if row.get("task") == OWN_TASK]
    return describe_judge([one["first_rate"] for one in metrics], [one["unreadable"] for one in metrics])


def _identify(item: Item, response: str) -> str:
    return json.dumps([item, response], sort_keys=True)


def _write_request(item: Item) -> str:
    """An item as the judge reads it."""
    messages = item.get("messages")
    if messages is None:
        return str(item["question"])
    return "\n\n".join(f"{one['role']}: {one['content']}" for one in messages)


def read_base_responses(path: Path) -> dict[int, str]:
    """The base's responses to the task `own` by item, from its `items.jsonl`. Raises `StoreError`."""
    rows = [row for row in read_json_lines(path) if row.get("task") == OWN_TASK]
    try:
        return {int(row["item"]): str(row["responses"][0]) for row in rows}
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise StoreError(f"{path} cannot be read: {error!r}; move the folder out of the way") from error
