"""Tokens to batches: rows of like length together, windows of whole optimizer steps, padding to the longest.

A row is one example, several that `packing` put together, or an image; it is what a micro-batch and a window count.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from sweeplab.data.images import ImageBatch, ImageRow, collate_images
from sweeplab.data.packing import PackedRow
from sweeplab.data.tokens import IGNORED, Tokens

Row = Tokens | PackedRow | ImageRow

WINDOWS_PER_GROUP: Final = 8  # sorted by length together: little padding, and still a random order


class Batch(NamedTuple):
    """One micro-batch: B rows, T tokens of the longest."""

    ids_BT: Tensor
    mask_BT: Tensor  # 1 where a token is, 0 where padding is; packed: the number of its sequence within the row, from 1
    labels_BT: Tensor
    num_tokens: int  # padding not counted
    num_window_targets: int  # target tokens of the whole accumulation window
    positions_BT: Tensor | None = None  # packed: of each token within its own sequence, from 0


class MicroBatch(NamedTuple):
    """Which rows go into one micro-batch, and how many targets its accumulation window holds."""

    indices: tuple[int, ...]
    num_window_targets: int


class Windows:
    """A trial's rows in windows of one optimizer step each; the order follows from (seed, epoch) alone.

    `micro_batch_size` counts rows. Packed rows stay together over all epochs, so that each example still comes exactly
    once in each.
    """

    def __init__(self, rows: Sequence[Row], micro_batch_size: int, accumulation: int, seed: int) -> None:
        self.rows = rows
        self.micro_batch_size = micro_batch_size
        self.accumulation = accumulation
        self.window_size = micro_batch_size * accumulation
        self.seed = seed

    @property
    def num_per_epoch(self) -> int:
        """Optimizer steps per epoch; the last one may be smaller."""
        return -(-len(self.rows) // self.window_size)

    def order_epoch(self, epoch: int) -> list[list[int]]:
        """Row indices of every optimizer step of an epoch; a smaller window comes last."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        order = torch.randperm(len(self.rows), generator=generator).tolist()
        num_full = len(order) // self.window_size * self.window_size
        group = self.window_size * WINDOWS_PER_GROUP
        full: list[list[int]] = []
        for start in range(0, num_full, group):
            indices = order[start : min(start + group, num_full)]
            indices.sort(key=lambda index: self.rows[index].num_tokens)
            full += [indices[place : place + self.window_size] for place in range(0, len(indices), self.window_size)]
        shuffled = [full[place] for place in torch.randperm(len(full), generator=generator).tolist()]
        return shuffled + ([order[num_full:]] if num_full < len(order) else [])

    def split_window(self, window: list[int]) -> list[MicroBatch]:
        """A window's micro-batches, fewer than `accumulation` where it is a small one."""
        num_targets = sum(self.rows[index].num_targets for index in window)
        starts = range(0, len(window), self.micro_batch_size)
        return [MicroBatch(tuple(window[start : start + self.micro_batch_size]), num_targets) for start in starts]

    def iterate_from(self, step: int) -> Iterator[list[MicroBatch]]:
        """Windows without end, from the one that follows `step` finished ones."""
        epoch, done = divmod(step, self.num_per_epoch)
        while True:
            for window in self.order_epoch(epoch)[done:]:
                yield self.split_window(window)
            epoch, done = epoch + 1, 0


def collate_tokens(examples: list[Tokens], pad_id: int, num_window_targets: int) -> Batch:
    """Pads on the right to the longest of `examples`."""
    ids = pad_sequence([tokens.ids for tokens in examples], batch_first=True, padding_value=pad_id)
    labels = pad_sequence([tokens.labels for tokens in examples], batch_first=True, padding_value=IGNORED)
    lengths = [tokens.num_tokens for tokens in examples]
    mask = (torch.arange(ids.shape[1]) < torch.tensor(lengths)[:, None]).long()
    return Batch(ids, mask, labels, sum(lengths), num_window_targets)


def collate_packed(rows: Sequence[PackedRow], pad_id: int, num_window_targets: int) -> Batch:
    """Pads on the right to the longest of `rows`; no loss is counted across the border of two sequences."""
    flat = collate_tokens([row.join_sequences() for row in rows], pad_id, num_window_targets)
    numbers, positions = torch.zeros_like(flat.mask_BT), torch.zeros_like(flat.mask_BT)
    for place, row in enumerate(rows):
        start = 0
        for number, tokens in enumerate(row.sequences, 1):
            end = start + tokens.num_tokens
            numbers[place, start:end] = number
            positions[place, start:end] = torch.arange(tokens.num_tokens)
            start = end
    return flat._replace(mask_BT=numbers, positions_BT=positions)


def collate_rows(rows: Sequence[Row], pad_id: int, num_window_targets: int) -> Batch | ImageBatch:
    """Rows of one kind as a batch."""
    images = [row for row in rows if isinstance(row, ImageRow)]
    if images:
        return collate_images(images, num_window_targets)
    packed = [row for row in rows if isinstance(row, PackedRow)]
    if packed:
        return collate_packed(packed, pad_id, num_window_targets)
    return collate_tokens([row for row in rows if isinstance(row, Tokens)], pad_id, num_window_targets)


def make_filler_row(row: Row, pad_id: int) -> Row:
    """A row of the kind of `row` without a target, so that it moves nothing."""
    if isinstance(row, ImageRow):
        return row._replace(label=IGNORED)
    nothing = Tokens([pad_id], [IGNORED])
    return PackedRow((nothing,)) if isinstance(row, PackedRow) else nothing


def make_heldout_batches(rows: Sequence[Row], pad_id: int, batch_size: int) -> list[Batch | ImageBatch]:
    """All rows once, by length."""
    ordered = sorted(rows, key=lambda row: row.num_tokens)
    parts = [ordered[start : start + batch_size] for start in range(0, len(ordered), batch_size)]
    return [collate_rows(part, pad_id, sum(row.num_targets for row in part)) for part in parts]


@dataclass
class Tokenized:
    """A trial's data as tokens or as images, and what happened to it on the way."""

    train: Sequence[Row]
    heldout: Sequence[Row]
    num_truncated: int
    fingerprint: str
    num_dropped: int = 0
    num_examples: int | None = None  # to train on, with those that were dropped
    num_heldout_truncated: int = 0
    num_naming_special: int = 0  # of those to train on, whose text names special tokens, which stay text
    batches: dict[tuple[int, int], list[Batch | ImageBatch]] = field(default_factory=dict)  # the held-out ones

    def heldout_batches(self, pad_id: int, batch_size: int) -> list[Batch | ImageBatch]:
        """All held-out rows once, in batches that every trial and every held-out point of this size shares."""
        key = (pad_id, batch_size)
        if key not in self.batches:
            self.batches = {key: make_heldout_batches(self.heldout, pad_id, batch_size)}
        return self.batches[key]
