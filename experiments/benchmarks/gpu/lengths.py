"""Alpaca's lengths as counts: `python -m experiments.benchmarks.gpu.lengths FILE` makes them of its JSON array.

A token is taken as four characters, a rule of thumb for English in a vocabulary of 32,000; Llama's own tokenizer is not
here. A text is prompt and response in Stanford Alpaca's wording, and one end token.
"""

import json
import math
import random
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Final

from sweeplab.data.prompts import Example, render_prompt
from sweeplab.records.store import write_text
from sweeplab.runtime.errors import ConfigError

HISTOGRAM: Final = Path(__file__).with_name("alpaca_lengths.json")
CHARACTERS_PER_TOKEN: Final = 4
LONGEST: Final = 1304  # of the whole set with Llama's tokenizer; Raschka 2023, Insights
SEED: Final = 0


def num_tokens(record: dict[str, str]) -> int:
    messages = [
        {"role": "user", "content": record["instruction"]},
        {"role": "assistant", "content": record["output"]},
    ]
    text = render_prompt(Example(messages, record["input"]), "alpaca") + record["output"]
    return math.ceil(len(text) / CHARACTERS_PER_TOKEN) + 1


def histogram(records: list[dict[str, str]]) -> dict[str, Any]:
    counts = Counter(map(num_tokens, records))
    return {
        "characters_per_token": CHARACTERS_PER_TOKEN,
        "num_examples": len(records),
        "mean": round(sum(length * count for length, count in counts.items()) / len(records), 2),
        "counts": {str(length): counts[length] for length in sorted(counts)},
    }


def alpaca_lengths(num_examples: int) -> list[int]:
    """Tokens of so many examples, drawn with the histogram's frequencies under a fixed seed."""
    counts = json.loads(HISTOGRAM.read_text())["counts"]
    lengths = [int(length) for length in counts]
    return random.Random(SEED).choices(lengths, list(counts.values()), k=num_examples)


def main() -> None:
    if len(sys.argv) != 2:
        raise ConfigError("give the JSON array of Alpaca's records: python -m experiments.benchmarks.gpu.lengths FILE")
    write_text(HISTOGRAM, json.dumps(histogram(json.loads(Path(sys.argv[1]).read_text()))) + "\n")


if __name__ == "__main__":
    main()
