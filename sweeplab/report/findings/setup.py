"""What all trials had in common, in one line: model, bits, data, training, machine."""

from collections.abc import Callable, Iterator
from pathlib import PurePath
from typing import Any, Final

from sweeplab.records.record import Status, TrialRecord
from sweeplab.records.typed import value_at
from sweeplab.report.evidence.formatting import plural


def named(section: Any) -> str | None:
    """A model's or data set's name; of what came from a path its last part."""
    if not isinstance(section, dict):
        return None
    path = section.get("path")
    name = PurePath(path).name if isinstance(path, str) else section.get("name")
    return name if isinstance(name, str) else None


def model(record: TrialRecord) -> str | None:
    name, bits = named(record.config.get("model")), record.config.get("quantization")
    if name is None or not isinstance(bits, dict):
        return name
    scheme = f"{bits.get('scheme')}{'_dq' if bits.get('double') else ''}"
    told = "layers quantized differently" if bits.get("pattern") else "not quantized" if scheme == "none" else scheme
    return f"{name}, {told}"


def data(record: TrialRecord) -> str | None:
    name = named(record.config.get("data"))
    if name is None or record.num_train_examples is None:
        return name
    return f"{plural(record.num_train_examples, 'example')} of {name}"


def training(record: TrialRecord) -> str | None:
    sizes = [value_at(record.config, f"training.{key}") for key in ("micro_batch_size", "accumulation")]
    if record.step is None or not all(isinstance(size, int) for size in sizes):
        return None
    return f"{plural(record.step, 'step')} of {plural(sizes[0] * sizes[1], 'example')}"


def machine(record: TrialRecord) -> str | None:
    device = record.provenance.get("device")
    if not isinstance(device, dict):
        return None
    return next((str(device[key]) for key in ("gpu", "processor", "type") if device.get(key)), None)


PARTS: Final[tuple[Callable[[TrialRecord], str | None], ...]] = (model, data, training, machine)


def setup_line(records: list[TrialRecord]) -> str:
    """Such as `tiny_base, nf4_dq · 400 examples of tiny_facts · 200 steps of 16 examples · AMD EPYC`.

    What differs between finished trials, or is not known, is left out.
    """
    finished = [record for record in records if record.status is Status.FINISHED]

    def shared() -> Iterator[str]:
        for part in PARTS:
            found = {part(record) for record in finished}
            if len(found) == 1 and (told := found.pop()) is not None:
                yield told

    return " · ".join(shared())
