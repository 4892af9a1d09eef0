"""The model card of an export: what it was made of, from the records alone."""

import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from sweeplab.config.actions import ExportConfig
from sweeplab.config.adapter import LORA_METHODS, TOGGLES
from sweeplab.config.parse import own_keys, parse_section
from sweeplab.records.record import StudyFacts, TrialRecord
from sweeplab.report.templating import escape_markdown, fence_code


class Verdict(NamedTuple):
    """The export's logits on a fixed batch against the trained model's."""

    difference: float  # the largest, absolute
    tolerance: float  # absolute
    coarsest: str  # whose rounding the tolerance is

    def sentence(self) -> str:
        return (
            f"Reloaded from disk, its logits differ by at most {self.difference:.2g} from the trained model's on a "
            f"fixed batch (allowed for {self.coarsest}: {self.tolerance:.2g})."
        )


def _format_number(value: float | None, digits: int = 4) -> str:
    return "–" if value is None else f"{value:.{digits}g}"


def _write_front_matter(model: dict[str, Any], kind: str) -> str:
    """What the Hugging Face hub reads, as YAML; JSON's strings are YAML's."""
    lines = [f"library_name: {'peft' if kind == 'adapter' else 'transformers'}", "tags: [lora, sweeplab]"]
    if model["source"] == "hub":
        lines.append(f"base_model: {json.dumps(model['name'])}")
    return "\n".join(("---", *lines, "---"))


def _list_base_facts(record: TrialRecord) -> Iterator[tuple[str, str]]:
    model, quantization, data = (record.config[part] for part in ("model", "quantization", "data"))
    revision = f", revision {model['revision']}" if model.get("revision") else ""
    yield "base", f"{model['name']}{revision}"
    yield "base fingerprint", str(record.provenance.get("base_fingerprint", "–"))
    yield "trained on a base in", parse_section("quantization", own_keys("quantization", quantization)).label()
    yield "data", str(data["name"])
    yield "data fingerprint", str(record.provenance.get("data_fingerprint", "–"))


def _list_distinct(values: Iterable[float]) -> str:
    return ", ".join(f"{value:g}" for value in sorted(set(values)))


def _list_trial_facts(record: TrialRecord) -> Iterator[tuple[str, str]]:
    adapter, optimizer = record.config["adapter"], record.config["optimizer"]
    yield "method", str(adapter["method"])
    if adapter["method"] in LORA_METHODS:  # a budget or a pattern chose other ranks than the configured one
        alpha = adapter["alpha"] if adapter["alpha"] is not None else adapter["alpha_ratio"] * adapter["rank"]
        layers = record.adapter_layers or [{"rank": adapter["rank"], "alpha": alpha}]
        yield "rank", _list_distinct(layer["rank"] for layer in layers)
        yield "alpha", _list_distinct(layer["alpha"] for layer in layers)
        yield "targets", ", ".join(toggle for toggle in TOGGLES if adapter[f"lora_{toggle}"])
    yield "optimizer", f"{optimizer['_target_']}, rate {optimizer['lr']:g}"
    yield "steps", str(record.step)
    if record.kept_step is not None:
        yield "weights of step, by held-out loss", str(record.kept_step)
    yield "seed", str(record.seed)
    yield "held-out loss, nats/target", _format_number(record.heldout_loss_nats_per_token)
    for task, metrics in record.scores.items():
        for metric, score in metrics.items():
            yield (
                f"{task} {metric}",
                f"{_format_number(score.value)} ± {_format_number(score.stderr, 2)} ({score.num_items} items)",
            )


def _write_table(rows: Iterator[tuple[str, str]]) -> str:
    cells = ((escape_markdown(one) for one in row) for row in rows)
    return "\n".join(("| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in cells)))


def _describe_sources(records: list[TrialRecord], export: ExportConfig) -> str:
    if len(records) == 1:
        return f"Trial {records[0].number} of a sweeplab study."
    parts = " + ".join(
        f"{weight:g} × trial {record.number}" for record, weight in zip(records, export.weights, strict=True)
    )
    return f"{parts}, combined by PEFT's `{export.combination}`. The scores below are each trial's own."


def write_card(
    records: list[TrialRecord], export: ExportConfig, verdict: Verdict, facts: StudyFacts | None, command: str
) -> str:
    """README.md of an export. Scores are lm-eval's, ± one standard error; a dash is a value that was not measured."""
    first = records[0]
    trained = "What was trained beside the base" if export.kind == "adapter" else f"A merged model in {export.dtype}"
    versions = first.provenance.get("versions", {})
    study = [] if facts is None else [f"The study, {escape_markdown(facts.name)}:", fence_code(facts.command)]
    parts = [
        _write_front_matter(first.config["model"], export.kind),
        f"# {escape_markdown(first.config['model']['name'])}, {export.kind}",
        f"{trained}. {_describe_sources(records, export)} {verdict.sentence()}",
        _write_table(_list_base_facts(first)),
        *(f"## Trial {record.number}\n\n{_write_table(_list_trial_facts(record))}" for record in records),
        "## How it was made",
        *study,
        f"This export:\n\n{fence_code(command)}",
        "Versions: " + ", ".join(f"{name} {version or '–'}" for name, version in versions.items()) + ".",
        f"Commit: {first.provenance.get('commit') or '–'}.",
    ]
    return "\n\n".join(parts) + "\n"
