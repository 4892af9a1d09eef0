"""The LoRA adapters of several trials on one frozen base: forward hooks add each trial's update to its rows.

The base itself is not changed. Slots of the same layout share a bucket: one batched product computes all of them.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Self

import torch
from torch import Tensor, nn

from sweeplab.multilora.dropout import Extent, compute_keep_factor, draw_dropout_mask
from sweeplab.multilora.inputs import InputBranches
from sweeplab.multilora.lowrank import DropoutMask, LowRankUpdate, Update, add_updates, hold_scaling
from sweeplab.multilora.slots import Layout, LoraMatrix, Slot, Span
from sweeplab.runtime.process_group import ONE_PROCESS, Ranks

_MOST_PADDING: Final = 2.5  # times the numbers of the adapters without padding, which has weights and gradients only


class _Bucket:
    """K slots of one layout, their weights as the rows of a tensor (K, P) on `device`, P numbers per adapter, which
    end in zeros where the rank is lower than another's; where they train, their gradients too."""

    def __init__(self, slots: list[Slot], device: torch.device, trains: bool) -> None:
        self.slots = slots
        self.rows_KP = slots[0].row_P.new_empty(len(slots), max(slot.num_entries for slot in slots), device=device)
        self.grads_KP = torch.zeros_like(self.rows_KP) if trains else None
        for index, slot in enumerate(slots):
            slot.move(self.rows_KP[index])
            if self.grads_KP is not None:
                slot.set_gradients(self.grads_KP[index])
        # made here, once: a copy in every forward would make the host wait for the device
        self.scalings = self._stack_factors(lambda matrix: matrix.scaling)
        self.keep_factors = self._stack_factors(lambda matrix: compute_keep_factor(matrix.dropout))

    def _stack_factors(self, read: Callable[[LoraMatrix], float]) -> dict[str, Tensor]:
        """A number of every slot, by matrix, each of shape (K, 1, 1)."""
        return {
            span.name: self.rows_KP.new_tensor([read(slot.matrices[span.name]) for slot in self.slots])[:, None, None]
            for span in self.slots[0].layout
        }

    def update(self, span: Span, first: int, chosen: slice) -> Update:
        """The update of the matrix `span` for the slots `chosen`, which are the trials from `first` on in the batch."""
        rows_KP, grads_KP = self.rows_KP[chosen], None if self.grads_KP is None else self.grads_KP[chosen]
        return Update(
            first,
            span.a_KRI(rows_KP),
            span.b_KOR(rows_KP),
            None if grads_KP is None else span.a_KRI(grads_KP),
            None if grads_KP is None else span.b_KOR(grads_KP),
            hold_scaling(
                [slot.matrices[span.name].scaling for slot in self.slots[chosen]], self.scalings[span.name][chosen]
            ),
            self.keep_factors[span.name][chosen],
        )


def _group_slots(slots: Sequence[Slot]) -> list[list[Slot]]:
    """The slots of each bucket. Slots of several ranks share one, the higher rank first, as long as padding does not
    make the weights `_MOST_PADDING` times as large; zeros add nothing to any product."""
    layouts: dict[tuple[Layout, torch.dtype], list[Slot]] = {}
    for slot in slots:
        layouts.setdefault((slot.layout, slot.row_P.dtype), []).append(slot)
    groups = []
    for alike in layouts.values():
        group: list[Slot] = []
        for slot in sorted(alike, key=lambda one: -one.num_entries):
            own = sum(one.num_entries for one in (*group, slot))
            if group and (len(group) + 1) * group[0].num_entries > _MOST_PADDING * own:
                groups.append(group)
                group = []
            group.append(slot)
        groups.append(group)
    return groups


class Excerpt:
    """One trial's part of a matrix that reads some positions only; its gradients wait here until `add_gradients`.

    Args:
        packed: the adapters on the base.
        number: of the trial in the batch.
        update: the trial's; None where it does not adapt the matrix.
        dropout: of the positions that are read; None where nothing is dropped.
    """

    def __init__(
        self, packed: "PackedAdapters", number: int, update: Update | None, dropout: DropoutMask | None
    ) -> None:
        self.packed = packed
        self.number = number
        self.update = update
        self.dropout = dropout
        self.waiting: Update | None = None
        if update is not None:
            assert update.grad_a_KRI is not None
            assert update.grad_b_KOR is not None
            grads = torch.zeros_like(update.grad_a_KRI), torch.zeros_like(update.grad_b_KOR)
            self.waiting = update._replace(first=0, grad_a_KRI=grads[0], grad_b_KOR=grads[1])

    @contextmanager
    def attached(self, rows: slice) -> Iterator[None]:
        """Within it the matrix reads these of the trial's positions, and adds up their gradients."""
        dropout = self.dropout and self.dropout._replace(mask_KNI=self.dropout.mask_KNI[:, rows])
        self.packed.excerpt = [] if self.waiting is None else [(self.waiting, dropout)]
        try:
            yield
        finally:
            self.packed.excerpt = None

    def add_gradients(self, factor: Tensor) -> None:
        """Adds the gradients, times `factor`, to those of the trial."""
        if self.update is not None and self.waiting is not None:
            factor = factor.to(self.update.a_KRI.dtype)
            for name in ("grad_a_KRI", "grad_b_KOR"):
                getattr(self.update, name).addcmul_(getattr(self.waiting, name), factor)


