"""Micro-batches of several trials: first the rows of trial 0, then as many rows of trial 1, and so on."""

from collections.abc import Iterator, Sequence
from itertools import islice, pairwise, repeat
from typing import Final, NamedTuple

from torch import Tensor, nn

from sweeplab.data.batches import Batch, MicroBatch, Row, Windows, collate_rows, make_filler_row, with_places
from sweeplab.data.images import ImageBatch
from sweeplab.data.tokens import IGNORED
from sweeplab.runtime.process_group import ONE_PROCESS, Ranks

_EMPTY: Final = MicroBatch((), 0)  # fills up an accumulation window that has fewer micro-batches than the others


class Share(NamedTuple):
    """The part of one trial in a micro-batch: counts over all devices, except `num_targets`, and without padding.

    In the batch every trial is padded to the same number of rows and of columns.
    """

    num_rows: int
    num_columns: int  # tokens of the trial's longest row
    num_tokens: int
    num_targets: int  # target tokens on this device
    num_window_targets: int  # target tokens of the trial's whole accumulation window


class CohortBatch(NamedTuple):
    """One micro-batch of K trials, with K * R rows; R is the number of rows of the trial that has most.

    Where several devices share the rows, `rows` holds those of this device only.
    """

    rows: Batch | ImageBatch
    shares: tuple[Share, ...]  # one for each trial


def _describe_share(rows: Sequence[Row], num_window_targets: int, ranks: Ranks) -> Share:
    lengths = [row.num_tokens for row in rows]
    num_targets = sum(row.num_targets for row in rows[ranks.rows])
    return Share(len(rows), max(lengths, default=0), sum(lengths), num_targets, num_window_targets)


def _pad_columns(batch: Batch | ImageBatch, multiple: int, pad_id: int) -> Batch | ImageBatch:
    """The batch with as many columns of padding on the right as make their number a multiple; images stay."""
    if not isinstance(batch, Batch) or not (missing := -batch.ids_BT.shape[1] % multiple):
        return batch
    ids_BT, mask_BT, labels_BT = (
        nn.functional.pad(part, (0, missing), value=value)
        for part, value in ((batch.ids_BT, pad_id), (batch.mask_BT, 0), (batch.labels_BT, IGNORED))
    )
    positions_BT = None if batch.positions_BT is None else nn.functional.pad(batch.positions_BT, (0, missing))
    return batch._replace(ids_BT=ids_BT, mask_BT=mask_BT, labels_BT=labels_BT, positions_BT=positions_BT)


def _take_rows(batch: Batch | ImageBatch, rows: slice) -> Batch | ImageBatch:
    """The chosen rows of a batch; padding columns stay."""
    return type(batch)(*(part[rows] if isinstance(part, Tensor) else part for part in batch))  # type: ignore[arg-type]


def _combine_rows(
    parts: Sequence[tuple[Sequence[Row], int]], example: Row, pad_id: int, ranks: Ranks = ONE_PROCESS, multiple: int = 1
) -> CohortBatch:
    """One batch with the rows of all trials. `parts` has for each trial its rows and the targets of its window; the
    number of columns is a multiple of `multiple`.

    A trial with fewer rows than the largest is filled up with rows like `example` that have no target, so they add
    nothing to loss and gradient. Each device of `ranks` gets the same number of rows of every trial, padded to the
    longest row of all devices.
    """
    num_rows = ranks.round_up_rows(max(1, *(len(rows) for rows, _ in parts)) if parts else 1)
    filler = make_filler_row(example, pad_id)
    filled = [row for rows, _ in parts for row in (*rows, *repeat(filler, num_rows - len(rows)))]
    batch = _take_rows(_pad_columns(collate_rows(filled, pad_id, 0), multiple, pad_id), ranks.rows)
    return CohortBatch(
        with_places(batch) if isinstance(batch, Batch) else batch,
        tuple(_describe_share(rows, num_targets, ranks) for rows, num_targets in parts),
    )


def iterate_cohort_batches(
    trials: Sequence[tuple[Windows, int]], pad_id: int, ranks: Ranks = ONE_PROCESS, multiple: int = 1
) -> Iterator[CohortBatch]:
    """An endless stream of micro-batches for `trials`: pairs of a trial's windows and the steps it has finished.

    Their number of columns is a multiple of `multiple` (`RunningTrial.column_multiple`).

    Every accumulation window has the same number of micro-batches; missing ones are empty.
    """
    streams = [windows.iterate_from(step) for windows, step in trials]
    accumulation = trials[0][0].accumulation
    while True:
        columns = [list(islice([*next(stream), *repeat(_EMPTY, accumulation)], accumulation)) for stream in streams]
        for micros in zip(*columns, strict=True):
            parts = [
                ([windows.rows[index] for index in micro.indices], micro.num_window_targets)
                for (windows, _), micro in zip(trials, micros, strict=True)
            ]
            yield _combine_rows(parts, trials[0][0].rows[0], pad_id, ranks, multiple)


def expect_longest(lengths: Sequence[int], count: int) -> float:
    """The mean of the longest of `count` lengths, each drawn from all with the same probability."""
    shares = [(place / len(lengths)) ** count for place in range(len(lengths) + 1)]
    return sum(one * (last - first) for one, (first, last) in zip(sorted(lengths), pairwise(shares), strict=True))


def build_typical_batch(
    trials: Sequence[Windows], pad_id: int, ranks: Ranks = ONE_PROCESS, multiple: int = 1
) -> CohortBatch:
    """A micro-batch as wide as those of trials on the same rows are in the mean, which their longest row decides; the
    others are of mean length."""
    rows, counts = trials[0].rows, [windows.micro_batch_size for windows in trials]
    lengths = [row.num_tokens for row in rows]
    width, mean = expect_longest(lengths, sum(counts)), sum(lengths) / len(lengths)
    near_mean = sorted(rows, key=lambda row: abs(row.num_tokens - mean))
    chosen = [near_mean[:count] for count in counts]
    chosen[0][0] = min(rows, key=lambda row: abs(row.num_tokens - width))
    parts = [(own, sum(row.num_targets for row in own)) for own in chosen]
    return _combine_rows(parts, rows[0], pad_id, ranks, multiple)


def build_longest_batch(
    trials: Sequence[Windows], pad_id: int, ranks: Ranks = ONE_PROCESS, multiple: int = 1
) -> CohortBatch:
    """The micro-batch that needs the most memory and time: the longest rows of every trial."""
    parts = []
    for windows in trials:
        rows = sorted(windows.rows, key=lambda row: -row.num_tokens)[: windows.micro_batch_size]
        parts.append((rows, sum(row.num_targets for row in rows)))
    return _combine_rows(parts, trials[0].rows[0], pad_id, ranks, multiple)
