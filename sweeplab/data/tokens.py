"""Tokenizes prompts and responses, with a label for every token that counts in the loss."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from sweeplab.data.prompts import Example, render_prompt
from sweeplab.runtime.errors import ConfigError

IGNORED: Final = -100  # cross_entropy's ignore_index


class Tokens:
    """One example of T tokens: int64 ids and labels of shape (T,). A label is `IGNORED` where no loss is counted.

    Tokens and targets are counted once, here, so that a training step does not count them in Python.
    """

    def __init__(self, ids: Sequence[int] | Tensor, labels: Sequence[int] | Tensor) -> None:
        self.ids = torch.as_tensor(ids, dtype=torch.long)
        self.labels = torch.as_tensor(labels, dtype=torch.long)
        self.num_tokens = len(self.ids)
        # the first token is no target, since no token before it predicts it
        self.num_targets = int((self.labels[1:] != IGNORED).sum())


class _TokenizedSplit(NamedTuple):
    """Tokenized examples, without the dropped ones."""

    examples: list[Tokens]
    num_truncated: int  # cut at max_length
    num_dropped: int  # cut before their response began


def _encode_text(text: str, tokenizer: Any, *, special: bool) -> list[int]:
    """Token ids of `text`, without a warning where it is too long for the model: `tokenize_examples` cuts it."""
    ids: list[int] = tokenizer.encode(text, add_special_tokens=special, verbose=False)
    return ids


def _encode_example(example: Example, tokenizer: Any, style: str, mask_prompt: bool) -> Tokens:
    """The tokens of an example. Prompt and response are tokenized separately, so that the mask of the prompt ends
    exactly where the response begins."""
    prompt = render_prompt(example, style, tokenizer)
    # a chat template writes special tokens itself; for other styles the tokenizer adds its first one, if it has one
    prompt_ids = _encode_text(prompt, tokenizer, special=style != "template")
    if prompt_ids and prompt_ids[-1] == tokenizer.eos_token_id:
        prompt_ids = prompt_ids[:-1]
    response_ids = [*_encode_text(example.response, tokenizer, special=False), tokenizer.eos_token_id]
    masked = [IGNORED] * len(prompt_ids) if mask_prompt else prompt_ids
    return Tokens(prompt_ids + response_ids, masked + response_ids)


def _truncate(tokens: Tokens, max_length: int) -> Tokens:
    """The first `max_length` tokens of an example, as a copy, so that the memory of the others is freed."""
    if tokens.num_tokens <= max_length:
        return tokens
    return Tokens(tokens.ids[:max_length].clone(), tokens.labels[:max_length].clone())


def tokenize_examples(
    examples: list[Example], tokenizer: Any, style: str, mask_prompt: bool, max_length: int
) -> _TokenizedSplit:
    """The examples, cut at `max_length` tokens, without those whose response was cut off.

    Raises `ConfigError` where no example has a target left.
    """
    whole = [_encode_example(example, tokenizer, style, mask_prompt) for example in examples]
    cut = [_truncate(tokens, max_length) for tokens in whole]
    kept = [tokens for tokens in cut if tokens.num_targets > 0]
    if not kept:
        longest = max(tokens.num_tokens for tokens in whole)
        raise ConfigError(
            f"training.max_length={max_length} cuts off every response; raise it (the longest example has {longest})"
        )
    num_truncated = sum(tokens.num_tokens > max_length for tokens in whole)
    return _TokenizedSplit(kept, num_truncated, len(cut) - len(kept))