class PackedAdapters:
    """Adapter slots attached to a base until `close`: every trial's rows of a batch go through its own adapter.

    A batch holds the rows of the first trial, then as many rows of the second, and so on, in the order of `slots`.
    That order may differ from the order of the argument, since slots are grouped by layout.

    Args:
        base: the frozen model.
        slots: one for each trial.
        ranks: the processes that share the rows of a training batch.
        trains: whether there is a backward; without one there are no gradients.
    """

    def __init__(self, base: nn.Module, slots: Sequence[Slot], ranks: Ranks = ONE_PROCESS, trains: bool = True) -> None:
        device = next(base.parameters()).device
        self.buckets = [_Bucket(group, device, trains) for group in _group_slots(slots)]
        self.slots = [slot for bucket in self.buckets for slot in bucket.slots]
        self.anchor = nn.Parameter(self.slots[0].row_P.new_empty(0))
        self.base = base
        self.ranks = ranks
        self.extents: list[Extent] = []  # of each trial in the present micro-batch
        self.micro_steps: list[int] = []  # micro-batches that each trial has finished; part of its dropout's key
        self.updates: dict[str, list[Update]] = {}  # by matrix, for the selected slots
        self.selected: list[Slot] = []  # the slots whose trials have rows in a batch
        self.excerpt: list[tuple[Update, DropoutMask | None]] | None = None  # what a matrix reads in place of the batch
        self.select(self.slots)
        names = {name for slot in slots for name in slot.matrices}
        self.inputs = InputBranches()
        blocks = sorted({"", *(name.rpartition(".")[0] for name in names)})  # at whose end nobody reads an input again
        self.handles = [
            base.get_submodule(block).register_forward_hook(lambda *_: self.inputs.forget()) for block in blocks
        ]
        for name in sorted(names):
            matrix = base.get_submodule(name)
            self.handles.append(matrix.register_forward_pre_hook(self._read_branch))
            self.handles.append(matrix.register_forward_hook(self._build_hook(name)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Removes the hooks, so the base computes what it did before; the slots keep their weights."""
        for handle in self.handles:
            handle.remove()
        self.inputs.forget()
        for slot in self.slots:
            slot.drop_gradients()
        self.buckets, self.selected, self.updates = [], [], {}

    def zero_gradients(self) -> None:
        for bucket in self.buckets:
            if bucket.grads_KP is not None:
                bucket.grads_KP.zero_()

    def begin_micro_batch(self, extents: list[Extent], micro_steps: list[int]) -> None:
        """Sets what determines the dropout of each trial; to be called before every forward in training mode."""
        self.extents, self.micro_steps = extents, micro_steps

    def select(self, slots: Sequence[Slot]) -> None:
        """From now on a batch holds the rows of these slots' trials only, in this order."""
        self.selected = list(slots)
        self.updates = {}
        if self.selected == self.slots:
            first = 0
            for bucket in self.buckets:
                self._add_bucket(bucket, first, slice(0, len(bucket.slots)))
                first += len(bucket.slots)
            return
        for first, slot in enumerate(slots):
            (bucket,) = (one for one in self.buckets if slot in one.slots)
            index = bucket.slots.index(slot)
            self._add_bucket(bucket, first, slice(index, index + 1))

    def _add_bucket(self, bucket: _Bucket, first: int, chosen: slice) -> None:
        for span in bucket.slots[0].layout:
            self.updates.setdefault(span.name, []).append(bucket.update(span, first, chosen))

    @contextmanager
    def only(self, slots: Sequence[Slot]) -> Iterator[None]:
        """Within it a batch holds the rows of these slots' trials only; none: the model computes what the base does."""
        before = self.selected
        self.select(slots)
        try:
            yield
        finally:
            self.select(before)

    def _read_branch(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Before a matrix's forward: what others read too is cast once."""
        return self.inputs.branch(inputs[0], self._count_trials()), *inputs[1:]

    def _count_trials(self) -> int:
        return len(self.selected) if self.excerpt is None else 1

    def _build_hook(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
        """A forward hook that adds the updates of the matrix `name` to its result."""

        def add_to_result(module: nn.Module, inputs: tuple[Tensor, ...], result: Tensor) -> Tensor:
            x, shared = self.inputs.find(inputs[0], self._count_trials())
            chosen: list[tuple[Update, DropoutMask | None]]
            if self.excerpt is None:
                chosen = [(one, None) for one in self.updates.get(name, [])]
                if module.training:
                    num_inputs = x.numel() // x.shape[-1]
                    chosen = [(one, self._draw_dropout(name, one, num_inputs)) for one, _ in chosen]
            else:
                chosen = self.excerpt
            if not chosen or not result.numel():  # a head that is left out gives no logits (logits/states.py)
                return result
            updates, dropouts = [one for one, _ in chosen], [one for _, one in chosen]
            x_MNI = x.reshape(shared.num_trials, -1, x.shape[-1])
            result_MNO = result.reshape(shared.num_trials, -1, result.shape[-1])
            if not torch.is_grad_enabled():  # the base's own result is not needed again, so it is overwritten
                add_updates(x_MNI, result_MNO, shared, updates, dropouts)
                return result_MNO.view(result.shape)
            out_MNO: Tensor = LowRankUpdate.apply(  # type: ignore[no-untyped-call]
                x_MNI, result_MNO, self.anchor, shared, updates, dropouts
            )
            return out_MNO.view(result.shape)

        add_to_result.packed = self  # type: ignore[attr-defined]  # for `list_excerpts`
        return add_to_result

    def list_excerpts(
        self, name: str, is_training: bool, places: Sequence[Tensor], shape_BT: torch.Size
    ) -> list[Excerpt]:
        """An excerpt of the matrix `name` for each trial, which reads its `places`; see the function of this name."""
        updates = {one.first: one for update in self.updates.get(name, []) for one in update.split()}
        size = shape_BT.numel() // len(self.selected)  # places of a trial
        excerpts = []
        for number, own_N in enumerate(places):
            update, dropout = updates.get(number), None
            if update is not None and is_training:
                dropout = self._draw_dropout(name, update, shape_BT.numel())
            if dropout is not None:
                dropout = dropout._replace(mask_KNI=dropout.mask_KNI[:, own_N - number * size])
            excerpts.append(Excerpt(self, number, update, dropout))
        return excerpts

    def _draw_dropout(self, name: str, update: Update, num_inputs: int) -> DropoutMask | None:
        """Dropout of the update's trials on a matrix's input of so many vectors; None where none of them has any.

        Masks are drawn for the rows of all devices; this device keeps those of its own rows. The factor also
        multiplies padding, which no loss reads.
        """
        numbers = range(*update.trials)
        if not any(self.selected[number].matrices[name].dropout for number in numbers):
            return None
        num_rows = self.ranks.round_up_rows(max(1, *(extent.num_rows for extent in self.extents)))
        # 1 where a matrix reads one vector a row
        num_columns = num_inputs * self.ranks.size // (len(self.selected) * num_rows)
        width, device = update.a_KRI.shape[-1], update.a_KRI.device
        masks = []
        for number in numbers:
            slot = self.selected[number]
            key = f"{slot.seed} {self.micro_steps[number]} {name}"
            padded, extent = Extent(num_rows, num_columns), self.extents[number]
            own = Extent(extent.num_rows, min(extent.num_columns, num_columns))
            mask = draw_dropout_mask(key, slot.matrices[name].dropout, own, padded, width, device)
            masks.append(mask[self.ranks.rows] > 0)
        return DropoutMask(torch.stack(masks).flatten(1, 2), update.keep_factor_K11)


def list_excerpts(matrix: nn.Module, places_N: Tensor, counts: Sequence[int], shape_BT: torch.Size) -> list[Excerpt]:
    """An excerpt for each trial of a batch, where slots adapt `matrix`, which is to read N of its positions; else none.

    The positions of a batch of shape (B, T) come row by row, as row x T + column; each trial has so many as `counts`
    says.
    """
    for hook in matrix._forward_hooks.values():
        packed: PackedAdapters | None = getattr(hook, "packed", None)
        if packed is not None and packed.selected:
            name = next(name for name in packed.updates if packed.base.get_submodule(name) is matrix)
            return packed.list_excerpts(name, matrix.training, places_N.split(list(counts)), shape_BT)
    return []
