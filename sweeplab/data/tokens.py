"""Prompts and responses to tokens, with the labels that the loss counts."""

from typing import Any, Final, NamedTuple

from sweeplab.config import ConfigError
from sweeplab.data.prompts import Example, render

IGNORED: Final = -100  # cross_entropy's ignore_index


class Tokens(NamedTuple):
    """One example: token ids, and labels of the same length with `IGNORED` where no loss is counted."""

    ids: list[int]
    labels: list[int]

    @property
    def num_tokens(self) -> int:
        return len(self.ids)

    @property
    def num_targets(self) -> int:
        """Tokens that the loss counts: the first position of a sequence predicts nothing before it."""
        return sum(label != IGNORED for label in self.labels[1:])


class TokenizedSplit(NamedTuple):
    examples: list[Tokens]
    num_truncated: int  # cut at max_length
    num_dropped: int  # cut before their response began


def ids_of(text: str, tokenizer: Any, *, special: bool) -> list[int]:
    """Quietly, whatever the length: tokenizers warn of what is longer than the model reads, which `tokenize` cuts."""
    ids: list[int] = tokenizer.encode(text, add_special_tokens=special, verbose=False)
    return ids


def encode(example: Example, tokenizer: Any, style: str, mask_prompt: bool) -> Tokens:
    """Prompt and response are tokenized apart, so that the mask ends exactly where the response begins."""
    prompt = render(example, style, tokenizer)
    # a chat template writes its own special tokens; the other styles want the tokenizer's first one, if it has one
    prompt_ids = ids_of(prompt, tokenizer, special=style != "template")
    if prompt_ids and prompt_ids[-1] == tokenizer.eos_token_id:
        prompt_ids = prompt_ids[:-1]
    response_ids = [*ids_of(example.response, tokenizer, special=False), tokenizer.eos_token_id]
    masked = [IGNORED] * len(prompt_ids) if mask_prompt else prompt_ids
    return Tokens(prompt_ids + response_ids, masked + response_ids)


def tokenize(examples: list[Example], tokenizer: Any, style: str, mask_prompt: bool, max_length: int) -> TokenizedSplit:
    """All examples, cut at `max_length` tokens. Raises `ConfigError` where nothing is left to learn from."""
    whole = [encode(example, tokenizer, style, mask_prompt) for example in examples]
    cut = [Tokens(tokens.ids[:max_length], tokens.labels[:max_length]) for tokens in whole]
    kept = [tokens for tokens in cut if tokens.num_targets > 0]
    if not kept:
        longest = max(len(tokens.ids) for tokens in whole)
        raise ConfigError(
            f"training.max_length={max_length} cuts off every response; raise it (the longest example has {longest})"
        )
    num_truncated = sum(len(tokens.ids) > max_length for tokens in whole)
    return TokenizedSplit(kept, num_truncated, len(cut) - len(kept))
