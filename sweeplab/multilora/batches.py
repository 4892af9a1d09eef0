"""Micro-batches of many trials at once: the rows of the first trial, then as many of the second, and so on."""

from collections.abc import Iterator, Sequence
from itertools import islice, repeat
from typing import Final, NamedTuple

from torch import Tensor

from sweeplab.data.batches import Batch, MicroBatch, Row, Windows, collate_rows, make_filler_row
from sweeplab.data.images import ImageBatch
from sweeplab.runtime.process_group import ONE_PROCESS, Ranks

NOTHING: Final = MicroBatch((), 0)  # a small window may end before the others do


class Share(NamedTuple):
    """What one trial has of a micro-batch, on all devices. All trials are padded to as many rows and columns."""

    num_rows: int
    num_columns: int  # of its own longest row
    num_tokens: int  # padding not counted
    num_targets: int  # on this device
    num_window_targets: int  # target tokens of its whole accumulation window


class CohortBatch(NamedTuple):
    """One micro-batch of K trials: K times as many rows as the largest of them has, or this device's share of them."""

    rows: Batch | ImageBatch
    shares: tuple[Share, ...]


def share_of(rows: Sequence[Row], num_window_targets: int, ranks: Ranks) -> Share:
    lengths = [row.num_tokens for row in rows]
    num_targets = sum(row.num_targets for row in rows[ranks.rows])
    return Share(len(rows), max(lengths, default=0), sum(lengths), num_targets, num_window_targets)


def cut(batch: Batch | ImageBatch, rows: slice) -> Batch | ImageBatch:
    """Some rows of a batch, as wide as it is."""
    return type(batch)(*(part[rows] if isinstance(part, Tensor) else part for part in batch))  # type: ignore[arg-type]


def combined(
    parts: Sequence[tuple[Sequence[Row], int]], example: Row, pad_id: int, ranks: Ranks = ONE_PROCESS
) -> CohortBatch:
    """One batch of every trial's rows, each with the number of targets of its window.

    A trial with fewer rows than another gets more that move nothing, of the kind of `example`. Of `ranks` each has as
    many rows of every trial, as wide as the longest of all.
    """
    num_rows = ranks.round_up_rows(max(1, *(len(rows) for rows, _ in parts)) if parts else 1)
    filler = make_filler_row(example, pad_id)
    filled = [row for rows, _ in parts for row in (*rows, *repeat(filler, num_rows - len(rows)))]
    return CohortBatch(
        cut(collate_rows(filled, pad_id, 0), ranks.rows),
        tuple(share_of(rows, num_targets, ranks) for rows, num_targets in parts),
    )


def cohort_batches(
    trials: Sequence[tuple[Windows, int]], pad_id: int, ranks: Ranks = ONE_PROCESS
) -> Iterator[CohortBatch]:
    """Micro-batches without end, of trials that have finished so many steps; as many in every window."""
    streams = [windows.iterate_from(step) for windows, step in trials]
    accumulation = trials[0][0].accumulation
    while True:
        columns = [list(islice([*next(stream), *repeat(NOTHING, accumulation)], accumulation)) for stream in streams]
        for micros in zip(*columns, strict=True):
            parts = [
                ([windows.rows[index] for index in micro.indices], micro.num_window_targets)
                for (windows, _), micro in zip(trials, micros, strict=True)
            ]
            yield combined(parts, trials[0][0].rows[0], pad_id, ranks)


def longest_batch(trials: Sequence[Windows], pad_id: int, ranks: Ranks = ONE_PROCESS) -> CohortBatch:
    """A micro-batch of every trial's longest rows: what needs the most memory and time."""
    parts = []
    for windows in trials:
        rows = sorted(windows.rows, key=lambda row: -row.num_tokens)[: windows.micro_batch_size]
        parts.append((rows, sum(row.num_targets for row in rows)))
    return combined(parts, trials[0].rows[0], pad_id, ranks)
