"""Finds the number and the lengths of a trial's training examples."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sweeplab.config.data import DigitsData, TextData
from sweeplab.config.model import ModelConfig
from sweeplab.config.trial import TrialConfig
from sweeplab.data.images import load_images
from sweeplab.data.packing import pack_examples
from sweeplab.data.prompts import Example
from sweeplab.data.records import count_letters
from sweeplab.data.sources import count_learned, load_splits, warn_of_learned
from sweeplab.data.tokenized import tokenize_splits
from sweeplab.models.base import load_tokenizer, read_architecture
from sweeplab.models.vision import read_image_size, refuse_other_family

_MOST_EXAMPLES: Final = 10_000  # tokenized in about a second; more are assumed to be as long as training.max_length
_MOST_LETTERS: Final = 5_000_000  # likewise


class DataExtent(NamedTuple):
    """Number and lengths of the training examples; lengths are in tokens, and upper bounds where not measured."""

    num_examples: int | None  # None: unknown without the hub
    longest: int
    mean: float
    most_targets: int  # tokens of one example that the loss counts
    num_truncated: int | None  # cut at training.max_length; None: not measured
    measured: bool  # False: every example is assumed to have training.max_length tokens, all counted
    num_learned: int = 0  # held-out examples that are also training examples, of a file
    num_naming_special: int = 0  # training examples whose text names special tokens, which stay text
    num_skipped: int | None = None  # records that teach nothing; None: there is no file of records, or it is on the hub
    notes: tuple[str, ...] = ()  # what a reader of the results must know of the data and the chat template
    longest_example: int = 1  # tokens of the longest one that shares a row with others, where rows were measured
    target_share: float = 1.0  # of the tokens that the loss counts; 1 where not measured
    heldout_tokens: int | None = None  # of all held-out examples; None: not measured
    num_heldout: int | None = None  # None: not known


def _is_tokenizer_local(model: ModelConfig) -> bool:
    """True where `load_tokenizer` needs no network."""
    return model.source != "hub" or (model.random_init and bool(model.config_values))


def _is_small(examples: Sequence[Example]) -> bool:
    """True where tokenizing takes seconds."""
    return len(examples) <= _MOST_EXAMPLES and sum(map(count_letters, examples)) <= _MOST_LETTERS


def measure_data_extent(config: TrialConfig) -> DataExtent:
    """Measured where data and tokenizer are on this machine, else the upper bound. Raises `ConfigError` as training."""
    length, model = config.training.max_length, read_architecture(config.model)
    refuse_other_family(model, config.data)
    if isinstance(config.data, DigitsData):
        num_images, tokens = (
            len(load_images(config.data, read_image_size(model)).train),
            read_image_size(model).num_tokens,
        )
        return DataExtent(num_images, tokens, tokens, most_targets=1, num_truncated=0, measured=True)
    if config.data.source == "hub":
        return DataExtent(None, length, length, length - 1, None, measured=False)
    splits = load_splits(config.data)
    assert isinstance(config.data, TextData)
    examples, num_learned = splits.train, count_learned(splits)
    counts: dict[str, Any] = {"num_heldout": len(splits.heldout), "num_learned": num_learned or 0}
    warnings = (*splits.skipping, *warn_of_learned(splits, num_learned))
    counts |= {"num_skipped": splits.num_skipped, "notes": (*splits.reading, *warnings)}
    if not (_is_small(examples) and _is_tokenizer_local(config.model)):
        return DataExtent(len(examples), length, length, length - 1, None, measured=False, **counts)
    tokenizer = load_tokenizer(config.model)
    heldout = splits.heldout if _is_small(splits.heldout) else []
    tokenized = tokenize_splits(examples, heldout, tokenizer, config.data, length)
    split = tokenized.train
    heldout_tokens = sum(tokens.num_tokens for tokens in tokenized.heldout.examples) if heldout else None
    rows = pack_examples(split.examples, length) if config.data.packing else split.examples
    lengths = [row.num_tokens for row in rows]
    most_targets = max(row.num_targets for row in rows)
    mean = sum(lengths) / len(rows)
    target_share = sum(row.num_targets for row in rows) / sum(lengths)
    longest = max(tokens.num_tokens for tokens in split.examples)
    counted = DataExtent(len(rows), max(lengths), mean, most_targets, split.num_truncated, measured=True, **counts)
    if counted.num_skipped is not None:
        counted = counted._replace(num_skipped=counted.num_skipped + tokenized.num_unusable)
    notes = (*counted.notes, *tokenized.skipping, *split.notes)
    return counted._replace(
        longest_example=longest,
        target_share=target_share,
        num_naming_special=split.num_naming_special,
        notes=notes,
        heldout_tokens=heldout_tokens,
    )
