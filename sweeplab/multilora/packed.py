"""Many trials' LoRA at work beside one frozen base, which stays as it is: forward hooks add every trial's update.

Slots of one layout stand together in a bucket, so that one batched product serves them all.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Self

import torch
from torch import Tensor, nn

from sweeplab.multilora.dropout import Extent, keep_factor, keep_mask
from sweeplab.multilora.lowrank import Keep, LowRankUpdate, Update, add_updates
from sweeplab.multilora.slots import Layout, Slot, Span
from sweeplab.runtime.process_group import ONE_PROCESS, Ranks


class Bucket:
    """Slots of one layout in K rows of one tensor."""

    def __init__(self, slots: list[Slot]) -> None:
        self.slots = slots
        self.rows_KP = slots[0].row_P.new_empty(len(slots), len(slots[0].row_P))
        self.grads_KP = torch.zeros_like(self.rows_KP)
        for slot, row_P, grad_P in zip(slots, self.rows_KP, self.grads_KP, strict=True):
            slot.move(row_P, grad_P)
        self.scalings = {
            span.name: self.rows_KP.new_tensor([slot.matrices[span.name].scaling for slot in slots])[:, None, None]
            for span in slots[0].layout
        }

    def update(self, span: Span, first: int, chosen: slice) -> Update:
        """The update of one matrix for the chosen slots, which are trials `first` and on of the batch."""
        rows_KP, grads_KP = self.rows_KP[chosen], self.grads_KP[chosen]
        return Update(
            first,
            span.a_KRI(rows_KP),
            span.b_KOR(rows_KP),
            span.a_KRI(grads_KP),
            span.b_KOR(grads_KP),
            self.scalings[span.name][chosen],
        )


class Packed:
    """Slots at work beside a base, until `close`: each trial's rows of a batch, in the order of `slots`, meet its own.

    A batch holds the rows of the first trial, then as many of the second, and so on.
    """

    def __init__(self, base: nn.Module, slots: Sequence[Slot], ranks: Ranks = ONE_PROCESS) -> None:
        groups: dict[tuple[Layout, torch.dtype], list[Slot]] = {}
        for slot in slots:
            groups.setdefault((slot.layout, slot.row_P.dtype), []).append(slot)
        self.buckets = [Bucket(group) for group in groups.values()]
        self.slots = [slot for bucket in self.buckets for slot in bucket.slots]
        self.anchor = nn.Parameter(self.slots[0].row_P.new_empty(0))
        self.base = base
        self.ranks = ranks  # which have the rows of a batch for training among them
        self.extents: list[Extent] = []
        self.micro_steps: list[int] = []
        self.updates: dict[str, list[Update]] = {}
        self.chosen: list[Slot] = []
        self.choose(self.slots)
        names = {name for slot in slots for name in slot.matrices}
        self.handles = [base.get_submodule(name).register_forward_hook(self.hook(name)) for name in sorted(names)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """The base is as it was; the slots keep their weights."""
        for handle in self.handles:
            handle.remove()
        for slot in self.slots:
            slot.drop_gradients()

    def zero_gradients(self) -> None:
        for bucket in self.buckets:
            bucket.grads_KP.zero_()

    def begin(self, extents: list[Extent], micro_steps: list[int]) -> None:
        """Tells, before a forward in training mode, what the dropout of each trial follows from."""
        self.extents, self.micro_steps = extents, micro_steps

    def choose(self, slots: Sequence[Slot]) -> None:
        """From here on a batch holds the rows of these slots' trials only."""
        self.chosen = list(slots)
        self.updates = {}
        if self.chosen == self.slots:
            first = 0
            for bucket in self.buckets:
                self.add_updates(bucket, first, slice(0, len(bucket.slots)))
                first += len(bucket.slots)
            return
        for first, slot in enumerate(slots):
            (bucket,) = (one for one in self.buckets if slot in one.slots)
            index = bucket.slots.index(slot)
            self.add_updates(bucket, first, slice(index, index + 1))

    def add_updates(self, bucket: Bucket, first: int, chosen: slice) -> None:
        for span in bucket.slots[0].layout:
            self.updates.setdefault(span.name, []).append(bucket.update(span, first, chosen))

    @contextmanager
    def only(self, slots: Sequence[Slot]) -> Iterator[None]:
        """Within it the base is that of these trials alone."""
        before = self.chosen
        self.choose(slots)
        try:
            yield
        finally:
            self.choose(before)

    def hook(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
        """What adds the updates of one matrix to its result."""
        round_first = any(slot.matrices[name].round_first for slot in self.slots if name in slot.matrices)

        def updated(module: nn.Module, inputs: tuple[Tensor, ...], result: Tensor) -> Tensor:
            updates = self.updates.get(name)
            if not updates:
                return result
            x = inputs[0]
            num_trials = len(self.chosen)
            x_MNI = x.reshape(num_trials, -1, x.shape[-1])
            keeps = [self.keep(name, update, x) if module.training else None for update in updates]
            result_MNO = result.reshape(num_trials, -1, result.shape[-1])
            if not torch.is_grad_enabled():  # nobody looks at the base's own result again
                add_updates(x_MNI, result_MNO, updates, keeps, round_first)
                return result_MNO.view(result.shape)
            out_MNO: Tensor = LowRankUpdate.apply(  # type: ignore[no-untyped-call]
                x_MNI, result_MNO, self.anchor, updates, keeps, round_first
            )
            return out_MNO.view(result.shape)

        updated.draws = any(  # type: ignore[attr-defined]  # the loss takes its logits at once beside such a head
            slot.matrices[name].dropout > 0 for slot in self.slots if name in slot.matrices
        )
        return updated

    def keep(self, name: str, update: Update, x: Tensor) -> Keep | None:
        """Dropout of the update's trials; None where none of them has any. What is padding may grow too.

        Drawn for the rows of all devices, of which this one takes its own.
        """
        numbers = range(*update.trials.indices(len(self.chosen)))
        if not any(self.chosen[number].matrices[name].dropout for number in numbers):
            return None
        num_rows, width = self.ranks.round_up_rows(max(1, *(extent.num_rows for extent in self.extents))), x.shape[-1]
        num_inputs = x.numel() // width * self.ranks.size
        num_columns = num_inputs // (len(self.chosen) * num_rows)  # 1 where a matrix reads one vector a row
        masks = []
        for number in numbers:
            slot = self.chosen[number]
            key = f"{slot.seed} {self.micro_steps[number]} {name}"
            padded, extent = Extent(num_rows, num_columns), self.extents[number]
            own = Extent(extent.num_rows, min(extent.num_columns, num_columns))
            mask = keep_mask(key, slot.matrices[name].dropout, own, padded, width, x.device)
            masks.append(mask[self.ranks.rows] > 0)
        factors = [keep_factor(self.chosen[number].matrices[name].dropout) for number in numbers]
        return Keep(torch.stack(masks).flatten(1, 2), update.a_KRI.new_tensor(factors)[:, None, None])
