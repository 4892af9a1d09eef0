"""The benchmark's table, figures and drawing in `reports/benchmarks/makespan`."""

import statistics
from pathlib import Path
from typing import Any, Final

import torch

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


def table(results: dict[str, list[dict[str, Any]]]) -> list[str]:
    titles = (
        "way",
        "trials",
        "seconds",
        "seconds a trial",
        "times packed",
        "peak memory GB",
        "held-out losses differ by",
    )
    rows = [titles, ("---", *["---:"] * 6)]
    for way, runs in results.items():
        rows.append(
            (
                TITLES[way],
                str(runs[0]["num_trials"]),
                spread([one["seconds"] for one in runs], 0),
                spread([per_trial(one) for one in runs], 1),
                spread(ratios(results, way), 2),
                f"{max(one['peak_bytes'] for one in runs) / 1e9:.2f}",
                f"{largest_difference(results, way):.1e}",
            )
        )
    return [f"| {' | '.join(row)} |" for row in rows]


def draw_makespan(results: dict[str, list[dict[str, Any]]]) -> str:
    """Bars of seconds a trial."""
    means = {way: statistics.mean(per_trial(one) for one in runs) for way, runs in results.items()}
    groups = [BarGroup(TITLES[way].replace("`", ""), [Bar(mean, 0, f"{mean:.1f} s")]) for way, mean in means.items()]
    return draw_bars(BarChart("Sixteen trials from start to report", "seconds a trial, less is better", groups))


def write_report(results: dict[str, list[dict[str, Any]]], num_steps: int) -> None:
    facts = {**describe_software(), "device": describe_device(torch.device("cpu"))}
    FOLDER.mkdir(parents=True, exist_ok=True)
    write_json(FOLDER / "results.json", {"num_steps": num_steps, "results": results, "provenance": facts})
    page = [
        "# Sixteen trials from start to report",
        "",
        f"{num_steps} optimizer steps each, evaluation included; see experiments/benchmarks/makespan.",
        f"{facts['device']['processor']}, {facts['device']['num_cores']} cores; "
        + ", ".join(f"{name} {version}" for name, version in facts["versions"].items()),
        "",
        *table(results),
        "",
        "![seconds a trial](makespan.svg)",
        "",
    ]
    write_text(FOLDER / "report.md", "\n".join(page))
    write_text(FOLDER / "makespan.svg", draw_makespan(results))
