"""The simulation's table, figures and drawing in `reports/scaling`."""

from pathlib import Path
from typing import Any, Final

from experiments.scaling.model import Service
from sweeplab.records.store import write_json, write_text
from sweeplab.report.charts.axes import Axis
from sweeplab.report.charts.chart import Chart, Dot, Line
from sweeplab.report.charts.drawing import draw_chart
from sweeplab.report.charts.ticks import Tick

FOLDER: Final = Path("reports/scaling")


def table(rows: list[dict[str, Any]]) -> list[str]:
    titles = (
        "full trial s", "GPUs", "makespan h", "ideal h", "ideal / makespan", "driver busy", "calls/s", "wait s a trial",
        "finished", "stopped", "failed", "retries",
    )  # fmt: skip
    lines = [f"| {' | '.join(titles)} |", f"|{' ---: |' * len(titles)}"]
    for one in rows:
        lines.append(
            f"| {one['mean_trial_seconds']} | {one['num_gpus']} | {one['makespan_hours']:.3g} | "
            f"{one['ideal_hours']:.3g} | {one['efficiency']:.3f} | {one['driver_load']:.3f} | "
            f"{one['calls_per_second']:.3g} | {one['wait_seconds_per_trial']:.3g} | {one['num_finished']} | "
            f"{one['num_stopped']} | {one['num_failed']} | {one['num_retries']} |"
        )
    return lines


def draw_efficiency(rows: list[dict[str, Any]]) -> str:
    """Ideal over makespan against GPUs, a line for each length of a trial."""
    gpus = sorted({one["num_gpus"] for one in rows})
    axis = Axis(None, "GPUs", "log", [Tick(one, f"{one:,}") for one in gpus])
    lines = []
    for color, seconds in enumerate(sorted({one["mean_trial_seconds"] for one in rows})):
        label = f"full trial {seconds:g} s"
        path = [
            Dot(one["num_gpus"], one["efficiency"], f"{label}, {one['num_gpus']} GPUs: {one['efficiency']:.3f}")
            for one in rows
            if one["mean_trial_seconds"] == seconds
        ]
        lines.append(Line(label, color, 0, [], path))
    title = "Ideal time over makespan, 10,000 trials of ASHA"
    return draw_chart(Chart("scaling", title, "", "ideal / makespan", axis, lines, unit_range=True))


def write_report(rows: list[dict[str, Any]], seed: int, means: Service, assumed: dict[str, Any]) -> None:
    head = [
        "# A study of 10,000 trials on 8 to 1,024 GPUs, simulated",
        "",
        f"Seed {seed}. Model, assumptions and findings: experiments/scaling. The driver's times for one ask, report of "
        f"a rung and record: {1e3 * means.ask:.3g}, {1e3 * means.observe:.3g} and {1e3 * means.record:.3g} ms, as "
        "measured in reports/benchmarks/driver. Nothing here was run on GPUs.",
        "",
    ]
    write_json(FOLDER / "results.json", {"seed": seed, "service": means._asdict(), "assumed": assumed, "rows": rows})
    write_text(FOLDER / "scaling.svg", draw_efficiency(rows))
    write_text(FOLDER / "report.md", "\n".join([*head, *table(rows), "", "![efficiency](scaling.svg)", ""]))
