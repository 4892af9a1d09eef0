"""Up to what length a base may read several texts in one row, as its configuration says."""

import inspect
import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import torch
from transformers import PretrainedConfig, PreTrainedModel

from sweeplab.runtime.errors import ConfigError

ATTENTION_BLOCK: Final = 16  # columns
_WHOLE_ATTENTION: Final = {"full_attention", "attention", "moe", "dense", "mlp", "full", "global"}
_WINDOWED: Final = {"sliding_attention", "chunked_attention", "sliding", "local"}
_LAYER_LISTS: Final = ("layer_types", "layers_block_type", "block_types", "_block_types", "attention_layers")
_WINDOW_NAME: Final = re.compile(r"window|attention_chunk_size|local_attention$")
_CHOSEN_TOKENS: Final = ("index_topk", "keep_window_size")  # of DeepSeek's sparse attention, and of Doge's
_NOT_A_WINDOW: Final = re.compile(r"^use_|pattern|layers$|max_window")


class RowLimit(NamedTuple):
    """Examples of more than `num_tokens` tokens cannot share a row: what they compute there is not what they compute
    alone."""

    num_tokens: int
    why: str


def find_row_limit(limits: Sequence[RowLimit], longest: int) -> RowLimit | None:
    """What forbids rows with an example of `longest` tokens; None where the configuration names nothing."""
    return next((limit for limit in limits if limit.num_tokens < longest), None)


def inexact_packing_error(limit: RowLimit, max_length: int) -> ConfigError:
    """The refusal of rows that several examples share."""
    if limit.num_tokens == 0:
        return ConfigError(
            "data.packing=true gives other numbers than the same examples in rows of their own, since this model has "
            f"{limit.why}; choose data.packing=false"
        )
    return ConfigError(
        f"data.packing=true ignores that this model has {limit.why}, which is shorter than "
        f"training.max_length={max_length}; choose data.packing=false, or training.max_length={limit.num_tokens}"
    )


def list_row_limits(model: PreTrainedModel) -> list[RowLimit]:
    """What the configuration and the class of `model` say of rows that several texts share.

    Such a row brings a mask of four dimensions and positions of its own. The mask replaces the model's own window or
    chunks of attention, and does not reach what else carries from token to token.
    """
    config = model.config.get_text_config()
    kinds = _list_layer_kinds(config)
    limits = [RowLimit(0, why) for why in _list_obstacles(model, config, kinds)]
    if not kinds or kinds & _WINDOWED:
        limits += [RowLimit(size, f"an attention window of {size} tokens") for size in _list_windows(config)]
    return limits + _list_rotary_limits(config)


def find_growing_length(model: PreTrainedModel) -> int | None:
    """The tokens beyond which a row changes what rows of other lengths in its batch compute; None: no row does.

    Rotary positions that change with the longest row, and attention to some tokens that it chooses: between equal ones
    the width of the row decides.
    """
    config = model.config.get_text_config()
    chosen = [getattr(config, name, None) for name in _CHOSEN_TOKENS]
    sizes = [size for size in chosen if isinstance(size, int) and size > 0]
    return min([*sizes, *(one.num_tokens for one in _list_rotary_limits(config))], default=None)


def find_column_multiple(model: PreTrainedModel) -> int:
    """What the number of a micro-batch's columns is rounded up to a multiple of: in half precision that of attention's
    blocks, else 1.

    A kernel sums the last, partial block of a row in another order: in half precision one such rounding is as large as
    a thousandth of a logit, so that a trial alone and one beside a longer row would part. It leaves few widths, too:
    what a library prepares for each shape is prepared seldom. 1 where rounding up could pass a length from which the
    model computes otherwise.
    """
    config = model.config.get_text_config()
    lengths = [getattr(config, "max_position_embeddings", 0) or 0, find_growing_length(model) or 0]
    is_half = model.dtype in (torch.bfloat16, torch.float16)
    return ATTENTION_BLOCK if is_half and all(length % ATTENTION_BLOCK == 0 for length in lengths) else 1


def _list_layer_kinds(config: PretrainedConfig) -> set[str]:
    found: set[str] = set()
    for name in _LAYER_LISTS:
        values = getattr(config, name, None)
        if isinstance(values, list | tuple):
            found |= {value for value in values if isinstance(value, str)}
    return found


def _list_obstacles(model: PreTrainedModel, config: PretrainedConfig, kinds: set[str]) -> list[str]:
    """Why no row at all may be shared."""
    found = []
    strange = sorted(kinds - _WHOLE_ATTENTION - _WINDOWED)
    if strange:
        found.append(f"layers of the kind {strange[0]}, which a mask does not keep apart")
    elif getattr(model, "_is_stateful", False):
        found.append("layers that carry a state from token to token")
    if getattr(config, "alibi", False) or getattr(config, "position_embedding_type", None) == "alibi":
        found.append("positions by ALiBi, which follow from the place in the row")
    if "position_ids" not in inspect.signature(model.forward).parameters:
        found.append("positions that always count from the beginning of the row")
    if any(hasattr(module, "create_position_ids_from_input_ids") for module in model.modules()):
        found.append("positions that count from the padding token's id")
    if model.config._attn_implementation == "eager":
        found.append("attention that takes no mask of this kind (no torch attention in transformers)")
    return found


def _list_windows(config: PretrainedConfig) -> list[int]:
    values: dict[str, Any] = config.to_dict()
    return sorted(
        value
        for name, value in values.items()
        if _WINDOW_NAME.search(name)
        and not _NOT_A_WINDOW.search(name)
        and isinstance(value, int)
        and not isinstance(value, bool)
        and value > 0
    )


def _list_rotary_limits(config: PretrainedConfig) -> list[RowLimit]:
    """Rotary positions that are others in a batch with a long row (transformers' `dynamic_rope_update`)."""
    rotary = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None)
    by_layer = rotary.values() if isinstance(rotary, dict) and "rope_type" not in rotary else [rotary]
    sizes = []
    for one in by_layer:
        if not isinstance(one, dict):
            continue
        kind = one.get("rope_type")
        if kind == "dynamic":  # of which transformers compares the present length with this one
            sizes.append(config.max_position_embeddings)
        elif kind == "longrope":
            size = one.get("original_max_position_embeddings") or getattr(config, "original_max_position_embeddings", 0)
            sizes.append(size or config.max_position_embeddings)
    size = int(min(sizes, default=0))
    return [RowLimit(size, f"a range of {size} tokens, beyond which its rotary positions change")] if sizes else []
