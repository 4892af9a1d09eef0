"""What a base computes for several texts at once must be what it computes for each alone: proven, or refused."""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor
from transformers import PreTrainedModel

from sweeplab.data.batches import Batch, Row, collate_rows
from sweeplab.data.packing import PackedRow
from sweeplab.evaluation.shared_context import SharingRule
from sweeplab.models.base import Base
from sweeplab.models.row_limits import find_growing_length, find_row_limit, inexact_packing_error, list_row_limits
from sweeplab.runtime.errors import ConfigError, describe_error
from sweeplab.runtime.out_of_memory import known_as_out_of_memory
from sweeplab.runtime.rounding import bound_rounding, compute_distance
from sweeplab.training.module import build_attention_inputs

_NUM_COLUMNS: Final = 256  # of the vocabulary, spread over it, that logits are compared at


def refuse_inexact_packing(base: Base, rows: Sequence[PackedRow], max_length: int) -> None:
    """Raises `ConfigError` where packed rows are not computed as their examples alone: by the configuration of the
    model, and as it computes the row of the longest example and the row of the most examples."""
    longest = max(tokens.num_tokens for row in rows for tokens in row.sequences)
    limit = find_row_limit(list_row_limits(base.model), longest)
    if limit is not None:
        raise inexact_packing_error(limit, max_length)
    if any(type(module).__name__ == "Linear8bitLt" for module in base.model.modules()):
        return  # what 8-bit products give depends on all rows of a batch, packed or not
    tried = [
        max(rows, key=lambda row: max(tokens.num_tokens for tokens in row.sequences)),
        max(rows, key=lambda row: len(row.sequences)),
    ]
    for row in tried[:1] if tried[0] is tried[1] else tried:
        why = _find_difference(base, row)
        if why is not None:
            raise ConfigError(
                f"data.packing=true would give other numbers than the examples one by one: {why}; choose "
                "data.packing=false"
            )


@torch.no_grad()
def _find_difference(base: Base, row: PackedRow) -> str | None:
    """How the row's logits differ from those of its examples alone; None where by rounding only."""
    model, device = base.model, base.model.device

    def pick(logits_1TV: Tensor) -> Tensor:
        return logits_1TV[0, :, :: max(1, logits_1TV.shape[-1] // _NUM_COLUMNS)].clone()

    def compute_each() -> Tensor:
        alone = (tokens.ids[None].to(device) for tokens in row.sequences)
        return torch.cat([pick(model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits) for ids in alone])

    batch = collate_rows([row], base.pad_id, 0)
    assert isinstance(batch, Batch)
    inputs = {name: part.to(device) for name, part in build_attention_inputs(batch).items()}
    try:
        with known_as_out_of_memory():
            packed = pick(model(input_ids=batch.ids_BT.to(device), **inputs).logits)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # of any architecture: one that takes no such mask says so in its own way
        return f"this model takes no mask that keeps examples apart ({describe_error(error)})"
    each = compute_each()
    apart, allowed = compute_distance(packed, each), bound_rounding(model, compute_each, each)
    if apart <= allowed:
        return None
    return f"logits of a packed row differ by {apart:.2g} on average, and rounding explains {allowed:.2g}"


def why_own_batches(base: Base, rows: Sequence[Row]) -> str | None:
    """Why a trial's numbers depend on which rows stand beside its own, so that no other trial's may; None where they
    do not."""
    if base.draws_random_numbers:
        return "the base draws random numbers in training"
    if base.model.device.type == "cuda" and any(type(one).__name__ == "Linear8bitLt" for one in base.model.modules()):
        return "int8 on CUDA takes an outlier in any row of a batch as one of all rows"
    if base.tokenizer is None:
        return None
    longest = max(row.num_tokens for row in rows)
    if base.growing_length is not None and longest > base.growing_length:
        return "a long row changes what the base computes for the others of its batch"
    return None


def choose_sharing_rule(model: PreTrainedModel) -> SharingRule:
    """Which texts may share a row or a batch of `model`, as its configuration says."""
    limits = list_row_limits(model)

    def why_unshared(longest: int) -> str | None:
        limit = find_row_limit(limits, longest)
        return None if limit is None else f"this model has {limit.why}"

    return SharingRule(why_unshared, find_growing_length(model))
