"""`action=export`: finished trials as an adapter or a merged model, compared with what was trained."""

import json
import os
import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.text import Text

from sweeplab.cli.finished_trials import FinishedTrial, choose_trial, find_trial
from sweeplab.cli.model_card import Verdict, write_card
from sweeplab.config.actions import ExportConfig
from sweeplab.config.adapter import BASE_CHANGING, LoraAdapter, LowRankAdapter
from sweeplab.config.compose import Request
from sweeplab.config.model import EmbeddedModel, HubModel, LocalModel
from sweeplab.config.study import StudyConfig, study_folder
from sweeplab.execution.placement import refuse_missing_gpu
from sweeplab.records.store import make_folder, read_facts, read_records, write_text
from sweeplab.runtime.errors import ConfigError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from sweeplab.models.base import Base

# Largest difference of logits, as a share of the largest logit. Measured on the embedded base with six toggles and a
# strong adapter, logits up to 30: 4e-6, 0.010 and 0.062; int8 rounds inputs too, 0.09. Without the adapter: 0.7.
_TOLERANCES: Final = {"float32": 3e-5, "float16": 0.03, "bfloat16": 0.12, "int8": 0.2}
_PEFT_METHODS: Final = ("lora", "prompt", "prefix")  # what PEFT reads with nothing of ours


def _find_trials(config: StudyConfig) -> list[FinishedTrial]:
    """The trials that the command names. Raises `ConfigError` where they cannot be exported together."""
    folder = study_folder(config)
    records = read_records(folder)
    numbers = config.export.trials or [choose_trial(config, folder, records)]
    chosen = [find_trial(number, records, folder, config.export.kind) for number in numbers]
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


def _refuse_uncombinable(one: FinishedTrial) -> None:
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


def _attach_trials(base: "Base", chosen: list[FinishedTrial], export: ExportConfig) -> "nn.Module":
    """`base` with what was trained, or the weighted sum of several."""
    from sweeplab.adapters.merging import attach_combined, attach_trained

    if len(chosen) == 1:
        (one,) = chosen
        return attach_trained(base.model, one.config.adapter, one.config.model, one.record.seed, one.folder)
    return attach_combined(base.model, [one.folder for one in chosen], export.weights, export.combination)


def _write_merged(base: "Base", chosen: list[FinishedTrial], export: ExportConfig, folder: Path) -> None:
    """Dequantizes, attaches, merges in at least 32 bits, rounds once, and saves with the tokenizer."""
    import torch

    from sweeplab.adapters.merging import merge_adapter
    from sweeplab.models.base import read_architecture
    from sweeplab.models.quantization.layers import dequantize_layers

    dequantize_layers(base.model)
    merged = merge_adapter(_attach_trials(base, chosen, export).float()).to(getattr(torch, export.dtype))
    merged.config.dtype = getattr(torch, export.dtype)
    if base.tokenizer is not None:
        merged.config.use_cache = getattr(
            read_architecture(chosen[0].config.model), "use_cache", True
        )  # off for training
        base.tokenizer.save_pretrained(str(folder))
    merged.save_pretrained(str(folder))


def _write_adapter(base: "Base", chosen: list[FinishedTrial], export: ExportConfig, folder: Path) -> None:
    if len(chosen) == 1:
        shutil.copytree(chosen[0].folder, folder, dirs_exist_ok=True)
    else:
        combined: Any = _attach_trials(base, chosen, export)
        combined.save_pretrained(str(folder), save_embedding_layers=False)


def compute_exported_logits(one: FinishedTrial, export: ExportConfig, folder: Path, device: "torch.device") -> "Tensor":
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


def export_to(folder: Path, chosen: list[FinishedTrial], settings: StudyConfig) -> Verdict:
    """Writes the files and compares them with the trained model. Raises `ConfigError`."""
    from sweeplab.adapters.merging import compute_probe_logits
    from sweeplab.models.base import load_base
    from sweeplab.runtime.device import resolve_device, resolve_precision

    config, export = chosen[0].config, settings.export
    device = resolve_device(settings.executor.device)
    dtype = resolve_precision(config.training.precision, device)
    expected = compute_probe_logits(
        _attach_trials(load_base(config.model, config.quantization, dtype, device), chosen, export)
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


def describe_loading(settings: StudyConfig, chosen: list[FinishedTrial]) -> str:
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
    chosen = _find_trials(settings)
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
