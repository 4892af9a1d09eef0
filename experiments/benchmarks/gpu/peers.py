"""The same work through PEFT and transformers' Trainer, in turn with sweeplab's."""

import tempfile
from collections.abc import Sequence
from functools import partial
from itertools import islice
from statistics import mean
from typing import Any, Final

from torch.utils.data import Sampler, SequentialSampler
from transformers import Trainer, TrainingArguments

from experiments.benchmarks.gpu.cases import Case, Row, free_memory
from experiments.benchmarks.gpu.lengths import alpaca_lengths
from experiments.benchmarks.gpu.trials import LLAMA_7B, Laboratory, config_of, measured_trial
from experiments.benchmarks.makespan.peer import padded
from sweeplab.adapters.attach import attach_adapter, detach_adapter
from sweeplab.config.trial import TrialConfig
from sweeplab.data.batches import Windows
from sweeplab.data.tokens import Tokens
from sweeplab.records.record import Phase
from sweeplab.trial.measurement import measure_phase

SEED: Final = 0  # of measured_trial
NUM_STEPS: Final = 12
MICRO_BATCH: Final = 4
ACCUMULATION: Final = 4
LENGTH: Final = 1304
NUM_ROUNDS: Final = 2
SAME: Final = (
    f"training.micro_batch_size={MICRO_BATCH}",
    f"training.accumulation={ACCUMULATION}",
    f"training.max_steps={NUM_STEPS}",
    f"training.max_length={LENGTH}",
    "training.gradient_clip=1.0",
)


class InOrder(Trainer):
    """Rows come as they stand, so that both see the same batches."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        return SequentialSampler(self.train_dataset)  # type: ignore[arg-type]


def rows_in_order(lab: Laboratory, config: TrialConfig, lengths: list[int]) -> list[dict[str, list[int]]]:
    """What the trial trains on, in its order."""
    lab.lengths = lengths
    rows, training = lab.tokens_for(config, lab.base_for(config)).train, config.training
    windows = Windows(rows, training.micro_batch_size, training.accumulation, SEED)
    places = [
        index
        for window in islice(windows.iterate_from(0), training.max_steps)
        for micro in window
        for index in micro.indices
    ]
    chosen = [rows[place] for place in places]
    return [{"ids": row.ids.tolist(), "labels": row.labels.tolist()} for row in chosen if isinstance(row, Tokens)]


def arguments_of(config: TrialConfig, folder: str, device: str, autocast: bool) -> TrainingArguments:
    training, optimizer = config.training, config.optimizer
    return TrainingArguments(
        output_dir=folder,
        max_steps=training.max_steps or 0,
        per_device_train_batch_size=training.micro_batch_size,
        gradient_accumulation_steps=training.accumulation,
        learning_rate=optimizer.lr,
        weight_decay=optimizer.arguments()["weight_decay"],
        lr_scheduler_type="constant",
        optim="adamw_torch_fused",
        max_grad_norm=training.gradient_clip or 0.0,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        bf16=autocast,
        use_cpu=device == "cpu",
        disable_tqdm=True,
        remove_unused_columns=False,
    )


def trainers(lab: Laboratory, config: TrialConfig, rows: list[dict[str, list[int]]], autocast: bool) -> Row:
    """Seconds, peak and losses of `Trainer.train` on the laboratory's base, which is bare again afterwards."""
    base, phases = lab.base_for(config), dict[str, Phase]()
    free_memory()
    model = attach_adapter(base.model, config.adapter, config.model, SEED)
    with tempfile.TemporaryDirectory() as folder:
        arguments = arguments_of(config, folder, lab.device.type, autocast)
        trainer = InOrder(model=model, args=arguments, train_dataset=rows, data_collator=padded)
        with measure_phase(phases, "train", lab.device):
            trainer.train()
    losses = [one["loss"] for one in trainer.state.log_history if "loss" in one]
    detach_adapter(model)
    phase = phases["train"]
    return {"seconds": phase.seconds, "peak_bytes": phase.peak_allocated_bytes, "losses": losses}


def ours(lab: Laboratory, config: TrialConfig, lengths: list[int]) -> Row:
    record = measured_trial(lab, config, lengths)
    phase = record.phases["train"]
    losses = [point.loss for point in record.losses]
    return {"seconds": phase.seconds, "peak_bytes": phase.peak_allocated_bytes, "losses": losses}


def compared(lab: Laboratory, config: TrialConfig, lengths: list[int], autocast: bool) -> Row:
    """Both in turn, the order reversed every other round; ratios are sweeplab's over the Trainer's."""
    rows = rows_in_order(lab, config, lengths)
    num_tokens = sum(len(row["ids"]) for row in rows)
    found: dict[str, list[Row]] = {"sweeplab": [], "trainer": []}
    for place in range(NUM_ROUNDS):
        for way in ("sweeplab", "trainer") if place % 2 == 0 else ("trainer", "sweeplab"):
            one = ours(lab, config, lengths) if way == "sweeplab" else trainers(lab, config, rows, autocast)
            found[way].append(one)
    pairs = list(zip(found["sweeplab"], found["trainer"], strict=True))
    peaks = [(one["peak_bytes"], other["peak_bytes"]) for one, other in pairs]
    return {
        "rounds": found,
        "num_tokens": num_tokens,
        "tokens_per_second": {way: num_tokens / mean(one["seconds"] for one in runs) for way, runs in found.items()},
        "speed_ratios": [other["seconds"] / one["seconds"] for one, other in pairs],
        "peak_ratio": None if None in peaks[0] else max(one for one, _ in peaks) / max(other for _, other in peaks),
        "largest_loss_difference_nats": max(
            abs(left - right)
            for one, other in pairs
            for left, right in zip(one["losses"], other["losses"], strict=True)
        ),
    }


def cases(lab: Laboratory, shape: Sequence[str] = LLAMA_7B, num_examples: int = 256) -> list[Case]:
    made = []
    for quantization in ("nf4_dq", "none"):
        for autocast in (False, True):
            config = config_of(shape, f"quantization={quantization}", *SAME)
            name = f"{quantization}, Trainer{' with bf16=True' if autocast else ''}"
            facts = {"quantization": quantization, "autocast": autocast}
            work = partial(compared, lab, config, alpaca_lengths(num_examples), autocast)
            made.append(Case(name, 110, facts, work))
    return made
