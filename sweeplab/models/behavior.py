"""Whether a base draws random numbers in training, and whether it reads from left to right: found by running it."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from transformers import masking_utils

from sweeplab.models.vision import is_image_classifier
from sweeplab.runtime.errors import ConfigError, refuses_any_error
from sweeplab.runtime.out_of_memory import known_as_out_of_memory
from sweeplab.runtime.rounding import bound_rounding, compute_distance

_NUM_ROWS: Final = 2
_NUM_TOKENS: Final = 16


def make_small_inputs(model: Any, device: torch.device) -> dict[str, Tensor]:
    """A batch of two short rows, or of two images of noise."""
    generator = torch.Generator().manual_seed(0)
    if is_image_classifier(model.config):
        side = model.config.image_size
        pixels = torch.randn(_NUM_ROWS, model.config.num_channels, side, side, generator=generator)
        return {"pixel_values": pixels.to(device, model.dtype)}
    vocab_size = model.get_input_embeddings().num_embeddings
    ids = torch.randint(0, vocab_size, (_NUM_ROWS, _NUM_TOKENS), generator=generator).to(device)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def try_short_texts(model: Any, source: str) -> bool:
    """True for a base that draws random numbers in training. Raises `ConfigError` for one that is not causal, or that
    cannot compute a few tokens at all."""
    remedy = "choose another model"
    subject = f"model {source} cannot compute a row of a few tokens"
    with refuses_any_error(subject, remedy, torch.OutOfMemoryError), known_as_out_of_memory():
        draws = has_randomness(model)
        reads_forward = is_image_classifier(model.config) or is_causal(model)
    if not reads_forward:
        raise ConfigError(
            f"model {source} is no causal language model: a token changes what the model computes before it, so it "
            "would see the answers that it is to learn; choose a model that reads from left to right"
        )
    return draws


@torch.no_grad()
def has_randomness(model: nn.Module) -> bool:
    """True where a forward in training mode moves a generator of random numbers, or two of them differ.

    So dropout is seen wherever a family keeps its rate, and so are routers that sample or jitter and layers that are
    left out. Generators and the mode are as before afterwards.
    """
    device = next(model.parameters()).device
    inputs, was_training = make_small_inputs(model, device), model.training
    with random_numbers_kept(device):
        model.train()
        try:
            before = _read_generators(device)
            first: Tensor = model(**inputs).logits
            if _read_generators(device) != before:
                return True
            second: Tensor = model(**inputs).logits
            if torch.equal(first, second):
                return False
            if "pixel_values" in inputs:
                return True
            return compute_distance(first, second) > bound_rounding(model, lambda: model(**inputs).logits, first)
        finally:
            model.train(was_training)


@torch.no_grad()
def is_causal(model: nn.Module) -> bool:
    """True where no token changes what the model computes before it; so padding on the right changes nothing either.

    A model that reads both ways would see the answer that it is to learn. 8-bit products depend on all of a batch, and
    are taken to be causal.
    """
    if any(type(module).__name__ == "Linear8bitLt" for module in model.modules()):
        return True
    inputs = make_small_inputs(model, next(model.parameters()).device)
    ids_BT, half = inputs["input_ids"], _NUM_TOKENS // 2
    other_BT, masked_BT = ids_BT.clone(), torch.ones_like(ids_BT)
    other_BT[:, half:] = ids_BT[:, :half]
    masked_BT[:, half:] = 0

    def compute(ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        logits: Tensor = model(input_ids=ids_BT, attention_mask=mask_BT).logits[:, :half]
        return logits

    first = compute(ids_BT, inputs["attention_mask"])
    allowed = bound_rounding(model, lambda: compute(ids_BT, inputs["attention_mask"]), first)
    others = compute(other_BT, inputs["attention_mask"]), compute(other_BT, masked_BT)
    return all(compute_distance(first, other) <= allowed for other in others)


@contextmanager
def one_sequence_per_row() -> Iterator[None]:
    """Within it a row without a mask is one sequence from left to right.

    Without a mask transformers (`masking_utils`, 5.23) looks whether positions begin again within a row, and the host
    waits for the device to say so.
    """
    kept = masking_utils.find_packed_sequence_indices
    masking_utils.find_packed_sequence_indices = lambda position_ids: None
    try:
        yield
    finally:
        masking_utils.find_packed_sequence_indices = kept


def _read_generators(device: torch.device) -> list[Any]:
    """The states of every generator that a model may draw from."""
    arrays: Any = np.random.get_state()
    states = [torch.get_rng_state()] + ([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])
    return [random.getstate(), arrays[1].tobytes(), arrays[2:], *(state.tolist() for state in states)]


@contextmanager
def random_numbers_kept(device: torch.device) -> Iterator[None]:
    """Restores the states of all random number generators afterwards: what comes later draws the same numbers as
    without what ran within."""
    own, arrays = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        random.setstate(own)
        np.random.set_state(arrays)
