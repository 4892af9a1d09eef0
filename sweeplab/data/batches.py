"""Turns rows into batches: windows of one optimizer step each, micro-batches of rows of similar length, padding.

A row is one example, a packed row of several examples (`packing.py`), or an image. B rows, T tokens.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from sweeplab.data.images import ImageBatch, ImageRow, collate_images
from sweeplab.data.packing import PackedRow
from sweeplab.data.tokens import IGNORED, Tokens

Row = Tokens | PackedRow | ImageRow

# of a batch of held-out rows, padding included: hidden states and attention of a batch need memory by its tokens
MOST_HELDOUT_TOKENS: Final = 1 << 12
_WINDOWS_PER_GROUP: Final = 8  # windows whose rows are sorted by length together: less padding, still a random order


class Batch(NamedTuple):
    """One micro-batch of B rows, padded to the T tokens of the longest."""

    ids_BT: Tensor
    mask_BT: Tensor  # 1 for tokens, 0 for padding; packed: the number of the token's example in its row, from 1
    labels_BT: Tensor
    num_tokens: int  # padding not counted
    num_window_targets: int  # target tokens of the whole accumulation window
    positions_BT: Tensor | None = None  # packed: the position of each token in its example, from 0
    places_N: Tensor | None = None  # `find_places` of the labels, for training, where the host should not wait for it


def find_places(labels_BT: Tensor) -> Tensor:
    """The positions that predict a target, row by row, as row x T + column: shape (N,)."""
    return nn.functional.pad(labels_BT[:, 1:] != IGNORED, (0, 1)).flatten().nonzero()[:, 0]


def with_places(batch: Batch) -> Batch:
    """The batch with its targets found on the CPU: on a GPU the host would wait for what stands before it in line."""
    return batch._replace(places_N=find_places(batch.labels_BT))


class MicroBatch(NamedTuple):
    """The indices of the rows of a micro-batch, and the number of targets in its accumulation window."""

    indices: tuple[int, ...]
    num_window_targets: int


class Windows:
    """The rows of a trial in windows of one optimizer step each; seed and epoch alone determine their order.

    `micro_batch_size` counts rows. Rows are packed once, not anew in each epoch, so every example comes exactly once
    in each epoch.
    """

    def __init__(self, rows: Sequence[Row], micro_batch_size: int, accumulation: int, seed: int) -> None:
        self.rows = rows
        self.micro_batch_size = micro_batch_size
        self.accumulation = accumulation
        self.window_size = micro_batch_size * accumulation
        self.seed = seed

    @property
    def num_per_epoch(self) -> int:
        """Optimizer steps per epoch; the last window of an epoch may be smaller."""
        return -(-len(self.rows) // self.window_size)

    def order_epoch(self, epoch: int) -> list[list[int]]:
        """The row indices of every window of an epoch; a smaller window comes last."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        order = torch.randperm(len(self.rows), generator=generator).tolist()
        num_full = len(order) // self.window_size * self.window_size
        group = self.window_size * _WINDOWS_PER_GROUP
        full: list[list[int]] = []
        for start in range(0, num_full, group):
            indices = order[start : min(start + group, num_full)]
            indices.sort(key=lambda index: self.rows[index].num_tokens)
            full += [indices[first : first + self.window_size] for first in range(0, len(indices), self.window_size)]
        shuffled = [full[index] for index in torch.randperm(len(full), generator=generator).tolist()]
        return shuffled + ([order[num_full:]] if num_full < len(order) else [])

    def split_window(self, window: list[int]) -> list[MicroBatch]:
        """The micro-batches of a window; a small window has fewer than `accumulation`."""
        num_targets = sum(self.rows[index].num_targets for index in window)
        starts = range(0, len(window), self.micro_batch_size)
        return [MicroBatch(tuple(window[start : start + self.micro_batch_size]), num_targets) for start in starts]

    def iterate_from(self, step: int) -> Iterator[list[MicroBatch]]:
        """An endless stream of windows, beginning after the first `step` of them."""
        epoch, done = divmod(step, self.num_per_epoch)
        while True:
            for window in self.order_epoch(epoch)[done:]:
                yield self.split_window(window)
            epoch, done = epoch + 1, 0


def collate_tokens(examples: list[Tokens], pad_id: int, num_window_targets: int) -> Batch:
    """A batch of examples, padded on the right to the longest."""
    ids = pad_sequence([tokens.ids for tokens in examples], batch_first=True, padding_value=pad_id)
    labels = pad_sequence([tokens.labels for tokens in examples], batch_first=True, padding_value=IGNORED)
    lengths = [tokens.num_tokens for tokens in examples]
    mask = (torch.arange(ids.shape[1]) < torch.tensor(lengths)[:, None]).long()
    return Batch(ids, mask, labels, sum(lengths), num_window_targets)


