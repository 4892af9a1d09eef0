"""What each trial has of a cohort's micro-batch, against its own batches made alone."""

import sys
from itertools import islice, product
from typing import Any

import pytest
import torch

from sweeplab.data.batches import Batch, Windows, collate_rows, make_heldout_batches
from sweeplab.data.packing import PackedRow
from sweeplab.data.tokens import IGNORED, Tokens
from sweeplab.multilora.batches import (
    CohortBatch,
    build_longest_batch,
    build_typical_batch,
    expect_longest,
    iterate_cohort_batches,
)
from sweeplab.runtime.process_group import Ranks
from tests.training.conftest import examples

PAD = 0
DATA = examples(11, seed=2)


def alone(windows: Windows, step: int, count: int) -> list[list[Batch]]:
    """The micro-batches of a trial without company, by window."""
    made = []
    for window in islice(windows.iterate_from(step), count):
        batches = [collate_rows([windows.rows[i] for i in m.indices], PAD, m.num_window_targets) for m in window]
        made.append([batch for batch in batches if isinstance(batch, Batch)])
    return made


def part(batch: CohortBatch, place: int) -> Batch:
    """A trial's own rows and columns; all else of its part must be padding without a target."""
    rows, share = batch.rows, batch.shares[place]
    assert isinstance(rows, Batch)
    num_rows = len(rows.ids_BT) // len(batch.shares)
    own = slice(place * num_rows, place * num_rows + share.num_rows)
    others = slice(place * num_rows + share.num_rows, (place + 1) * num_rows)
    width = share.num_columns
    for rest in (rows.labels_BT[others], rows.labels_BT[own, width:]):
        assert (rest == IGNORED).all()
    assert (rows.ids_BT[others] == PAD).all()
    assert (rows.mask_BT[own, width:] == 0).all()
    assert (rows.mask_BT[others, 0] == 1).all()  # a row that attends to nothing has no softmax
    ids, mask, labels = (tensor[own, :width] for tensor in (rows.ids_BT, rows.mask_BT, rows.labels_BT))
    return Batch(ids, mask, labels, share.num_tokens, share.num_window_targets)


@pytest.mark.parametrize("steps", [(0, 0, 0), (2, 0, 7)])
def test_every_trial_s_part_is_its_own_batch(steps: tuple[int, ...]) -> None:
    trials = [Windows(DATA, 2, 3, seed) for seed in range(len(steps))]
    stream = iterate_cohort_batches(list(zip(trials, steps, strict=True)), PAD)
    count = 5  # over the end of an epoch, whose last window has 5 of 6 rows
    batches = list(islice(stream, 3 * count))
    for place, (windows, step) in enumerate(zip(trials, steps, strict=True)):
        for number, expected in enumerate(alone(windows, step, count)):
            found = [part(batch, place) for batch in batches[3 * number : 3 * number + 3]]
            for mine, own in zip(found, expected, strict=False):
                assert torch.equal(mine.ids_BT, own.ids_BT)
                assert torch.equal(mine.mask_BT, own.mask_BT)
                assert torch.equal(mine.labels_BT, own.labels_BT)
                assert (mine.num_tokens, mine.num_window_targets) == (own.num_tokens, own.num_window_targets)
            assert [len(one.ids_BT) for one in found[len(expected) :]] == [0] * (3 - len(expected))


def test_a_window_of_fewer_micro_batches_leaves_the_trial_nothing_to_move() -> None:
    few, many = Windows(DATA[:2], 2, 2, 0), Windows(DATA, 2, 2, 1)
    first, second = islice(iterate_cohort_batches([(few, 0), (many, 0)], PAD), 2)
    assert first.shares[0].num_targets == sum(row.num_targets for row in DATA[:2])
    assert second.shares[0] == (0, 0, 0, 0, 0)
    assert isinstance(second.rows, Batch)
    assert (second.rows.labels_BT[:2] == IGNORED).all()
    assert (second.rows.labels_BT[2:] != IGNORED).any()


