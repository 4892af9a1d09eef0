"""Where packing pays: `python -m experiments.benchmarks.makespan.geometry`, micro-batch x length x trials at once."""

from pathlib import Path
from typing import Any, Final

import torch

from experiments.benchmarks.makespan.report import FOLDER
from experiments.benchmarks.makespan.settings import TINY, Model, Trial, config_of
from sweeplab.config.trial import TrialConfig
from sweeplab.config.trial_spec import TrialSpec
from sweeplab.data.batches import Tokenized
from sweeplab.data.tokens import Tokens
from sweeplab.models.base import Base
from sweeplab.records.record import Status
from sweeplab.records.store import write_json, write_text
from sweeplab.report.evidence.formatting import count_noun
from sweeplab.runtime.provenance import describe_device, describe_software
from sweeplab.training.running_trial import RunningTrial
from sweeplab.trial.beginning import begin_trial
from sweeplab.trial.profile import prepare_longest_pass, time_fastest
from sweeplab.trial.resources import Resources

MICRO_BATCHES: Final = (1, 4, 16)
LENGTHS: Final = (32, 128, 256)
SIZES: Final = (1, 2, 4, 8)
RANK: Final = 8


class FixedLength(Resources):
    """A workbench whose examples all have `length` tokens."""

    length = 0

    def tokens_for(self, config: TrialConfig, base: Base) -> Tokenized:
        ids = [2 + place % 100 for place in range(self.length)]
        rows = [Tokens(ids, ids)] * config.training.micro_batch_size
        return Tokenized(rows, rows, 0, "", num_examples=len(rows))


def run_of(resources: Resources, micro_batch_size: int, seed: int, model: Model = TINY) -> RunningTrial:
    config = config_of(Trial(RANK, 1e-3, seed), 1, model)
    config = config.replaced(training=config.training.replaced(micro_batch_size=micro_batch_size))
    spec = TrialSpec(seed, seed, {}, config, Path())
    return begin_trial(spec, spec.new_record(Status.FAILED), resources, lambda *_: None)


def speeds(resources: FixedLength, micro_batch_size: int, length: int) -> dict[int, float]:
    """Tokens per second of forward and backward, by trials at once."""
    resources.length = length
    runs = [run_of(resources, micro_batch_size, seed) for seed in range(max(SIZES))]
    found = {}
    for size in SIZES:
        with prepare_longest_pass(runs[:size], resources) as work:
            found[size] = size * micro_batch_size * length / time_fastest(work, resources.device)
    return found


def page(rows: list[dict[str, Any]], facts: dict[str, Any]) -> str:
    titles = ["micro-batch", "length", "tokens/s alone", *(f"{size} at once" for size in SIZES[1:])]
    lines = [f"| {' | '.join(titles)} |", f"|{' ---: |' * len(titles)}"]
    for row in rows:
        alone = row["speeds"][1]
        ratios = [f"{row['speeds'][size] / alone:.2f}" for size in SIZES[1:]]
        lines.append(f"| {row['micro_batch_size']} | {row['length']} | {alone:,.0f} | {' | '.join(ratios)} |")
    device = facts["device"]
    head = (
        "# Trials at once, by geometry\n\n"
        f"Tokens per second of forward and backward over those of one trial at a time; rank {RANK} on all matrices of "
        f"the embedded base, 32 bits. {device['processor']}, {count_noun(device['num_threads'], 'thread')}.\n\n"
    )
    return head + "\n".join(lines) + "\n"


def main() -> None:
    resources = FixedLength(torch.device("cpu"))
    rows = []
    for micro_batch_size in MICRO_BATCHES:
        for length in LENGTHS:
            found = speeds(resources, micro_batch_size, length)
            rows.append({"micro_batch_size": micro_batch_size, "length": length, "speeds": found})
            print(micro_batch_size, length, {size: round(speed) for size, speed in found.items()}, flush=True)
    facts = {**describe_software(), "device": describe_device(resources.device)}
    FOLDER.mkdir(parents=True, exist_ok=True)
    write_json(FOLDER / "geometry.json", {"rows": rows, "provenance": facts})
    write_text(FOLDER / "geometry.md", page(rows, facts))


if __name__ == "__main__":
    main()
