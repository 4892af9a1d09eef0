"""The loss of a language model with a large vocabulary, a few positions at a time, never all of its logits."""

from typing import Any, Final
from weakref import WeakSet

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

CHUNK_BYTES: Final = 1 << 25  # of 32-bit logits at once; fewer in all are taken together, which is faster
AT_ONCE: Final[WeakSet[nn.Module]] = WeakSet()  # heads whose result is not the model's logits yet


def widened(logits: Tensor) -> Tensor:
    """In 32 bits or, of a model in 64, in 64."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def columns_at_once(vocab_size: int, num_rows: int, num_columns: int) -> int:
    """Positions of every row whose logits stand together: all, or as many as `CHUNK_BYTES` hold, at least one."""
    column_bytes = 4 * vocab_size * num_rows
    if num_columns * column_bytes <= CHUNK_BYTES:
        return num_columns
    return max(1, CHUNK_BYTES // column_bytes)


def head_of(model: nn.Module) -> Any:
    """The matrix from hidden states to logits, with an adapter's layer around it; None where the model names none."""
    output = getattr(model, "get_output_embeddings", None)
    head = None if output is None else output()
    return head if hasattr(head, "out_features") else None


def drops(head: nn.Module) -> bool:
    """True where the head's adapter has dropout: drawn chunk by chunk it would be another than drawn at once."""
    layers = [getattr(one, "p", 0.0) for one in head.modules() if isinstance(one, nn.Dropout)]
    hooks = [getattr(hook, "draws", False) for hook in head._forward_hooks.values()]
    return head.training and (any(layers) or any(hooks))


def hidden_states(model: Any, head: nn.Module, inputs: dict[str, Tensor]) -> Tensor | None:
    """What `head` reads, shape (B, T, H), from a forward in which it computes the last position only.

    None where the model's logits are not just the head's result on the last layer's normed states: some families scale
    or bound theirs.
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
    read_in_place = seen["read"].data_ptr() == seen["states"][:, -1:].data_ptr()
    return seen["states"] if read_in_place and logits.data_ptr() == seen["logits"].data_ptr() else None


def losses_of_chunk(head: nn.Module, states_BCH: Tensor, targets_BC: Tensor) -> Tensor:
    """-log p of every target, 0 where there is none, shape (B, C)."""
    logits_NV = widened(head(states_BCH.contiguous()).flatten(0, 1))
    losses = F.cross_entropy(logits_NV, targets_BC.flatten(), reduction="none")
    return losses.view(targets_BC.shape)


def row_losses(head: Any, states_BTH: Tensor, targets_BT: Tensor) -> Tensor:
    """Sum of -log p over the targets of each row, shape (B,), one chunk of columns after another.

    A chunk's logits are gone once its losses are known, and are computed again in the backward. It has the same columns
    of every row, so that trials' rows stay side by side for adapters of the head. Columns without a target are skipped.
    """
    columns = (targets_BT >= 0).any(dim=0).nonzero()[:, 0]
    states_BCH, targets_BC = states_BTH[:, columns], targets_BT[:, columns]
    size = columns_at_once(head.out_features, len(targets_BT), len(columns))
    sums_B = widened(states_BCH[:, :0]).sum(dim=(1, 2))
    if size == 0:
        return sums_B
    for states, targets in zip(states_BCH.split(size, dim=1), targets_BC.split(size, dim=1), strict=True):
        if torch.is_grad_enabled():
            # nothing is drawn within, so no state of a generator has to come back
            losses_BC = checkpoint(
                losses_of_chunk, head, states, targets, use_reentrant=False, preserve_rng_state=False
            )
        else:
            losses_BC = losses_of_chunk(head, states, targets)
        sums_B = sums_B + losses_BC.sum(dim=1)
    return sums_B


def chunked_losses(model: nn.Module, inputs: dict[str, Tensor], labels_BT: Tensor) -> Tensor | None:
    """Sum of -log p over the targets of each row, shape (B,), without all logits at once.

    None where they are better taken at once: there are few, or the head or its adapter does not allow chunks.
    """
    head, (num_rows, num_columns) = head_of(model), labels_BT.shape
    if head is None or head in AT_ONCE or drops(head):
        return None
    if columns_at_once(head.out_features, num_rows, num_columns) == num_columns:
        return None
    states_BTH = hidden_states(model, head, inputs)
    if states_BTH is None:
        AT_ONCE.add(head)
        return None
    states_BTH = states_BTH[:, -num_columns:]  # a trained prompt has states of its own, before the text's
    return row_losses(head, states_BTH[:, :-1], labels_BT[:, 1:])
