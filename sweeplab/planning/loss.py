"""Bytes of the logits and of their gradient, at the moment when the loss holds the most."""

from typing import NamedTuple

from sweeplab.adapters.counting import Skeleton
from sweeplab.logits.states import count_positions_per_chunk
from sweeplab.planning.blocks import FP32_BYTES
from sweeplab.runtime.device import PlannedDevice


class _LogitsBytes(NamedTuple):
    """Bytes of the loss at its highest, in the forward pass and in its gradient."""

    forward: int
    backward: int


class ScoredRows(NamedTuple):
    """Rows of a batch, and of each the positions that have logits and those that predict a target."""

    num_rows: int
    num_positions: int
    num_targets: int


def forecast_logits(
    sizes: Skeleton, scored: ScoredRows, device: PlannedDevice, whole: bool, adapts_head: bool = False
) -> _LogitsBytes:
    """What the loss of `training/module.py` holds at its highest, in the device's dtype of e bytes.

    Of a text model, for a chunk of C targets of all N: per word of the vocabulary 32-bit logits and their log-softmax,
    which becomes their gradient, 8 C, and where the head is adapted and e is less than 4 the gradient of its result as
    it comes, and in 32 bits, (e + 4) C; beside it for each target its hidden state and that one's gradient, 2 e h N, of
    which the backward gets the second and spreads it over all P positions, e h (N + P).

    `whole`, as for images, the logits of P positions at once. Per class, forward: the model's own e P with the
    targets' copy in e N, and in 32 bits 4 N where e is less; or, once those are gone, 32-bit logits and their
    log-softmax, 8 N. Backward: the log-softmax and the gradients of both, 12 N; or the gradient scattered back to all
    positions, 2 e P.
    """
    (rows, columns, targets), dtype_bytes = scored, device.dtype.itemsize
    positions, counted = rows * columns, rows * targets
    if whole:
        widened = FP32_BYTES if dtype_bytes < FP32_BYTES else 0
        forward = max(dtype_bytes * (positions + counted) + widened * counted, 2 * FP32_BYTES * counted)
        backward = max(3 * FP32_BYTES * counted, 2 * dtype_bytes * positions)
        return _LogitsBytes(sizes.vocab_size * forward, sizes.vocab_size * backward)
    chunk = sizes.vocab_size * min(counted, count_positions_per_chunk(sizes.vocab_size, device.kind))
    state_bytes = dtype_bytes * sizes.hidden_size
    word_bytes = 2 * FP32_BYTES + (dtype_bytes + FP32_BYTES) * (adapts_head and dtype_bytes < FP32_BYTES)
    return _LogitsBytes(word_bytes * chunk + 2 * state_bytes * counted, state_bytes * (counted + positions))