def _collate_packed(rows: Sequence[PackedRow], pad_id: int, num_window_targets: int) -> Batch:
    """A batch of packed rows, padded on the right to the longest. The first token of an example is no target."""
    flat = collate_tokens([row.join_sequences() for row in rows], pad_id, num_window_targets)
    numbers, positions = torch.zeros_like(flat.mask_BT), torch.zeros_like(flat.mask_BT)
    for index, row in enumerate(rows):
        start = 0
        for number, tokens in enumerate(row.sequences, 1):
            end = start + tokens.num_tokens
            numbers[index, start:end] = number
            positions[index, start:end] = torch.arange(tokens.num_tokens)
            start = end
    return flat._replace(mask_BT=numbers, positions_BT=positions)


def collate_rows(rows: Sequence[Row], pad_id: int, num_window_targets: int) -> Batch | ImageBatch:
    """A batch of rows, which must all be of one kind."""
    images = [row for row in rows if isinstance(row, ImageRow)]
    if images:
        return collate_images(images, num_window_targets)
    packed = [row for row in rows if isinstance(row, PackedRow)]
    if packed:
        return _collate_packed(packed, pad_id, num_window_targets)
    return collate_tokens([row for row in rows if isinstance(row, Tokens)], pad_id, num_window_targets)


def make_filler_row(row: Row, pad_id: int) -> Row:
    """A row of the same kind as `row` without a target, so that it adds nothing to loss and gradient."""
    if isinstance(row, ImageRow):
        return row._replace(label=IGNORED)
    padding = Tokens([pad_id], [IGNORED])
    return PackedRow((padding,)) if isinstance(row, PackedRow) else padding


def order_by_length(rows: Sequence[Row]) -> list[int]:
    """The indices of the rows, the shortest row first; rows of one length stay in their order."""
    return sorted(range(len(rows)), key=lambda index: rows[index].num_tokens)


def make_heldout_batches(
    rows: Sequence[Row], pad_id: int, batch_size: int, growing_length: int | None = None
) -> list[Batch | ImageBatch]:
    """Batches with all rows once, in the order of `order_by_length`: of at most `batch_size` rows and, padding
    included, `MOST_HELDOUT_TOKENS` tokens; a longer row stands alone. Rows of more than `growing_length` tokens stand
    beside rows of their own length only."""
    parts: list[list[Row]] = []
    for row in (rows[index] for index in order_by_length(rows)):
        size = row.num_tokens
        is_full = not parts or len(parts[-1]) == batch_size or (len(parts[-1]) + 1) * size > MOST_HELDOUT_TOKENS
        if is_full or (growing_length is not None and growing_length < size != parts[-1][-1].num_tokens):
            parts.append([])
        parts[-1].append(row)
    batches = [collate_rows(part, pad_id, sum(row.num_targets for row in part)) for part in parts]
    return [with_places(batch) if isinstance(batch, Batch) else batch for batch in batches]


@dataclass
class Tokenized:
    """A trial's data as tokens or images, and how many examples were cut or dropped."""

    train: Sequence[Row]
    heldout: Sequence[Row]
    num_truncated: int  # training examples that were cut at `training.max_length`
    fingerprint: str
    num_dropped: int = 0  # training examples that were cut before their response began
    num_examples: int | None = None  # training examples, the dropped ones included
    num_heldout: int | None = None  # held-out examples, the dropped ones included
    num_heldout_truncated: int = 0
    num_naming_special: int = 0  # of those to train on, whose text names special tokens, which stay text
    num_skipped: int | None = None  # records that teach nothing and were left out; None: there is no file of records
    notes: tuple[str, ...] = ()  # what a reader of the results must know of the data and the chat template
    num_learned: int | None = None  # held-out examples that stand in training too; None: there is no file of records
    warnings: tuple[str, ...] = ()  # which records were skipped, and why; held-out examples that stand in training too
    batches: dict[tuple[int | None, ...], list[Batch | ImageBatch]] = field(default_factory=dict)  # the held-out ones

    def heldout_batches(
        self, pad_id: int, batch_size: int, growing_length: int | None = None
    ) -> list[Batch | ImageBatch]:
        """Batches with all held-out rows once; they are built once and used by all trials."""
        key = (pad_id, batch_size, growing_length)
        if key not in self.batches:
            self.batches = {key: make_heldout_batches(self.heldout, pad_id, batch_size, growing_length)}
        return self.batches[key]
