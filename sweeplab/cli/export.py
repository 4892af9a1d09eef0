"""`action=export`: finished trials as an adapter or a merged model, compared with what was trained."""

import json
import os
import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from rich.console import Console
from rich.text import Text

from sweeplab.cli.model_card import Verdict, write_card
from sweeplab.config.actions import ExportConfig
from sweeplab.config.adapter import BASE_CHANGING, VIRTUAL_TOKEN_METHODS, LoraAdapter, LowRankAdapter
from sweeplab.config.compose import Request
from sweeplab.config.model import EmbeddedModel, HubModel, LocalModel
from sweeplab.config.parse import trial_config_from_dict
from sweeplab.config.study import StudyConfig, study_folder
from sweeplab.config.trial import TrialConfig
from sweeplab.execution.placement import refuse_missing_gpu
from sweeplab.records.items import read_items
from sweeplab.records.record import Status, TrialRecord, metric_value
from sweeplab.records.store import make_folder, read_facts, read_records, trial_folder, write_text
from sweeplab.report import find_answer
from sweeplab.report.evidence.stored import StoredStudy
from sweeplab.runtime.errors import ConfigError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from sweeplab.models.base import Base

# Largest difference of logits, as a share of the largest logit. Measured on the embedded base with six toggles and a
# strong adapter, logits up to 30: 4e-6, 0.010 and 0.062; int8 rounds inputs too, 0.09. Without the adapter: 0.7.
_TOLERANCES: Final = {"float32": 3e-5, "float16": 0.03, "bfloat16": 0.12, "int8": 0.2}
_ADAPTER_FILES: Final = ("adapter_config.json", "trained.safetensors")
_PEFT_METHODS: Final = ("lora", "prompt", "prefix")  # what PEFT reads with nothing of ours


class Source(NamedTuple):
    """A finished trial, its configuration, and the folder of its adapter."""

    record: TrialRecord
    config: TrialConfig
    folder: Path


def find_source(number: int, records: list[TrialRecord], folder: Path, kind: str) -> Source:
    """Trial `number`. Raises `ConfigError` where it does not exist, did not finish, or left nothing for `kind`."""
    by_number = {record.number: record for record in records}
    finished = ", ".join(str(one.number) for one in records if one.status is Status.FINISHED) or "none"
    if number not in by_number:
        raise ConfigError(f"trial={number} does not exist in {folder}; finished trials: {finished}")
    record = by_number[number]
    if record.status is not Status.FINISHED:
        raise ConfigError(f"trial={number} did not finish, it {_describe_ending(record)}; finished trials: {finished}")
    config = trial_config_from_dict(record.config)
    adapter = trial_folder(folder, number) / "adapter"
    method = config.adapter.method
    if method == "none":
        raise ConfigError(
            f"trial={number} trained the whole base (adapter.method=none), which a study does not keep; export a trial "
            "of another method"
        )
    if kind == "merged" and method in VIRTUAL_TOKEN_METHODS:
        raise ConfigError(
            f"trial={number} trained adapter.method={method}, whose virtual tokens are no weights of the base; choose "
            "export.kind=adapter"
        )
    if not any((adapter / name).is_file() for name in _ADAPTER_FILES):
        raise ConfigError(f"trial={number} has no adapter in {adapter}; restore the folder, or run the trial again")
    return Source(record, config, adapter)


def _describe_ending(record: TrialRecord) -> str:
    words = {Status.DIVERGED: "diverged", Status.OUT_OF_MEMORY: "ran out of memory"}
    return words.get(record.status, record.status.value)


def _find_best_trial(folder: Path, records: list[TrialRecord]) -> int:
    """Of the setting that leads the finished trial with the best objective. Raises `ConfigError`."""
    facts = read_facts(folder)
    leading = (
        None if facts is None else find_answer(StoredStudy(facts, records, read_items(folder) or None, [])).leading
    )
    if facts is not None and leading is not None:
        metric, direction = next(iter(facts.objectives.items()))
        trials = [one for one in records if one.number in leading.trials and one.status is Status.FINISHED]
        values = {one.number: value for one in trials if (value := metric_value(one, metric)) is not None}
        if values:
            return (max if direction == "maximize" else min)(values, key=lambda number: values[number])
    raise ConfigError(f"trial=best: no setting leads in {folder}; see its report, or name a trial: trial=0")


