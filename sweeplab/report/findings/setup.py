"""What all trials had in common, in one line: model, bits, data, training, machine."""

from collections.abc import Callable, Iterator
from pathlib import PurePath
from typing import Any, Final

from sweeplab.records.record import Status, TrialRecord
from sweeplab.records.stored import value_at
from sweeplab.report.evidence.formatting import count_noun


def _name_of(section: Any) -> str | None:
    """A model's or data set's name; of what came from a path its last part."""
    if not isinstance(section, dict):
        return None
    path = section.get("path")
    name = PurePath(path).name if isinstance(path, str) else section.get("name")
    return name if isinstance(name, str) else None


def _describe_model(record: TrialRecord) -> str | None:
    name, bits = _name_of(record.config.get("model")), record.config.get("quantization")
    if name is None or not isinstance(bits, dict):
        return name
    scheme = f"{bits.get('scheme')}{'_dq' if bits.get('double') else ''}"
    text = "layers quantized differently" if bits.get("pattern") else "not quantized" if scheme == "none" else scheme
    return f"{name}, {text}"


def _describe_data(record: TrialRecord) -> str | None:
    name = _name_of(record.config.get("data"))
    if name is None or record.num_train_examples is None:
        return name
    heldout = f", {record.num_heldout_examples:,} held out" if record.num_heldout_examples else ""
    return f"{count_noun(record.num_train_examples, 'example')} of {name}{heldout}"


def _describe_training(record: TrialRecord) -> str | None:
    sizes = [value_at(record.config, f"training.{key}") for key in ("micro_batch_size", "accumulation")]
    if record.step is None or not all(isinstance(size, int) for size in sizes):
        return None
    return f"{count_noun(record.step, 'step')} of {count_noun(sizes[0] * sizes[1], 'example')}"


def _describe_machine(record: TrialRecord) -> str | None:
    device = record.provenance.get("device")
    if not isinstance(device, dict):
        return None
    return next((str(device[key]) for key in ("gpu", "processor", "type") if device.get(key)), None)


_PARTS: Final[tuple[Callable[[TrialRecord], str | None], ...]] = (
    _describe_model,
    _describe_data,
    _describe_training,
    _describe_machine,
)


def describe_setup(records: list[TrialRecord]) -> str:
    """Such as `tiny_base, nf4_dq · 400 examples of tiny_facts, 60 held out · 200 steps of 16 examples · AMD EPYC`.

    What differs between finished trials, or is not known, is left out.
    """
    finished = [record for record in records if record.status is Status.FINISHED]

    def shared() -> Iterator[str]:
        for part in _PARTS:
            texts = {part(record) for record in finished}
            if len(texts) == 1 and (text := texts.pop()) is not None:
                yield text

    return " · ".join(shared())
