"""A trial's examples as tokens: those that teach nothing are skipped, counted and named, up to data.max_skipped."""

from typing import Any, NamedTuple

from sweeplab.config.data import RecordData, TextData
from sweeplab.data.prompts import Example, name_records
from sweeplab.data.tokens import EncodedExamples, TokenizedSplit, cut_examples, encode_examples, refuse_unusable
from sweeplab.runtime.errors import ConfigError


class TokenizedSplits(NamedTuple):
    """Both parts as tokens."""

    train: TokenizedSplit
    heldout: TokenizedSplit
    num_unusable: int  # examples that the style cannot write
    skipping: tuple[str, ...]  # which records were skipped, and why


def tokenize_splits(
    train: list[Example], heldout: list[Example], tokenizer: Any, data: TextData, max_length: int
) -> TokenizedSplits:
    """Both parts as tokens; `heldout` may be empty.

    Of what stands in no file every example must be rendered, and any number may be cut. Raises `ConfigError` where a
    part has no target left, and where more than `data.max_skipped` of all examples cannot be rendered or are cut before
    their response.
    """
    limit = data.max_skipped if isinstance(data, RecordData) else None
    parts = [encode_examples(part, tokenizer, data.style, data.mask_prompt) for part in (train, heldout)]
    num_examples = len(train) + len(heldout)
    num_unusable = sum(len(part.unusable) for part in parts)
    if num_unusable > (limit or 0) * num_examples or not parts[0].tokens or (heldout and not parts[1].tokens):
        refuse_unusable(parts, num_examples)
    splits = [cut_examples(part, max_length) for part in parts]
    skipping = [] if limit is None else _describe_skipped(parts, splits, max_length)
    num_skipped = num_unusable + sum(split.num_dropped for split in splits)
    if limit is not None and num_skipped > limit * num_examples:
        raise ConfigError(
            f"data.max_skipped={limit:g} is the share of records that may teach nothing, got "
            f"{num_skipped / num_examples:.2g}: {'; '.join(skipping)}; raise training.max_length or data.max_skipped"
        )
    return TokenizedSplits(splits[0], splits[1], num_unusable, tuple(skipping))


def _describe_skipped(parts: list[EncodedExamples], splits: list[TokenizedSplit], max_length: int) -> list[str]:
    """A sentence for those that cannot be rendered, and one for those that were cut."""
    sentences = []
    unusable = [name for part in parts for name in part.unusable]
    if unusable:
        why = next(part.problem for part in parts if part.problem is not None)
        sentences.append(f"skipped {_count(unusable)} that cannot be written ({name_records(unusable)}): {why}")
    cut = [name for split in splits for name in split.dropped]
    if cut:
        rule = f"training.max_length={max_length} cuts off"
        sentences.append(f"skipped {_count(cut)} whose whole response {rule} ({name_records(cut)})")
    return sentences


def _count(names: list[str]) -> str:
    return f"{len(names):,} example{'s' * (len(names) != 1)}"
