"""Log-likelihoods of several answers to one question, whose tokens are computed once and not once an answer."""

from collections.abc import Hashable, Iterator, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

_ROUNDING: Final = 1e-5  # ten times what another order of sums in 32 bits moved a log-likelihood by, relative to it


class AnswerRequest(NamedTuple):
    """Tokens of a question and of one answer to it, neither of them empty."""

    context: list[int]
    answer: list[int]


class ContextRow(NamedTuple):
    """A question and the places, among the requests, of the answers that follow it beside one another."""

    context: list[int]
    places: list[int]
    num_tokens: int


class _PackedContexts(NamedTuple):
    """B rows of T tokens, and for each of M answer tokens where it is predicted, what it is and whose it is."""

    ids_BT: Tensor
    positions_BT: Tensor
    mask_B1TT: Tensor  # true where the query of the row (dim 2) sees the key (dim 3)
    rows_M: Tensor
    columns_M: Tensor
    targets_M: Tensor
    places_M: Tensor


def group_rows(requests: Sequence[AnswerRequest], items: Sequence[Hashable]) -> list[ContextRow]:
    """A row for each question of each item, the longest first."""
    places: dict[tuple[Hashable, tuple[int, ...]], list[int]] = {}
    for place, (request, item) in enumerate(zip(requests, items, strict=True)):
        places.setdefault((item, tuple(request.context)), []).append(place)
    rows = []
    for answers in places.values():
        context = requests[answers[0]].context
        num_tokens = len(context) + sum(len(requests[place].answer) - 1 for place in answers)
        rows.append(ContextRow(context, answers, num_tokens))
    return sorted(rows, key=lambda row: -row.num_tokens)


def split_batches(
    rows: Sequence[ContextRow], requests: Sequence[AnswerRequest], batch_size: int
) -> Iterator[list[ContextRow]]:
    """As many rows at a time as have no more tokens, padding included, than `batch_size` answers with their questions.

    A row that is longer than that comes alone.
    """
    start = 0
    while start < len(rows):
        longest = max(len(rows[start].context) + len(requests[place].answer) - 1 for place in rows[start].places)
        num_rows = max(1, batch_size * longest // rows[start].num_tokens)
        yield list(rows[start : start + num_rows])
        start += num_rows


def pack_rows(rows: Sequence[ContextRow], requests: Sequence[AnswerRequest]) -> _PackedContexts:
    """Each row's question, then its answers, each of which sees the question and itself, and stands right after it."""
    width = max(row.num_tokens for row in rows)
    ids_BT = torch.zeros(len(rows), width, dtype=torch.long)
    positions_BT = torch.zeros(len(rows), width, dtype=torch.long)
    owners_BT = torch.full((len(rows), width), -1)  # 0 the question, 1 and on its answers, -1 padding
    targets: list[tuple[int, int, int, int]] = []
    for number, row in enumerate(rows):
        start = len(row.context)
        ids, positions, owners = list(row.context), list(range(start)), [0] * start
        for owner, place in enumerate(row.places, start=1):
            answer = requests[place].answer
            columns = [start - 1, *range(len(ids), len(ids) + len(answer) - 1)]
            targets += [(number, column, token, place) for column, token in zip(columns, answer, strict=True)]
            ids += answer[:-1]
            positions += range(start, start + len(answer) - 1)
            owners += [owner] * (len(answer) - 1)
        ids_BT[number, : len(ids)] = torch.tensor(ids)
        positions_BT[number, : len(ids)] = torch.tensor(positions)
        owners_BT[number, : len(ids)] = torch.tensor(owners)
    queries_BT1, keys_B1T = owners_BT[:, :, None], owners_BT[:, None, :]
    sees_BTT = ((queries_BT1 == keys_B1T) | ((keys_B1T == 0) & (queries_BT1 > 0))).tril()
    return _PackedContexts(ids_BT, positions_BT, sees_BTT[:, None], *torch.tensor(targets).T)


def read_answers(logits_BTV: Tensor, packed: _PackedContexts, num_requests: int) -> tuple[Tensor, Tensor]:
    """Log-likelihoods in nats and whether every token is the likeliest one, both by request, 0 and true elsewhere."""
    device = logits_BTV.device
    places_M, targets_M = packed.places_M.to(device), packed.targets_M.to(device)
    logits_MV = logits_BTV[packed.rows_M.to(device), packed.columns_M.to(device)]
    chosen_M = F.log_softmax(logits_MV, dim=-1).gather(1, targets_M[:, None])[:, 0]
    sums_N = chosen_M.new_zeros(num_requests).index_add(0, places_M, chosen_M)
    misses_N = torch.zeros(num_requests, dtype=torch.long, device=device)
    misses_N = misses_N.index_add(0, places_M, (logits_MV.argmax(dim=-1) != targets_M).long())
    return sums_N.cpu(), (misses_N == 0).cpu()


def bound_rounding(value: float) -> float:
    """How far two ways to compute the log-likelihood `value`, in nats, may be apart."""
    return _ROUNDING * max(1.0, abs(value))


def find_close_calls(values: Sequence[float], lengths: Sequence[int], items: Sequence[Hashable]) -> set[Hashable]:
    """Items with two answers that rounding could swap, by their log-likelihood or by that a character."""
    by_item: dict[Hashable, list[int]] = {}
    for place, item in enumerate(items):
        by_item.setdefault(item, []).append(place)
    close = set()
    for item, places in by_item.items():
        widest = 2 * max(bound_rounding(values[place]) for place in places)
        shortest = max(1, min(lengths[place] for place in places))
        whole = sorted(values[place] for place in places)
        scaled = sorted(values[place] / max(1, lengths[place]) for place in places)
        if any(right - left < widest for left, right in pairwise(whole)) or any(
            right - left < widest / shortest for left, right in pairwise(scaled)
        ):
            close.add(item)
    return close
