"""Text that is written after several questions at once, padded on the left, where that is known to be what follows each
by itself; else one question after another."""

from collections.abc import Callable
from typing import Any, Final
from weakref import WeakKeyDictionary

from torch import Tensor

from sweeplab.runtime.rounding import allow_rounding, compute_distance, move_last_bits

NUM_TRIED: Final = 4  # tokens: the first follows from what is read, the others from what the model keeps of it
_tried: WeakKeyDictionary[Any, tuple[int, str | None]] = WeakKeyDictionary()  # most padding by model, and what it does


def count_padding(mask_BT: Tensor) -> list[int]:
    """Columns of padding before each row."""
    return (mask_BT == 0).sum(dim=1).tolist()


def find_batch_effect(model: Any, ids_BT: Tensor, mask_BT: Tensor, num_tried: int, pad_id: int) -> str | None:
    """What a row with more text beside it changes in the row that has most padding; None where only rounding does.

    A recurrent model may carry padding on as if it were text, or mix what it keeps of the rows. Tried once for each
    model, and again where a row has more padding than before.
    """
    padding = count_padding(mask_BT)
    most, why = _tried.get(model, (-1, None))
    if why is None and max(padding) > most:
        most = max(padding)
        rows = [padding.index(most), padding.index(min(padding))]
        why = _compare(model, ids_BT[rows], mask_BT[rows], most, num_tried, pad_id)
        _tried[model] = (most, why)
    return why


def _compare(model: Any, ids_2T: Tensor, mask_2T: Tensor, padding: int, num_tried: int, pad_id: int) -> str | None:
    """How the first row's logits beside the second differ from those without it and without `padding`."""

    def write(rows: int, start: int) -> list[Tensor]:
        written = model.generate(
            input_ids=ids_2T[:rows, start:],
            attention_mask=mask_2T[:rows, start:],
            max_length=ids_2T.shape[1] - start + num_tried,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
            pad_token_id=pad_id,
            use_cache=True,
        )
        return [logits[0] for logits in written.logits]

    alone, beside = write(1, padding), write(2, 0)
    with move_last_bits(model):
        moved = write(1, padding)
    for mine, exact, other in zip(beside, alone, moved, strict=False):  # an end token may come sooner in one of them
        allowed = allow_rounding(compute_distance(other, exact), exact.double().abs().mean().item(), exact.dtype)
        apart = compute_distance(mine, exact)
        if not apart <= allowed:
            return f"{apart:.2g} is what other rows and padding move its logits by, and rounding explains {allowed:.2g}"
        if not mine.argmax() == exact.argmax() == other.argmax():
            break  # a tie, after which each goes on with another text
    return None


def write_each(write: Callable[[Tensor, Tensor, int], Tensor], ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """What `write(ids, mask, padding)` gives for each row without the `padding` before it; as one batch, zeros before
    and after."""
    padding = count_padding(mask_BT)
    parts = [write(ids_BT[row : row + 1, one:], mask_BT[row : row + 1, one:], one) for row, one in enumerate(padding)]
    width = max(one + part.shape[1] for one, part in zip(padding, parts, strict=True))
    whole_BT = ids_BT.new_zeros(len(parts), width)
    for row, (one, part) in enumerate(zip(padding, parts, strict=True)):
        whole_BT[row, one : one + part.shape[1]] = part[0]
    return whole_BT
