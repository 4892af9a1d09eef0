"""Tokens to batches: examples of like length together, windows of whole optimizer steps, padding to the longest."""

from collections.abc import Iterator
from typing import Final, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from sweeplab.data.tokens import IGNORED, Tokens

WINDOWS_PER_GROUP: Final = 8  # sorted by length together: little padding, and still a random order


class Batch(NamedTuple):
    """One micro-batch: B examples, T tokens of the longest."""

    ids_BT: Tensor
    mask_BT: Tensor  # 1 where a token is, 0 where padding is
    labels_BT: Tensor
    num_tokens: int  # padding not counted
    num_window_targets: int  # target tokens of the whole accumulation window


class MicroBatch(NamedTuple):
    """Which examples go into one micro-batch, and how many targets its accumulation window holds."""

    indices: tuple[int, ...]
    num_window_targets: int


class WindowSampler(Sampler[MicroBatch]):
    """Micro-batches of one epoch, in windows of `accumulation`; the order follows from (seed, epoch) alone."""

    def __init__(self, examples: list[Tokens], micro_batch_size: int, accumulation: int, seed: int) -> None:
        self.examples = examples
        self.micro_batch_size = micro_batch_size
        self.window_size = micro_batch_size * accumulation
        self.seed = seed
        self.epoch = 0

    @property
    def num_windows(self) -> int:
        """Optimizer steps per epoch; the last one may be smaller."""
        return -(-len(self.examples) // self.window_size)

    def __len__(self) -> int:
        full, rest = divmod(len(self.examples), self.window_size)
        return full * (self.window_size // self.micro_batch_size) + -(-rest // self.micro_batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning at the start of every epoch."""
        self.epoch = epoch

    def windows(self) -> list[list[int]]:
        """Example indices of every optimizer step of this epoch; a smaller window comes last."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(len(self.examples), generator=generator).tolist()
        num_full = len(order) // self.window_size * self.window_size
        group = self.window_size * WINDOWS_PER_GROUP
        full: list[list[int]] = []
        for start in range(0, num_full, group):
            members = order[start : min(start + group, num_full)]
            members.sort(key=lambda index: len(self.examples[index].ids))
            full += [members[place : place + self.window_size] for place in range(0, len(members), self.window_size)]
        shuffled = [full[place] for place in torch.randperm(len(full), generator=generator).tolist()]
        return shuffled + ([order[num_full:]] if num_full < len(order) else [])

    def __iter__(self) -> Iterator[MicroBatch]:
        for window in self.windows():
            num_targets = sum(self.examples[index].num_targets for index in window)
            for start in range(0, len(window), self.micro_batch_size):
                yield MicroBatch(tuple(window[start : start + self.micro_batch_size]), num_targets)


def collate(examples: list[Tokens], pad_id: int, num_window_targets: int) -> Batch:
    """Pads on the right to the longest of `examples`."""
    width = max(len(tokens.ids) for tokens in examples)
    ids = torch.full((len(examples), width), pad_id)
    labels = torch.full((len(examples), width), IGNORED)
    mask = torch.zeros((len(examples), width), dtype=torch.long)
    for row, tokens in enumerate(examples):
        length = len(tokens.ids)
        ids[row, :length] = torch.tensor(tokens.ids)
        labels[row, :length] = torch.tensor(tokens.labels)
        mask[row, :length] = 1
    return Batch(ids, mask, labels, sum(len(tokens.ids) for tokens in examples), num_window_targets)


class BatchedExamples(Dataset[Batch]):
    """A data set whose items are whole micro-batches, so that each knows its window."""

    def __init__(self, examples: list[Tokens], pad_id: int) -> None:
        self.examples = examples
        self.pad_id = pad_id

    def __getitem__(self, micro: MicroBatch) -> Batch:
        return collate([self.examples[index] for index in micro.indices], self.pad_id, micro.num_window_targets)


def train_loader(
    examples: list[Tokens], pad_id: int, micro_batch_size: int, accumulation: int, seed: int
) -> DataLoader[Batch]:
    sampler = WindowSampler(examples, micro_batch_size, accumulation, seed)
    return DataLoader(BatchedExamples(examples, pad_id), sampler=sampler, batch_size=None)


def heldout_batches(examples: list[Tokens], pad_id: int, batch_size: int) -> list[Batch]:
    """All examples once, by length."""
    ordered = sorted(examples, key=lambda tokens: len(tokens.ids))
    parts = [ordered[start : start + batch_size] for start in range(0, len(ordered), batch_size)]
    return [collate(part, pad_id, sum(tokens.num_targets for tokens in part)) for part in parts]
