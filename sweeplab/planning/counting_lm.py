"""lm-eval's model class on a base without weights: it counts what is read and written, and computes nothing."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from sweeplab.evaluation.lm import CohortLM
from sweeplab.evaluation.shared_context import AnswerBatch, AnswerRequest


class CountingLM(CohortLM):
    """Counts what is read and written instead of computing it."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.answers: dict[str, int] = {}  # tokens of the longest right answer, by task
        self.task = ""  # whose requests are asked for now, where they are asked for task by task
        self.forget_counts()

    def forget_counts(self) -> None:
        self.tokens, self.steps, self.most_steps = Counter[str](), Counter[str](), Counter[str]()
        self.rows = self.after = 0

    def _find_difference(self, pairs: Any, item: Any) -> str | None:
        return None

    def _loglikelihood_tokens(self, requests: list[Any], **kwargs: Any) -> list[tuple[float, bool]]:
        pairs = [AnswerRequest(context, answer) for _, context, answer in requests]
        if self._is_sharing_exact(pairs):
            self._score_shared(pairs, self.items)
        else:
            self._score_separately(pairs)
        return [(0.0, False)] * len(requests)

    def _score_batches(self, batches: Iterable[AnswerBatch], num_requests: int) -> list[tuple[float, bool]]:
        for batch in batches:
            for request in dict(zip(batch.rows_M.tolist(), batch.requests_M.tolist(), strict=True)).values():
                self.tokens[self._find_task(request)] += batch.ids_BT.shape[1]
        return []

    def _find_task(self, request: int) -> str:
        """Of a log-likelihood that is computed now."""
        item: Any = self.items[request] if self.items else (self.task, None)
        return str(item[0])

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        return super().loglikelihood(requests, disable_tqdm=True)

    def _by_task(self, ask: Callable[..., list[Any]], requests: Sequence[Any]) -> list[Any]:
        answers = []
        for self.task in dict.fromkeys(one.task_name for one in requests):
            answers += ask([one for one in requests if one.task_name == self.task], disable_tqdm=True)
        return answers

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        return self._by_task(super().generate_until, requests)

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        return self._by_task(super().loglikelihood_rolling, requests)

    def _model_generate(self, context: Tensor, max_length: int, stop: list[str], **kwargs: Any) -> Tensor:
        rows, length = context.shape
        most = max_length - length
        self.tokens[self.task] += rows * length
        self.steps[self.task] += min(most, self.answers.get(self.task, most) + 1)  # what ends it is written, too
        self.most_steps[self.task] += most
        self.rows, self.after = max(self.rows, rows), max(self.after, length)
        return torch.zeros(rows, length + 1, dtype=torch.long)