def test_the_shares_count_all_targets_in_the_order_of_the_rows() -> None:
    """`window_shares` splits the targets of a batch by these counts."""
    trials = [Windows(DATA, 3, 2, seed) for seed in range(3)]
    for batch in islice(iterate_cohort_batches([(windows, 0) for windows in trials], PAD), 8):
        assert isinstance(batch.rows, Batch)
        by_trial = batch.rows.labels_BT[:, 1:].reshape(3, -1)
        assert [share.num_targets for share in batch.shares] == (by_trial != IGNORED).sum(1).tolist()


def test_the_longest_batch_is_each_trial_s_longest_rows() -> None:
    batch = build_longest_batch([Windows(DATA, 3, 2, 0), Windows(DATA[:2], 3, 2, 1)], PAD)
    lengths = sorted((len(row.ids) for row in DATA), reverse=True)[:3]
    assert batch.shares[0][:3] == (3, lengths[0], sum(lengths))
    assert batch.shares[1][:3] == (2, max(len(row.ids) for row in DATA[:2]), sum(len(row.ids) for row in DATA[:2]))
    assert isinstance(batch.rows, Batch)
    assert batch.rows.mask_BT[:3].sum(1).tolist() == lengths


def test_the_longest_of_several_lengths_by_all_draws() -> None:
    lengths = [7, 3, 3, 20]
    for count in (1, 2, 3):
        draws = list(product(lengths, repeat=count))
        assert expect_longest(lengths, count) == pytest.approx(sum(map(max, draws)) / len(draws))


def test_a_typical_batch_is_as_wide_as_they_are_in_the_mean() -> None:
    trials = [Windows(DATA, 2, 1, seed) for seed in range(3)]
    widths = [
        max(share.num_columns for share in batch.shares)
        for batch in islice(iterate_cohort_batches([(windows, 0) for windows in trials], PAD), 300)
    ]
    typical = build_typical_batch(trials, PAD)
    assert isinstance(typical.rows, Batch)
    assert typical.rows.ids_BT.shape[0] == 6
    assert typical.rows.ids_BT.shape[1] == pytest.approx(sum(widths) / len(widths), abs=2)
    lengths = [row.num_tokens for row in DATA]
    assert typical.shares[1].num_tokens == pytest.approx(2 * sum(lengths) / len(lengths), abs=2)


def test_packed_rows_stay_packed() -> None:
    packed = [PackedRow((DATA[0], DATA[1])), PackedRow((DATA[2],)), PackedRow((DATA[3], DATA[4], DATA[5]))]
    batch = build_longest_batch([Windows(packed, 2, 1, 0), Windows(packed[:1], 2, 1, 1)], PAD)
    assert isinstance(batch.rows, Batch)
    assert batch.rows.mask_BT.max(1).values.tolist()[2:] == [2, 1]  # sequences of each row; the last one is filler
    assert batch.shares[1].num_targets == DATA[0].num_targets + DATA[1].num_targets
    assert batch.rows.positions_BT is not None
    assert batch.rows.positions_BT[2, len(DATA[0].ids)] == 0


def test_tokens_of_one_length_need_no_padding() -> None:
    same = [Tokens([number + 2] * 4, [IGNORED, *[number + 2] * 3]) for number in range(4)]
    batch = next(iterate_cohort_batches([(Windows(same, 2, 2, seed), 0) for seed in (0, 1)], PAD))
    assert isinstance(batch.rows, Batch)
    assert batch.rows.mask_BT.all()
    assert sum(share.num_tokens for share in batch.shares) == batch.rows.ids_BT.numel()


