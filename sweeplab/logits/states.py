"""The hidden states that a causal model's head reads, and the logits of any of them, by the model's own code.

B rows, T positions, N positions of any rows, H hidden size, V vocabulary.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from sweeplab.runtime.out_of_memory import known_as_out_of_memory

_CHUNK_BYTES: Final = 1 << 25  # most bytes of float32 logits at a time
_CUDA_POSITIONS: Final = 256  # at a time on a GPU: a product of fewer waits for the head's weights, read for each chunk
_MOST_CUDA_BYTES: Final = 1 << 28  # of those positions' logits
_ALLOWED_EPS: Final = 64  # difference of logits that rounding explains, in epsilons of the largest one
_reads_states: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()  # by causal model: `Readout` gives its logits


def widen_logits(logits: Tensor) -> Tensor:
    """The logits in float32, or in float64 where the model computes in float64."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def count_positions_per_chunk(vocab_size: int, device: str) -> int:
    """Positions whose logits are computed at a time on a device of this kind, cpu or cuda: at least one, as many as fit
    into `_CHUNK_BYTES`, and on a GPU `_CUDA_POSITIONS` where they fit into `_MOST_CUDA_BYTES`."""
    most = _CHUNK_BYTES // (4 * vocab_size)
    if device == "cuda":
        most = max(most, min(_CUDA_POSITIONS, _MOST_CUDA_BYTES // (4 * vocab_size)))
    return max(1, most)


class Readout(NamedTuple):
    """A batch's hidden states, and the model that makes logits of them.

    What a family does to logits (caps, scales, divides) is done by its own forward, in which the decoder's place is
    taken by the states that are asked for.
    """

    causal: Any  # transformers' model with the head, without what PEFT puts around it
    decoder: Any
    head: Any
    states_BTH: Tensor  # T: those of the text, without the ones that prompt tuning puts before it
    output_class: type  # of the decoder

    @property
    def vocab_size(self) -> int:
        return int(self.head.out_features)

    def compute_logits(self, states_NH: Tensor) -> Tensor:
        """Shape (N, V), in the dtype that the model gives."""
        states_1NH = states_NH[None]

        def return_states(*_: Any, **__: Any) -> Any:
            return self.output_class(last_hidden_state=states_1NH)

        ids_1N = torch.zeros(1, len(states_NH), dtype=torch.long, device=states_NH.device)  # nobody reads them
        with _replaced(self.decoder, return_states):
            logits_1NV: Tensor = self.causal.forward(input_ids=ids_1N).logits
        return logits_1NV.flatten(0, 1)  # an index would copy the gradient

    def list_trained_weights(self) -> list[nn.Parameter]:
        """Weights that logits depend on beside the hidden states, and that require gradients."""
        in_decoder = {id(weight) for weight in self.decoder.parameters()}
        in_decoder -= {id(weight) for weight in self.head.parameters()}  # a tied embedding is the head, too
        return [one for one in self.causal.parameters() if one.requires_grad and id(one) not in in_decoder]


@contextmanager
def _replaced(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Within it the module computes `forward`; its hooks stay."""
    own = vars(module).get("forward")
    module.forward = forward
    try:
        yield
    finally:
        if own is None:
            del module.forward
        else:
            module.forward = own


def find_head(model: nn.Module) -> Any:
    """The layer from hidden states to logits, with its adapter where it has one; None for a model without one."""
    output = getattr(model, "get_output_embeddings", None)
    head = None if output is None else output()
    return head if hasattr(head, "out_features") else None


def _find_decoder(causal: Any, head: Any) -> Any:
    """What gives the last hidden states: transformers' own answer, or where that is the whole model or its head, the
    part named `model`."""
    decoder = causal.get_decoder() if hasattr(causal, "get_decoder") else None
    return getattr(causal, "model", None) if decoder in (None, causal, head) else decoder


def read_states(model: nn.Module, inputs: dict[str, Tensor]) -> Readout | None:
    """The states of `inputs` from a forward that leaves the head out.

    None where the model's logits are not what its own forward makes of the last hidden states position by position;
    this is tried once for each model.
    """
    head = find_head(model)
    unwrap = getattr(model, "get_base_model", None)  # of PEFT
    causal: Any = model if unwrap is None else unwrap()
    decoder = None if head is None else _find_decoder(causal, head)
    if decoder is None or _reads_states.get(causal) is False:
        return None
    seen: list[Any] = []
    handle = decoder.register_forward_hook(lambda module, arguments, output: seen.append(output))
    try:
        if causal in _reads_states:
            with _replaced(head, lambda states_BTH: states_BTH.new_empty(len(states_BTH), 0, head.out_features)):
                model(**inputs)
            return _make_readout(causal, decoder, head, seen[0], inputs)
        readout = _try_readout(model, causal, decoder, head, seen, inputs)
    finally:
        handle.remove()
    _reads_states[causal] = readout is not None
    return readout


def _make_readout(causal: Any, decoder: Any, head: Any, output: Any, inputs: dict[str, Tensor]) -> Readout:
    num_columns = inputs["input_ids"].shape[1]
    return Readout(causal, decoder, head, output.last_hidden_state[:, -num_columns:], type(output))


def _try_readout(
    model: nn.Module, causal: Any, decoder: Any, head: Any, seen: list[Any], inputs: dict[str, Tensor]
) -> Readout | None:
    """The readout, with the logits of the last column computed in both ways; None where they differ.

    The model's own come from the last two columns, so that positions which are mixed after the head are seen. `seen`
    gets what the decoder gives.
    """
    was_training = head.training
    handle = head.register_forward_pre_hook(lambda module, arguments: (arguments[0][:, -2:], *arguments[1:]))
    head.eval()  # an adapter's dropout would drop differently in both ways
    try:
        with known_as_out_of_memory():
            logits_B2V = model(**inputs).logits
        handle.remove()
        readout = _make_readout(causal, decoder, head, seen[0], inputs)
        with torch.no_grad(), known_as_out_of_memory():
            is_same = logits_B2V.shape[1] <= 2 and _are_equal(
                readout.compute_logits(readout.states_BTH[:, -1]), logits_B2V[:, -1]
            )
    except torch.OutOfMemoryError:
        raise
    except (AttributeError, IndexError, TypeError, ValueError, RuntimeError):  # each architecture refuses in its way
        return None
    finally:
        handle.remove()
        head.train(was_training)
    return readout if is_same else None


def _are_equal(found_BV: Tensor, expected_BV: Tensor) -> bool:
    """Whether both are the same logits but for rounding."""
    allowed = _ALLOWED_EPS * torch.finfo(found_BV.dtype).eps * found_BV.abs().max()
    return bool((found_BV - expected_BV).abs().max() <= allowed)
