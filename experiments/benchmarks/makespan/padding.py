"""Whether rows without padding are faster: `python -m experiments.benchmarks.makespan.padding [--model smollm2]`.

The same examples of each step, three ways: a row each, padded to the longest of the micro-batch; all of them in one
row, with a mask that keeps them apart; and in rows of at most `training.max_length` tokens, as `data.packing` has them.
Forward and backward in alternation: processor seconds, losses, and multiply-adds, of layers as PyTorch's counter has
them and of attention's scores by arithmetic, since on a CPU the counter does not see them.
"""

import argparse
import statistics
from collections.abc import Sequence
from functools import partial
from itertools import islice
from typing import Any, Final

import torch

from experiments.benchmarks.makespan.auto import clock
from experiments.benchmarks.makespan.counting import ProductCount
from experiments.benchmarks.makespan.report import FOLDER
from experiments.benchmarks.makespan.settings import MODELS, Model, Trial, config_of
from sweeplab.adapters.attach import attach_adapter
from sweeplab.config.executor import LocalWorkers
from sweeplab.data.batches import Batch, Row, Windows, collate_rows
from sweeplab.data.packing import pack_examples
from sweeplab.data.tokens import Tokens
from sweeplab.models.base import Base
from sweeplab.records.store import write_json, write_text
from sweeplab.report.evidence.formatting import count_noun
from sweeplab.runtime.provenance import describe_device, describe_software
from sweeplab.training.module import sum_target_losses
from sweeplab.trial.resources import Resources

WAYS: Final = ("padded", "one_row", "packed")


def make_batches(examples: Sequence[Tokens], pad_id: int, max_length: int) -> dict[str, Batch]:
    """The micro-batch of these examples in each way."""
    whole = sum(one.num_tokens for one in examples)
    one_row, packed = pack_examples(examples, whole), pack_examples(examples, max_length)
    rows: dict[str, Sequence[Row]] = {"padded": examples, "one_row": one_row, "packed": packed}
    made = {}
    for way, asked in rows.items():
        batch = collate_rows(asked, pad_id, 1)
        assert isinstance(batch, Batch)
        made[way] = batch
    return made


def count_scores(batch: Batch, base: Base) -> int:
    """Multiply-adds of attention's scores and of the values by them, forward and backward, of all rows' squares."""
    sizes: Any = base.model.config.get_text_config()
    rows, length = batch.ids_BT.shape
    return int(2 * 3 * sizes.num_hidden_layers * sizes.hidden_size * rows * length**2)


def measure(model: Model, num_windows: int, rounds: int) -> dict[str, Any]:
    config = config_of(Trial(8, 1e-3, 0), 1, model)
    resources = Resources.open(LocalWorkers(device="cpu", num_workers=1, cohort_size=1, on_out_of_memory="skip"))
    base = resources.base_for(config)
    data = resources.tokens_for(config, base)
    windows = Windows(data.train, config.training.micro_batch_size, 1, 0)
    batches = []
    for window in islice(windows.iterate_from(0), num_windows):
        rows = [data.train[place] for place in window[0].indices]
        examples = [row for row in rows if isinstance(row, Tokens)]
        batches.append(make_batches(examples, base.pad_id, config.training.max_length))
    trained = attach_adapter(base.model, config.adapter, config.model, 0)

    def step(batch: Batch) -> float:
        loss = sum_target_losses(trained, batch)
        loss.backward()
        return float(loss.detach())

    def run(way: str) -> None:
        for batch in batches:
            step(batch[way])

    found: dict[str, Any] = {way: {"seconds": []} for way in WAYS}
    for way in WAYS:
        counter = ProductCount()
        with counter:
            found[way]["losses"] = [step(batch[way]) for batch in batches]
        found[way]["layers"] = counter.multiply_adds
        found[way]["scores"] = sum(count_scores(batch[way], base) for batch in batches)
        found[way]["tokens"] = sum(batch[way].ids_BT.numel() for batch in batches)
        found[way]["filled"] = sum(batch[way].num_tokens for batch in batches)
    for place in range(rounds):
        for way in WAYS if place % 2 else reversed(WAYS):
            found[way]["seconds"].append(clock(partial(run, way))[0])
    return found


def page(title: str, found: dict[str, Any], facts: dict[str, Any]) -> str:
    titles = ("way", "padding", "layers, 10⁹", "scores, 10⁹", "processor s", "over padded", "losses differ by")
    lines = [f"| {' | '.join(titles)} |", "| --- |" + " ---: |" * (len(titles) - 1)]
    first = found["padded"]
    for way, one in found.items():
        ratios = [mine / other for mine, other in zip(one["seconds"], first["seconds"], strict=True)]
        apart = max(abs(mine / other - 1) for mine, other in zip(one["losses"], first["losses"], strict=True))
        lines.append(
            f"| {way} | {100 * (1 - one['filled'] / one['tokens']):.1f} % | {one['layers'] / 1e9:,.2f} | "
            f"{one['scores'] / 1e9:,.2f} | {min(one['seconds']):.2f} | {statistics.median(ratios):.3f} "
            f"({min(ratios):.3f} to {max(ratios):.3f}) | {apart:.1e} |"
        )
    device = facts["device"]
    head = (
        f"# Rows without padding: {title}\n\n{device['processor']}, {count_noun(device['num_threads'], 'thread')}.\n\n"
    )
    return head + "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmarks.makespan.padding", description=__doc__)
    parser.add_argument("--model", choices=sorted(MODELS), default="tiny_base")
    parser.add_argument("--windows", type=int, default=8, help="optimizer steps whose rows are taken")
    parser.add_argument("--rounds", type=int, default=5, help="times that each way runs, in alternation")
    asked = parser.parse_args()
    found = measure(MODELS[asked.model], asked.windows, asked.rounds)
    facts = {**describe_software(), "device": describe_device(torch.device("cpu"))}
    text = page(MODELS[asked.model].title, found, facts)
    print(text, flush=True)
    FOLDER.mkdir(parents=True, exist_ok=True)
    write_json(FOLDER / f"padding_{asked.model}.json", {"found": found, "provenance": facts})
    write_text(FOLDER / f"padding_{asked.model}.md", text)


if __name__ == "__main__":
    main()
