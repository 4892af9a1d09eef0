import random
from itertools import islice

import pytest
import torch

from sweeplab.data import batches as module
from sweeplab.data.batches import _WINDOWS_PER_GROUP, Batch, MicroBatch, Windows, collate_tokens, make_heldout_batches
from sweeplab.data.tokens import IGNORED, Tokens

PAD = 0


def examples(count: int) -> list[Tokens]:
    """Examples of unequal length and unequal number of targets; example i consists of token i + 1."""
    made = []
    for place in range(count):
        length = 2 + place * 7 % 13
        num_prompt = 1 + place * 5 % (length - 1)
        made.append(Tokens([place + 1] * length, [IGNORED] * num_prompt + [place + 1] * (length - num_prompt)))
    return made


SIZES = [(1, 1, 1), (11, 2, 3), (12, 2, 3), (13, 4, 1), (200, 2, 2), (7, 16, 4)]


@pytest.mark.parametrize(("count", "micro", "accumulation"), SIZES)
def test_every_example_comes_once_per_epoch_in_whole_windows(count: int, micro: int, accumulation: int) -> None:
    stream = Windows(examples(count), micro, accumulation, seed=3)
    for epoch in range(3):
        windows = epoch_of(stream, epoch)
        assert sorted(index for window in windows for batch in window for index in batch.indices) == list(range(count))
        full, last = windows[:-1], windows[-1]
        assert all([len(batch.indices) for batch in window] == [micro] * accumulation for window in full)
        assert sum(len(batch.indices) for batch in last) == (count - 1) % (micro * accumulation) + 1
        assert all(len(batch.indices) == micro for batch in last[:-1])


@pytest.mark.parametrize(("count", "micro", "accumulation"), SIZES)
def test_window_targets_are_those_of_all_its_micro_batches(count: int, micro: int, accumulation: int) -> None:
    data = examples(count)
    for window in epoch_of(Windows(data, micro, accumulation, seed=3), 0):
        # the first position of a row predicts nothing before it
        labels = [data[index].labels.tolist() for batch in window for index in batch.indices]
        counted = sum(label != IGNORED for row in labels for label in row[1:])
        assert [batch.num_window_targets for batch in window] == [counted] * len(window)


@pytest.mark.parametrize("step", [0, 1, 3, 4, 9])
def test_the_order_goes_on_from_any_step(step: int) -> None:
    stream = Windows(examples(11), 2, 2, seed=3)
    assert list(islice(stream.iterate_from(step), 5)) == list(islice(stream.iterate_from(0), step, step + 5))


def epoch_of(windows: Windows, epoch: int) -> list[list[MicroBatch]]:
    """The windows of one epoch."""
    first = epoch * windows.num_per_epoch
    return list(islice(windows.iterate_from(first), windows.num_per_epoch))


def order(seed: int, epoch: int) -> list[int]:
    windows = epoch_of(Windows(examples(60), 2, 2, seed), epoch)
    return [index for window in windows for batch in window for index in batch.indices]


def test_order_follows_from_seed_and_epoch() -> None:
    assert order(0, 0) == order(0, 0)
    orders = [tuple(order(seed, epoch)) for seed in range(4) for epoch in range(4)]
    assert len(set(orders)) == len(orders)


def test_windows_of_a_group_hold_neighbours_in_length() -> None:
    data = examples(4 * _WINDOWS_PER_GROUP)
    windows = Windows(data, 2, 2, seed=0).order_epoch(0)
    lengths = sorted(sorted(len(data[index].ids) for index in window) for window in windows)
    assert [length for window in lengths for length in window] == sorted(len(tokens.ids) for tokens in data)


def test_collate_pads_on_the_right_and_counts_no_padding() -> None:
    batch = collate_tokens([Tokens([5, 6, 7], [IGNORED, 6, 7]), Tokens([8], [8])], PAD, num_window_targets=9)
    assert torch.equal(batch.ids_BT, torch.tensor([[5, 6, 7], [8, PAD, PAD]]))
    assert torch.equal(batch.mask_BT, torch.tensor([[1, 1, 1], [1, 0, 0]]))
    assert torch.equal(batch.labels_BT, torch.tensor([[IGNORED, 6, 7], [8, IGNORED, IGNORED]]))
    assert (batch.num_tokens, batch.num_window_targets) == (4, 9)


def test_collate_equals_rows_put_in_place_one_by_one() -> None:
    rng = random.Random(0)
    for num_rows in (1, 2, 7, 16):
        lengths = [rng.randint(1, 40) for _ in range(num_rows)]
        ids = [[rng.randrange(1000) for _ in range(length)] for length in lengths]
        labels = [[rng.choice([IGNORED, token]) for token in row] for row in ids]
        batch = collate_tokens([Tokens(*row) for row in zip(ids, labels, strict=True)], 999, num_window_targets=3)
        width = max(lengths)
        assert batch.ids_BT.tolist() == [row + [999] * (width - len(row)) for row in ids]
        assert batch.labels_BT.tolist() == [row + [IGNORED] * (width - len(row)) for row in labels]
        assert batch.mask_BT.tolist() == [[1] * len(row) + [0] * (width - len(row)) for row in ids]
        assert {one.dtype for one in batch[:3]} == {torch.int64}
        assert batch.num_tokens == sum(lengths)


def test_heldout_batches_hold_every_example_once_with_its_own_targets() -> None:
    data = examples(11)
    batches = [batch for batch in make_heldout_batches(data, PAD, batch_size=4) if isinstance(batch, Batch)]
    rows = [row[mask == 1].tolist() for batch in batches for row, mask in zip(batch.ids_BT, batch.mask_BT, strict=True)]
    assert sorted(rows) == sorted(tokens.ids.tolist() for tokens in data)
    assert sum(batch.num_window_targets for batch in batches) == sum(tokens.num_targets for tokens in data)
    assert sum(batch.num_tokens for batch in batches) == sum(len(tokens.ids) for tokens in data)


def test_long_heldout_rows_stand_beside_rows_of_their_own_length() -> None:
    data = [Tokens([2] * length, [IGNORED] + [2] * (length - 1)) for length in (9, 3, 8, 9, 5, 8, 4)]
    batches = make_heldout_batches(data, PAD, 4, growing_length=4)
    assert [tuple(batch[0].shape) for batch in batches] == [(2, 4), (1, 5), (2, 8), (2, 9)]


@pytest.mark.parametrize("most", [1, 40, 100, 10**6])
def test_heldout_batches_are_cut_by_tokens(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """As many rows as fit, the shortest first; a longer row than fits stands alone."""
    monkeypatch.setattr(module, "MOST_HELDOUT_TOKENS", most)
    lengths = [5, 30, 7, 7, 12, 60, 9]
    data = [Tokens([2] * length, [IGNORED] + [2] * (length - 1)) for length in lengths]
    batches = [batch for batch in make_heldout_batches(data, PAD, batch_size=4) if isinstance(batch, Batch)]
    shapes = [tuple(batch.ids_BT.shape) for batch in batches]
    assert (
        shapes
        == {
            1: [(1, length) for length in sorted(lengths)],
            40: [(4, 9), (1, 12), (1, 30), (1, 60)],
            100: [(4, 9), (2, 30), (1, 60)],
            10**6: [(4, 9), (3, 60)],
        }[most]
    )
    assert sum(batch.num_tokens for batch in batches) == sum(lengths)
