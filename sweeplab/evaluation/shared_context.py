"""Questions and answers as rows of a batch: each answer with its question, or all answers behind one question."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

import torch
from torch import Tensor

_ROUNDING: Final = 1e-5  # ten times the measured relative change of a log-likelihood by another order of float32 sums


class SharingRule(NamedTuple):
    """Which texts a model may compute together."""

    why_unshared: Callable[[int], str | None] = lambda longest: None  # tokens of the longest -> why none share a row
    growing_length: int | None = None  # texts of more tokens share a batch with those of their own length only


FREELY: Final = SharingRule()


class AnswerRequest(NamedTuple):
    """The tokens of a question and of one answer to it; neither is empty."""

    context: list[int]
    answer: list[int]


class _ContextRow(NamedTuple):
    """A question, and the indices of the requests whose answers follow it in one row."""

    context: list[int]
    requests: list[int]
    num_tokens: int


class AnswerBatch(NamedTuple):
    """B rows of T tokens; for each of M answer tokens the row and column that predict it, the token, its request.

    The tokens of a request come one after another.
    """

    ids_BT: Tensor
    rows_M: Tensor
    columns_M: Tensor
    targets_M: Tensor
    requests_M: Tensor
    mask_B1TT: Tensor | None = None  # true where the query (dim 2) attends to the key (dim 3); None: to all before it
    positions_BT: Tensor | None = None  # None: the columns

    @property
    def predicted(self) -> tuple[Tensor, Tensor, Tensor]:
        """Row, column and token of each of the answers' tokens."""
        return self.rows_M, self.columns_M, self.targets_M


def group_rows(requests: Sequence[AnswerRequest], items: Sequence[Hashable]) -> list[_ContextRow]:
    """A row for each question of each item, the longest first."""
    by_question: dict[tuple[Hashable, tuple[int, ...]], list[int]] = {}
    for index, (request, item) in enumerate(zip(requests, items, strict=True)):
        by_question.setdefault((item, tuple(request.context)), []).append(index)
    rows = []
    for indices in by_question.values():
        context = requests[indices[0]].context
        num_tokens = len(context) + sum(len(requests[index].answer) - 1 for index in indices)
        rows.append(_ContextRow(context, indices, num_tokens))
    return sorted(rows, key=lambda row: -row.num_tokens)


