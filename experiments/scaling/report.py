"""The simulation's table, figures and drawing in `reports/scaling`."""

import math
from pathlib import Path
from typing import Any, Final

from experiments.scaling.model import Service
from sweeplab.records.store import write_json, write_text

FOLDER: Final = Path("reports/scaling")
WIDTH: Final = 640
HEIGHT: Final = 360
MARGIN: Final = 60
COLORS: Final = ("#4477aa", "#ee6677", "#228833")


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


def drawing(rows: list[dict[str, Any]]) -> str:
    """Ideal over makespan against GPUs, a line for each length of a trial."""
    gpus = sorted({one["num_gpus"] for one in rows})
    span = math.log2(gpus[-1] / gpus[0])

    def x(num_gpus: float) -> float:
        return MARGIN + (WIDTH - 2 * MARGIN) * math.log2(num_gpus / gpus[0]) / span

    def y(efficiency: float) -> float:
        return HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * efficiency

    text = 'font-family="sans-serif" font-size="12"'
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}">']
    for share in (0.0, 0.5, 1.0):
        parts.append(f'<path d="M{MARGIN} {y(share):.1f}H{WIDTH - MARGIN}" stroke="#ccc"/>')
        parts.append(f'<text x="{MARGIN - 8}" y="{y(share) + 4:.1f}" text-anchor="end" {text}>{share:g}</text>')
    for one in gpus:
        parts.append(f'<text x="{x(one):.1f}" y="{HEIGHT - MARGIN + 18}" text-anchor="middle" {text}>{one}</text>')
    parts.append(f'<text x="{WIDTH / 2:g}" y="{HEIGHT - 18}" text-anchor="middle" {text}>GPUs</text>')
    parts.append(f'<text x="{MARGIN}" y="24" {text}>ideal time over makespan, 10,000 trials of ASHA</text>')
    for place, seconds in enumerate(sorted({one["mean_trial_seconds"] for one in rows})):
        line = [(one["num_gpus"], one["efficiency"]) for one in rows if one["mean_trial_seconds"] == seconds]
        points = " ".join(f"{x(count):.1f},{y(efficiency):.1f}" for count, efficiency in line)
        color = COLORS[place]
        parts.append(f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2"/>')
        parts.append(
            f'<text x="{MARGIN + 8}" y="{y(0.4) + 18 * place:.1f}" fill="{color}" {text}>full trial {seconds} s</text>'
        )
    return "\n".join([*parts, "</svg>", ""])


def write(rows: list[dict[str, Any]], seed: int, means: Service, assumed: dict[str, Any]) -> None:
    head = [
        "# A study of 10,000 trials on 8 to 1,024 GPUs, simulated",
        "",
        f"Seed {seed}. Model, assumptions and findings: experiments/scaling. The driver's times for one ask, report of "
        f"a rung and record: {1e3 * means.ask:.3g}, {1e3 * means.observe:.3g} and {1e3 * means.record:.3g} ms, as "
        "measured in reports/benchmarks/driver. Nothing here was run on GPUs.",
        "",
    ]
    write_json(FOLDER / "results.json", {"seed": seed, "service": means._asdict(), "assumed": assumed, "rows": rows})
    write_text(FOLDER / "scaling.svg", drawing(rows))
    write_text(FOLDER / "report.md", "\n".join([*head, *table(rows), "", "![efficiency](scaling.svg)", ""]))
