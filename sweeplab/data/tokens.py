"""Prompts and responses to tokens, with the labels that the loss counts."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from sweeplab.data.prompts import Example, render_prompt
from sweeplab.runtime.errors import ConfigError

IGNORED: Final = -100  # cross_entropy's ignore_index


class Tokens:
    """One example of T tokens: int64 ids and labels of shape (T,), the labels `IGNORED` where no loss is counted.

    Counts are taken once, when it is made, so that a training step handles whole rows in Python, never tokens.
    """

    def __init__(self, ids: Sequence[int] | Tensor, labels: Sequence[int] | Tensor) -> None:
        self.ids = torch.as_tensor(ids, dtype=torch.long)
        self.labels = torch.as_tensor(labels, dtype=torch.long)
        self.num_tokens = len(self.ids)
        # that the loss counts: the first position of a sequence predicts nothing before it
        self.num_targets = int((self.labels[1:] != IGNORED).sum())


class TokenizedSplit(NamedTuple):
    examples: list[Tokens]
    num_truncated: int  # cut at max_length
    num_dropped: int  # cut before their response began


def _encode_text(text: str, tokenizer: Any, *, special: bool) -> list[int]:
    """Without a warning for a text that is longer than the model reads: `tokenize_examples` cuts it."""
    ids: list[int] = tokenizer.encode(text, add_special_tokens=special, verbose=False)
    return ids


def encode_example(example: Example, tokenizer: Any, style: str, mask_prompt: bool) -> Tokens:
    """Prompt and response are tokenized apart, so that the mask ends exactly where the response begins."""
    prompt = render_prompt(example, style, tokenizer)
    # a chat template writes its own special tokens; the other styles want the tokenizer's first one, if it has one
    prompt_ids = _encode_text(prompt, tokenizer, special=style != "template")
    if prompt_ids and prompt_ids[-1] == tokenizer.eos_token_id:
        prompt_ids = prompt_ids[:-1]
    response_ids = [*_encode_text(example.response, tokenizer, special=False), tokenizer.eos_token_id]
    masked = [IGNORED] * len(prompt_ids) if mask_prompt else prompt_ids
    return Tokens(prompt_ids + response_ids, masked + response_ids)


def _truncate(tokens: Tokens, max_length: int) -> Tokens:
    """At most so many tokens of an example, without holding on to the others."""
    if tokens.num_tokens <= max_length:
        return tokens
    return Tokens(tokens.ids[:max_length].clone(), tokens.labels[:max_length].clone())


def tokenize_examples(
    examples: list[Example], tokenizer: Any, style: str, mask_prompt: bool, max_length: int
) -> TokenizedSplit:
    """All examples, cut at `max_length` tokens. Raises `ConfigError` where nothing is left to learn from."""
    whole = [encode_example(example, tokenizer, style, mask_prompt) for example in examples]
    cut = [_truncate(tokens, max_length) for tokens in whole]
    kept = [tokens for tokens in cut if tokens.num_targets > 0]
    if not kept:
        longest = max(tokens.num_tokens for tokens in whole)
        raise ConfigError(
            f"training.max_length={max_length} cuts off every response; raise it (the longest example has {longest})"
        )
    num_truncated = sum(tokens.num_tokens > max_length for tokens in whole)
    return TokenizedSplit(kept, num_truncated, len(cut) - len(kept))
