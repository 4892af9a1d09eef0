"""Packs several examples into one row, so that little is padding; the attention mask separates them."""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from sweeplab.data.tokens import IGNORED, Tokens


class PackedRow(NamedTuple):
    """Examples in one row, one after another."""

    sequences: tuple[Tokens, ...]

    @property
    def num_tokens(self) -> int:
        return sum(tokens.num_tokens for tokens in self.sequences)

    @property
    def num_targets(self) -> int:
        return sum(tokens.num_targets for tokens in self.sequences)

    def join_sequences(self) -> Tokens:
        """All examples as one; the first label of each is ignored, since the token before it is of another example."""
        labels = torch.cat([tokens.labels for tokens in self.sequences])
        lengths = torch.tensor([tokens.num_tokens for tokens in self.sequences])
        labels[lengths.cumsum(0) - lengths] = IGNORED
        return Tokens(torch.cat([tokens.ids for tokens in self.sequences]), labels)


class _FreeSpace:
    """The free tokens of each of `num_rows` rows; finds the first row with enough of them in log(num_rows) steps."""

    def __init__(self, num_rows: int, length: int) -> None:
        self.first_leaf = 1 << max(0, num_rows - 1).bit_length()
        self.most = [length] * (2 * self.first_leaf)  # a binary tree: the most space below each node

    def take(self, length: int) -> int:
        """Reserves `length` tokens in the first row with enough space, and returns the row's index."""
        node = 1
        while node < self.first_leaf:
            node *= 2
            node += self.most[node] < length
        self.most[node] -= length
        row = node - self.first_leaf
        while node > 1:
            node //= 2
            self.most[node] = max(self.most[2 * node], self.most[2 * node + 1])
        return row


def pack_examples(examples: Sequence[Tokens], length: int) -> list[PackedRow]:
    """Rows of at most `length` tokens that contain every example once, by first-fit decreasing.

    It needs at most 11/9 of the smallest possible number of rows, plus 6/9 (Dosa 2007). No example may be longer than
    `length`: `tokenize_examples` has cut them.
    """
    assert all(tokens.num_tokens <= length for tokens in examples)
    space = _FreeSpace(len(examples), length)
    rows: dict[int, list[Tokens]] = {}
    for tokens in sorted(examples, key=lambda one: -one.num_tokens):
        rows.setdefault(space.take(tokens.num_tokens), []).append(tokens)
    return [PackedRow(tuple(rows[index])) for index in sorted(rows)]
