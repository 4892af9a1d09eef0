"""The loss of a language model computed for a few positions at a time.

The logits of all positions of a large vocabulary would need more memory than the rest of the step. B rows, T
positions, C positions of a chunk, H hidden size, N rows times positions, V vocabulary.
"""

from typing import Any, Final
from weakref import WeakSet

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

_CHUNK_BYTES: Final = 1 << 25  # most bytes of float32 logits at a time; logits that need less are not cut
_WHOLE_LOGITS: Final[WeakSet[nn.Module]] = WeakSet()  # heads whose model changes the logits after the head


def widen_logits(logits: Tensor) -> Tensor:
    """The logits in float32, or in float64 where the model computes in float64."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _count_columns_per_chunk(vocab_size: int, num_rows: int, num_columns: int) -> int:
    """Positions of each row in one chunk: all, or as many as fit into `_CHUNK_BYTES`, at least one."""
    column_bytes = 4 * vocab_size * num_rows
    if num_columns * column_bytes <= _CHUNK_BYTES:
        return num_columns
    return max(1, _CHUNK_BYTES // column_bytes)


def _find_head(model: nn.Module) -> Any:
    """The layer from hidden states to logits, with its adapter where it has one; None for a model without one."""
    output = getattr(model, "get_output_embeddings", None)
    head = None if output is None else output()
    return head if hasattr(head, "out_features") else None


def _has_dropout(head: nn.Module) -> bool:
    """True where the head's adapter has dropout: a mask drawn for each chunk would differ from one drawn at once."""
    layers = [getattr(one, "p", 0.0) for one in head.modules() if isinstance(one, nn.Dropout)]
    hooks = [getattr(hook, "has_dropout", False) for hook in head._forward_hooks.values()]
    return head.training and (any(layers) or any(hooks))


def _compute_hidden_states(model: Any, head: nn.Module, inputs: dict[str, Tensor]) -> Tensor | None:
    """The input of `head`, shape (B, T, H), from a forward in which the head computes the last position only.

    None where the model's logits are not simply head(states of the decoder): some families scale or cap them.
    """
    seen: dict[str, Tensor] = {}

    def keep_states(module: nn.Module, arguments: Any, output: Any) -> None:
        seen["states"] = output[0]

    def keep_logits(module: nn.Module, arguments: Any, output: Tensor) -> None:
        seen["read"], seen["logits"] = arguments[0], output

    handles = [model.get_decoder().register_forward_hook(keep_states), head.register_forward_hook(keep_logits)]
    try:
        logits = model(**inputs, logits_to_keep=1).logits
    finally:
        for handle in handles:
            handle.remove()
    reads_states = seen["read"].data_ptr() == seen["states"][:, -1:].data_ptr()  # the same memory: nothing in between
    return seen["states"] if reads_states and logits.data_ptr() == seen["logits"].data_ptr() else None


def _compute_chunk_losses(head: nn.Module, states_BCH: Tensor, targets_BC: Tensor) -> Tensor:
    """-log p of every target in nats, shape (B, C); 0 at positions without a target."""
    logits_NV = widen_logits(head(states_BCH.contiguous()).flatten(0, 1))
    losses = F.cross_entropy(logits_NV, targets_BC.flatten(), reduction="none")
    return losses.view(targets_BC.shape)


def _sum_row_losses(head: Any, states_BTH: Tensor, targets_BT: Tensor, columns_C: Tensor | None) -> Tensor:
    """Sum of -log p over the targets of each row, in nats, shape (B,), computed chunk by chunk.

    The logits of a chunk are freed after the forward and computed again in the backward. A chunk has the same columns
    of all rows, because adapters of the head need the rows of all trials at once. Columns without any target are left
    out.
    """
    columns = (targets_BT >= 0).any(dim=0).nonzero()[:, 0] if columns_C is None else columns_C
    states_BCH, targets_BC = states_BTH[:, columns], targets_BT[:, columns]
    size = _count_columns_per_chunk(head.out_features, len(targets_BT), len(columns))
    sums_B = widen_logits(states_BCH[:, :0]).sum(dim=(1, 2))
    if size == 0:
        return sums_B
    for states, targets in zip(states_BCH.split(size, dim=1), targets_BC.split(size, dim=1), strict=True):
        if torch.is_grad_enabled():
            # no random number is drawn inside, so no generator's state has to be restored
            losses_BC = checkpoint(
                _compute_chunk_losses, head, states, targets, use_reentrant=False, preserve_rng_state=False
            )
        else:
            losses_BC = _compute_chunk_losses(head, states, targets)
        sums_B = sums_B + losses_BC.sum(dim=1)
    return sums_B


def compute_chunked_losses(
    model: nn.Module, inputs: dict[str, Tensor], labels_BT: Tensor, columns_C: Tensor | None = None
) -> Tensor | None:
    """Sum of -log p over the targets of each row, in nats, shape (B,).

    `columns_C` are those that predict a target in any row; without them the host waits until they are found. None where
    all logits should be computed at once: they are few, or the head or its adapter does not allow chunks.
    """
    head, (num_rows, num_columns) = _find_head(model), labels_BT.shape
    if head is None or head in _WHOLE_LOGITS or _has_dropout(head):
        return None
    if _count_columns_per_chunk(head.out_features, num_rows, num_columns) == num_columns:
        return None
    states_BTH = _compute_hidden_states(model, head, inputs)
    if states_BTH is None:
        _WHOLE_LOGITS.add(head)
        return None
    states_BTH = states_BTH[:, -num_columns:]  # prompt tuning puts states of its own before those of the text
    return _sum_row_losses(head, states_BTH[:, :-1], labels_BT[:, 1:], columns_C)
