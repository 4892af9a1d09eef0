"""The benchmark's table, figures and drawing in `reports/benchmarks/makespan`."""

import statistics
from pathlib import Path
from typing import Any, Final

import torch

from experiments.benchmarks.makespan.settings import MODELS
from sweeplab.records.store import write_json, write_text
from sweeplab.report.charts.bars import Bar, BarChart, BarGroup, draw_bars
from sweeplab.runtime.provenance import describe_device, describe_software

FOLDER: Final = Path("reports/benchmarks/makespan")
TITLES: Final = {
    "packed": "sweeplab",
    "solo": "sweeplab, one trial at a time (`executor.cohort_size=1`)",
    "one_process": "PEFT, Trainer and lm-eval in one process, base loaded once",
    "process_per_trial": "PEFT and Trainer, then lm-eval's command line, two processes a trial",
}


def per_trial(result: dict[str, Any]) -> float:
    seconds: float = result["seconds"] / result["num_trials"]
    return seconds


def ratios(results: dict[str, list[dict[str, Any]]], way: str) -> list[float]:
    """Seconds a trial over those of packed trials, round by round."""
    pairs = zip(results[way], results["packed"], strict=True)
    return [per_trial(one) / per_trial(packed) for one, packed in pairs]


def spread(values: list[float], digits: int) -> str:
    """The mean, and the range where there are several."""
    mean = f"{statistics.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def largest_difference(results: dict[str, list[dict[str, Any]]], way: str) -> float:
    """Of held-out losses from packed trials, relative."""
    ours: dict[str, float] = results["packed"][0]["losses"]
    theirs: dict[str, float] = results[way][0]["losses"]
    return max(abs(loss / ours[trial] - 1) for trial, loss in theirs.items())


def processor_per_trial(result: dict[str, Any]) -> float:
    seconds: float = result["processor_seconds"] / result["num_trials"]
    return seconds


def table(results: dict[str, list[dict[str, Any]]], multiply_adds: dict[str, int]) -> list[str]:
    titles = (
        "way",
        "trials",
        "seconds",
        "seconds a trial",
        "times packed",
        "processor seconds a trial",
        "multiply-adds a trial, 10⁹",
        "peak memory GB",
        "held-out losses differ by",
    )
    rows = [titles, ("---", *["---:"] * (len(titles) - 1))]
    for way, runs in results.items():
        rows.append(
            (
                TITLES[way],
                str(runs[0]["num_trials"]),
                spread([one["seconds"] for one in runs], 0),
                spread([per_trial(one) for one in runs], 1),
                spread(ratios(results, way), 2),
                spread([processor_per_trial(one) for one in runs], 1),
                f"{multiply_adds[way] / 1e9:,.0f}" if way in multiply_adds else "–",
                f"{max(one['peak_bytes'] for one in runs) / 1e9:.2f}",
                f"{largest_difference(results, way):.1e}",
            )
        )
    return [f"| {' | '.join(row)} |" for row in rows]


def draw_makespan(title: str, results: dict[str, list[dict[str, Any]]]) -> str:
    """Bars of seconds a trial."""
    means = {way: statistics.mean(per_trial(one) for one in runs) for way, runs in results.items()}
    groups = [BarGroup(TITLES[way].replace("`", ""), [Bar(mean, 0, f"{mean:.1f} s")]) for way, mean in means.items()]
    return draw_bars(BarChart(title, "seconds a trial, less is better", groups))


def write_report(
    model: str, results: dict[str, list[dict[str, Any]]], num_steps: int, multiply_adds: dict[str, int]
) -> None:
    facts = {**describe_software(), "device": describe_device(torch.device("cpu"))}
    folder = FOLDER if model == "tiny_base" else FOLDER / model
    folder.mkdir(parents=True, exist_ok=True)
    told = {"num_steps": num_steps, "results": results, "multiply_adds": multiply_adds, "provenance": facts}
    write_json(folder / "results.json", told)
    title = f"{results['packed'][0]['num_trials']} trials from start to report"
    page = [
        f"# {title}",
        "",
        f"{MODELS[model].title}; {num_steps} optimizer steps each, evaluation included; see "
        "experiments/benchmarks/makespan.",
        f"{facts['device']['processor']}, {facts['device']['num_cores']} cores; "
        + ", ".join(f"{name} {version}" for name, version in facts["versions"].items()),
        "",
        *table(results, multiply_adds),
        "",
        "![seconds a trial](makespan.svg)",
        "",
    ]
    write_text(folder / "report.md", "\n".join(page))
    write_text(folder / "makespan.svg", draw_makespan(title, results))
