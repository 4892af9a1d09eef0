"""Log-likelihoods of chosen tokens at chosen positions, without gradients and a chunk of positions at a time."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sweeplab.logits.states import count_positions_per_chunk, find_head, read_states


def _fits_one_chunk(model: nn.Module, ids_BT: Tensor) -> bool:
    head = find_head(model)
    return head is not None and ids_BT.numel() <= count_positions_per_chunk(head.out_features, ids_BT.device.type)


@torch.no_grad()
def score_targets(
    model: nn.Module,
    inputs: dict[str, Any],
    rows_M: Tensor,
    columns_M: Tensor,
    targets_M: Tensor,
    dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor]:
    """log p in nats of M targets, each at a row and column of the batch, and whether no token is likelier: shapes (M,).

    Positions of several targets are computed once. Where all logits of the batch fit into one chunk they are taken as
    the model gives them, bit for bit: products with fewer rows may round differently. `dtype` is that of log p; None:
    that of the logits.
    """
    num_columns = inputs["input_ids"].shape[1]
    places_P, places_M = (rows_M * num_columns + columns_M).unique(return_inverse=True)
    readout = None if _fits_one_chunk(model, inputs["input_ids"]) else read_states(model, inputs)
    if readout is None:
        logits_BTV = model(**inputs).logits[:, -num_columns:]  # without those of prompt tuning
        sources_P, size = logits_BTV.flatten(0, 1)[places_P], len(places_P)
    else:
        sources_P = readout.states_BTH.flatten(0, 1)[places_P]
        size = count_positions_per_chunk(readout.vocab_size, sources_P.device.type)
    logs, likeliest = [], []
    order_M = places_M.argsort(stable=True)
    # of each chunk the last target's place in that order, all read at once: the host waits for a GPU here only
    ends_P = places_M.bincount(minlength=len(places_P)).cumsum(0)
    starts = range(0, len(places_P), size)
    ends = ends_P[[min(start + size, len(places_P)) - 1 for start in starts]].tolist()
    first = 0
    for start, last in zip(starts, ends, strict=True):
        sources = sources_P[start : start + size]
        logs_CV = F.log_softmax(readout.compute_logits(sources) if readout else sources, dim=-1, dtype=dtype)
        chosen = order_M[first:last]
        logs.append(logs_CV[places_M[chosen] - start, targets_M[chosen]])
        likeliest.append(logs_CV.argmax(dim=-1)[places_M[chosen] - start] == targets_M[chosen])
        first = last
    back_M = order_M.argsort()
    return torch.cat(logs)[back_M], torch.cat(likeliest)[back_M]