def split_batches(
    rows: Sequence[_ContextRow], requests: Sequence[AnswerRequest], batch_size: int
) -> Iterator[list[_ContextRow]]:
    """Batches of rows; with padding, each has at most as many tokens as `batch_size` answers with their questions.

    A row that has more tokens is a batch by itself.
    """
    start = 0
    while start < len(rows):
        longest = max(len(rows[start].context) + len(requests[index].answer) - 1 for index in rows[start].requests)
        num_rows = max(1, batch_size * longest // rows[start].num_tokens)
        yield list(rows[start : start + num_rows])
        start += num_rows


def pack_rows(rows: Sequence[_ContextRow], requests: Sequence[AnswerRequest]) -> AnswerBatch:
    """Rows of a question and its answers. Each answer attends to the question and itself only, and its positions begin
    right after the question."""
    width = max(row.num_tokens for row in rows)
    ids_BT = torch.zeros(len(rows), width, dtype=torch.long)
    positions_BT = torch.zeros(len(rows), width, dtype=torch.long)
    owners_BT = torch.full((len(rows), width), -1)  # 0: the question, from 1: its answers, -1: padding
    targets: list[tuple[int, int, int, int]] = []
    for number, row in enumerate(rows):
        start = len(row.context)
        ids, positions, owners = list(row.context), list(range(start)), [0] * start
        for owner, request in enumerate(row.requests, start=1):
            answer = requests[request].answer
            columns = [start - 1, *range(len(ids), len(ids) + len(answer) - 1)]
            targets += [(number, column, token, request) for column, token in zip(columns, answer, strict=True)]
            ids += answer[:-1]
            positions += range(start, start + len(answer) - 1)
            owners += [owner] * (len(answer) - 1)
        ids_BT[number, : len(ids)] = torch.tensor(ids)
        positions_BT[number, : len(ids)] = torch.tensor(positions)
        owners_BT[number, : len(ids)] = torch.tensor(owners)
    queries_BT1, keys_B1T = owners_BT[:, :, None], owners_BT[:, None, :]
    mask_BTT = ((queries_BT1 == keys_B1T) | ((keys_B1T == 0) & (queries_BT1 > 0))).tril()
    rows_M, columns_M, targets_M, requests_M = torch.tensor(targets).T
    return AnswerBatch(ids_BT, rows_M, columns_M, targets_M, requests_M, mask_BTT[:, None], positions_BT)


def make_separate_batches(
    requests: Sequence[AnswerRequest], batch_size: int, max_length: int, growing_length: int | None = None
) -> Iterator[AnswerBatch]:
    """Each answer behind its own question, as lm-eval has them: the longest first, padded with 0 on the right, too long
    ones cut on the left; requests of the same tokens, the last one apart, are one row. `growing_length`: of
    `SharingRule`."""
    by_tokens: dict[tuple[int, ...], list[int]] = {}
    tokens = [(one.context + one.answer)[-(max_length + 1) :] for one in requests]
    for index in sorted(range(len(requests)), key=lambda index: (-len(tokens[index]), tokens[index])):
        by_tokens.setdefault(tuple(tokens[index][:-1]), []).append(index)
    rows, start = list(by_tokens.items()), 0
    while start < len(rows):
        width, part = len(rows[start][0]), rows[start : start + batch_size]
        if growing_length is not None and width > growing_length:
            part = [one for one in part if len(one[0]) == width]
        start += len(part)
        ids_BT = torch.zeros(len(part), width, dtype=torch.long)
        targets: list[tuple[int, int, int, int]] = []
        for number, (row, indices) in enumerate(part):
            ids_BT[number, : len(row)] = torch.tensor(row)
            for index in indices:
                answer = requests[index].answer
                columns = range(len(row) - len(answer), len(row))
                targets += [(number, column, token, index) for column, token in zip(columns, answer, strict=True)]
        rows_M, columns_M, targets_M, requests_M = torch.tensor(targets).T
        yield AnswerBatch(ids_BT, rows_M, columns_M, targets_M, requests_M)


def sum_answers(batch: AnswerBatch, logs_M: Tensor, likeliest_M: Tensor) -> Iterator[tuple[int, float, bool]]:
    """Each request of the batch, its log-likelihood in nats, and whether each of its tokens is the most likely one."""
    requests, counts = batch.requests_M.unique_consecutive(return_counts=True)
    sizes = counts.tolist()
    parts = zip(requests.tolist(), logs_M.cpu().split(sizes), likeliest_M.cpu().split(sizes), strict=True)
    for request, logs, likeliest in parts:
        yield request, float(logs.sum()), bool(likeliest.all())


def bound_likelihood_rounding(value: float) -> float:
    """The largest difference that rounding explains between two ways to compute the log-likelihood `value`, in nats."""
    return _ROUNDING * max(1.0, abs(value))


def find_close_calls(values: Sequence[float], lengths: Sequence[int], items: Sequence[Hashable]) -> set[Hashable]:
    """Items with two answers whose order rounding could change, by log-likelihood, or by that per character."""
    by_item: dict[Hashable, list[int]] = {}
    for index, item in enumerate(items):
        by_item.setdefault(item, []).append(index)
    close = set()
    for item, indices in by_item.items():
        widest = 2 * max(bound_likelihood_rounding(values[index]) for index in indices)
        shortest = max(1, min(lengths[index] for index in indices))
        plain = sorted(values[index] for index in indices)
        scaled = sorted(values[index] / max(1, lengths[index]) for index in indices)
        if any(right - left < widest for left, right in pairwise(plain)) or any(
            right - left < widest / shortest for left, right in pairwise(scaled)
        ):
            close.add(item)
    return close