def choose_trial(config: StudyConfig, folder: Path, records: list[TrialRecord]) -> int:
    """The number that `trial` says. Raises `ConfigError` for the best one where no setting leads."""
    return _find_best_trial(folder, records) if config.trial == "best" else config.trial or 0


def _find_sources(config: StudyConfig) -> list[Source]:
    """The trials that the command names. Raises `ConfigError` where they cannot be exported together."""
    folder = study_folder(config)
    records = read_records(folder)
    numbers = config.export.trials or [choose_trial(config, folder, records)]
    chosen = [find_source(number, records, folder, config.export.kind) for number in numbers]
    for one in chosen[1:]:
        for key in ("model", "quantization"):
            if getattr(one.config, key) != getattr(chosen[0].config, key):
                raise ConfigError(
                    f"export.trials must share one base: trials {chosen[0].record.number} and {one.record.number} "
                    f"differ in {key}; choose others"
                )
    if len(chosen) > 1:
        for one in chosen:
            _refuse_uncombinable(one)
    return chosen


def _refuse_uncombinable(one: Source) -> None:
    """Raises `ConfigError` for what is no plain sum of B A."""
    adapter = one.config.adapter
    beside = {f"method={adapter.method}": not isinstance(adapter, LoraAdapter)}
    if isinstance(adapter, LowRankAdapter):
        beside |= {
            "dora=true": adapter.dora,
            f"bias={adapter.bias}": adapter.bias != "none",
            "train_norms=true": adapter.train_norms,
            "rank_pattern": bool(adapter.rank_pattern),
            f"initialization={adapter.initialization}": adapter.initialization in BASE_CHANGING,
        }
    for name, is_set in beside.items():
        if is_set:
            raise ConfigError(
                f"export.trials: trial {one.record.number} has adapter.{name}, which has no weighted sum with others; "
                "export it alone with trial=N"
            )


def compare_logits(found: "Tensor", expected: "Tensor", kinds: set[str]) -> Verdict:
    """Raises `ConfigError` where the export's logits are too far from the trained model's."""
    from sweeplab.adapters.merging import find_largest_difference

    coarsest = max(kinds, key=lambda kind: _TOLERANCES[kind])
    most = _TOLERANCES[coarsest] * expected.abs().max().item()
    verdict = Verdict(find_largest_difference(found, expected), most, coarsest)
    if not verdict.difference <= most:
        raise ConfigError(
            f"the export's logits differ by {verdict.difference:.3g} from the trained model's, more than {most:.3g} "
            f"({coarsest}), so nothing was kept; try export.dtype=float32, or the base's own quantization=none"
        )
    return verdict


def _attach_sources(base: "Base", chosen: list[Source], export: ExportConfig) -> "nn.Module":
    """`base` with what was trained, or the weighted sum of several."""
    from sweeplab.adapters.merging import attach_combined, attach_trained

    if len(chosen) == 1:
        (one,) = chosen
        return attach_trained(base.model, one.config.adapter, one.config.model, one.record.seed, one.folder)
    return attach_combined(base.model, [one.folder for one in chosen], export.weights, export.combination)


def _write_merged(base: "Base", chosen: list[Source], export: ExportConfig, folder: Path) -> None:
    """Dequantizes, attaches, merges in at least 32 bits, rounds once, and saves with the tokenizer."""
    import torch

    from sweeplab.adapters.merging import merge_adapter
    from sweeplab.models.base import read_architecture
    from sweeplab.models.quantization.layers import dequantize_layers

    dequantize_layers(base.model)
    merged = merge_adapter(_attach_sources(base, chosen, export).float()).to(getattr(torch, export.dtype))
    merged.config.dtype = getattr(torch, export.dtype)
    if base.tokenizer is not None:
        merged.config.use_cache = getattr(
            read_architecture(chosen[0].config.model), "use_cache", True
        )  # off for training
        base.tokenizer.save_pretrained(str(folder))
    merged.save_pretrained(str(folder))


def _write_adapter(base: "Base", chosen: list[Source], export: ExportConfig, folder: Path) -> None:
    if len(chosen) == 1:
        shutil.copytree(chosen[0].folder, folder, dirs_exist_ok=True)
    else:
        combined: Any = _attach_sources(base, chosen, export)
        combined.save_pretrained(str(folder), save_embedding_layers=False)