@pytest.mark.parametrize("size", [2, 3])
def test_processes_have_every_row_once_as_wide_as_the_whole_batch(size: int) -> None:
    trials = [(Windows(DATA, 6, 2, seed), 0) for seed in range(2)]  # an epoch's last window has 11 of 12 rows
    wholes = islice(iterate_cohort_batches(trials, PAD), 6)
    parts = [iterate_cohort_batches(trials, PAD, Ranks(rank, size)) for rank in range(size)]
    for whole, *own in zip(wholes, *parts, strict=False):
        assert isinstance(whole.rows, Batch)
        for name in ("ids_BT", "labels_BT", "mask_BT"):
            found = [getattr(one.rows, name) for one in own]
            assert len({one.shape for one in found}) == 1  # as much work on each device
            dealt, expected = torch.stack(found, dim=1).flatten(0, 1), getattr(whole.rows, name)
            of_trials, expected = dealt.unflatten(0, (2, -1)), expected.unflatten(0, (2, -1))
            assert torch.equal(of_trials[:, : expected.shape[1]], expected)  # dealt row by row
            if name == "labels_BT":
                assert (of_trials[:, expected.shape[1] :] == IGNORED).all()
        for place, share in enumerate(whole.shares):
            mine = [one.shares[place] for one in own]
            assert sum(one.num_targets for one in mine) == share.num_targets
            assert {one._replace(num_targets=0) for one in mine} == {share._replace(num_targets=0)}


def test_a_process_without_a_row_of_a_small_window_gets_one_that_moves_nothing() -> None:
    windows = Windows(DATA[:1], 2, 1, 0)
    first, second = (next(iterate_cohort_batches([(windows, 0)], PAD, Ranks(rank, 2))) for rank in range(2))
    assert isinstance(second.rows, Batch)
    assert (first.shares[0].num_targets, second.shares[0].num_targets) == (DATA[0].num_targets, 0)
    assert (second.rows.labels_BT == IGNORED).all()


def num_python_calls(length: int, packed: bool) -> int:
    """Of a cohort's steps and of a held-out pass over examples of `length` tokens."""
    data: list[Any] = [Tokens([5] * length, [IGNORED] * 3 + [5] * (length - 3)) for _ in range(24)]
    rows = [PackedRow(tuple(data[place : place + 2])) for place in range(0, 24, 2)] if packed else data
    count = 0

    def count_one(*_: Any) -> None:
        nonlocal count
        count += 1

    batches = iterate_cohort_batches([(Windows(rows, 2, 2, seed=0), 0) for _ in range(3)], PAD)
    next(batches)
    sys.setprofile(count_one)
    try:
        list(islice(batches, 8))
        make_heldout_batches(rows, PAD, 4)
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("packed", [False, True])
def test_a_step_s_python_does_not_grow_with_tokens(packed: bool) -> None:
    assert num_python_calls(1000, packed) == pytest.approx(num_python_calls(10, packed), rel=0.05)


@pytest.mark.parametrize("packs", [False, True])
def test_columns_are_rounded_up_with_padding_only(packs: bool) -> None:
    rows = [PackedRow((one, one)) for one in DATA] if packs else DATA
    trials = [(Windows(rows, 2, 2, seed), 0) for seed in (0, 1)]
    plain, rounded = (islice(iterate_cohort_batches(trials, PAD, multiple=many), 4) for many in (1, 16))
    for one, other in zip(plain, rounded, strict=True):
        assert isinstance(one.rows, Batch)
        assert isinstance(other.rows, Batch)
        width = one.rows.ids_BT.shape[1]
        assert other.rows.ids_BT.shape[1] == -(-width // 16) * 16
        for name, padding in (("ids_BT", PAD), ("mask_BT", 0), ("labels_BT", IGNORED), ("positions_BT", 0)):
            before, after = getattr(one.rows, name), getattr(other.rows, name)
            if before is None:
                assert (after, name, packs) == (None, "positions_BT", False)
                continue
            assert torch.equal(after[:, :width], before)
            assert (after[:, width:] == padding).all()
        assert one.shares == other.shares