def compute_exported_logits(one: Source, export: ExportConfig, folder: Path, device: "torch.device") -> "Tensor":
    """Of what stands on disk, loaded as a user would."""
    import torch
    from peft import PeftModel

    from sweeplab.adapters.merging import attach_trained, compute_probe_logits
    from sweeplab.config.quantization import WholeQuantization
    from sweeplab.models.base import load_base, load_model
    from sweeplab.runtime.device import resolve_precision

    config = one.config
    if export.kind == "merged":
        own = LocalModel(name=config.model.name, path=str(folder))
        return compute_probe_logits(
            load_model(own, WholeQuantization(scheme="none"), getattr(torch, export.dtype), device)
        )
    dtype = resolve_precision(config.training.precision, device)
    base = load_base(config.model, config.quantization, dtype, device)
    if config.adapter.method in _PEFT_METHODS:
        return compute_probe_logits(PeftModel.from_pretrained(base.model, str(folder)))
    return compute_probe_logits(attach_trained(base.model, config.adapter, config.model, one.record.seed, folder))


def export_to(folder: Path, chosen: list[Source], settings: StudyConfig) -> Verdict:
    """Writes the files and compares them with the trained model. Raises `ConfigError`."""
    from sweeplab.adapters.merging import compute_probe_logits
    from sweeplab.models.base import load_base
    from sweeplab.runtime.device import resolve_device, resolve_precision

    config, export = chosen[0].config, settings.export
    device = resolve_device(settings.executor.device)
    dtype = resolve_precision(config.training.precision, device)
    expected = compute_probe_logits(
        _attach_sources(load_base(config.model, config.quantization, dtype, device), chosen, export)
    )
    base = load_base(config.model, config.quantization, dtype, device)
    write = _write_merged if export.kind == "merged" else _write_adapter
    write(base, chosen, export, folder)
    kinds = {"float32"}
    if export.kind == "merged":
        int8 = {"int8"} & config.quantization.schemes()
        kinds |= {export.dtype, str(dtype).removeprefix("torch.")} | int8
    return compare_logits(compute_exported_logits(chosen[0], export, folder, device), expected, kinds)


def silence_libraries() -> None:
    """Silences what libraries print: a worker has a log for it, and this process has none."""
    from transformers.utils.logging import disable_progress_bar

    import sweeplab.models.quantization  # noqa: F401  # it silences bitsandbytes, which PEFT imports too

    disable_progress_bar()
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)


def describe_loading(settings: StudyConfig, chosen: list[Source]) -> str:
    """The expression that loads an export; of a base that is embedded, or weights that PEFT does not read, by sweeplab.

    BASE stands for an embedded base, where several trials were combined.
    """
    from sweeplab.models.base import read_architecture
    from sweeplab.models.vision import choose_auto_class

    first, path = chosen[0], json.dumps(str(settings.export.path))
    model = first.config.model
    loader = choose_auto_class(read_architecture(model)).__name__
    if settings.export.kind == "merged":
        return f"{loader}.from_pretrained({path})"
    if len(chosen) == 1 and (isinstance(model, EmbeddedModel) or first.config.adapter.method not in _PEFT_METHODS):
        return f"sweeplab.open_study({json.dumps(str(study_folder(settings)))}).load_adapter({first.record.number})"
    base = "BASE"
    if isinstance(model, LocalModel):
        base = f"{loader}.from_pretrained({json.dumps(model.path)})"
    elif isinstance(model, HubModel):
        revision = f", revision={json.dumps(model.revision)}" if model.revision else ""
        base = f"{loader}.from_pretrained({json.dumps(model.name)}{revision})"
    return f"PeftModel.from_pretrained({base}, {path})"


def export_study(request: Request, console: Console) -> None:
    """Writes `export.path`, whole or not at all. Raises `ConfigError` and `StoreError`."""
    settings, export = request.config, request.config.export
    chosen = _find_sources(settings)
    refuse_missing_gpu(settings.executor)
    silence_libraries()
    path = Path(str(export.path))
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    make_folder(partial)
    try:
        with console.status("exporting and comparing"):
            verdict = export_to(partial, chosen, settings)
        facts = read_facts(study_folder(settings))
        records = [one.record for one in chosen]
        write_text(partial / "README.md", write_card(records, export, verdict, facts, request.command))
        partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    numbers = ", ".join(str(one.record.number) for one in chosen)
    console.print(Text(f"trial {numbers} as {export.kind}: {path}"), soft_wrap=True)
    console.print(Text(verdict.sentence()), soft_wrap=True)
    console.print(Text(f"load it in Python: {describe_loading(settings, chosen)}"), soft_wrap=True)
