"""The parts' rows as tables, with published figures and the plan beside what was measured."""

import statistics
from collections.abc import Callable, Sequence
from typing import Any, Final

from experiments.benchmarks.gpu.cases import Row

DASH: Final = "–"
GOAL_GIGABYTES: Final = 10.0  # of nf4_dq at rank 8, micro-batch 1 and 1304 tokens, with checkpointing
GOAL_CASE: Final = "7B nf4_dq, checkpointing"
MEDIAN_BOUND: Final = 0.05
WORST_BOUND: Final = 0.12
NOWHERE_UNDER: Final = 0.97  # of trials alone


def number(value: float | None, digits: int = 2) -> str:
    return DASH if value is None else f"{value:,.{digits}f}"


def gigabytes(num_bytes: float | None) -> str:
    return DASH if num_bytes is None else number(num_bytes / 1e9)


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [tuple(titles), ("---", *["---:"] * (len(titles) - 1)), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def measured_rows(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row["status"] == "measured"]


def not_measured(rows: list[Row]) -> list[str]:
    """What has no figures, and why."""
    others = [row for row in rows if row["status"] != "measured"]
    return ["", *(f"- {row['case']}: {row['status']}, {row['reason']}" for row in others)] if others else []


def plan_error(row: Row) -> float:
    """Of the peak of training, as a share of what was measured."""
    error: float = row["planned_bytes"]["train"] / row["train_peak_bytes"] - 1
    return error


def memory_verdict(rows: list[Row]) -> list[str]:
    """Whether the goals stand: published peaks, the 10 GB, the plan's errors."""
    beside = [row for row in rows if row["published_gigabytes"] is not None]
    under = [row for row in beside if row["train_peak_bytes"] <= 1e9 * row["published_gigabytes"]]
    lines = [f"At or under the published peak: {len(under)} of {len(beside)}."]
    goal = next((row for row in rows if row["case"] == GOAL_CASE), None)
    if goal is not None:
        met = "met" if goal["train_peak_bytes"] < 1e9 * GOAL_GIGABYTES else "missed"
        lines.append(f"{GOAL_CASE} under {GOAL_GIGABYTES:.0f} GB: {met}.")
    errors = [abs(plan_error(row)) for row in rows]
    if errors:
        median, worst = statistics.median(errors), max(errors)
        met = "met" if median < MEDIAN_BOUND and worst < WORST_BOUND else "missed"
        lines.append(f"The plan: median error {100 * median:.1f} %, worst {100 * worst:.1f} %, goal (5 and 12) {met}.")
    return [" ".join(lines)]


def memory_page(rows: list[Row], facts: Row) -> list[str]:
    titles = (
        "setting", "published GB", "train GB", "reserved GB", "load GB", "held-out GB", "plan GB", "plan's error"
    )  # fmt: skip
    found = measured_rows(rows)
    lines = []
    for row in found:
        phases = row["phases"]
        lines.append(
            (
                row["case"],
                number(row["published_gigabytes"]),
                gigabytes(row["train_peak_bytes"]),
                gigabytes(phases["train"]["peak_reserved_bytes"]),
                gigabytes(phases["load"]["peak_allocated_bytes"]),
                gigabytes(phases["evaluate"]["peak_allocated_bytes"]),
                gigabytes(row["planned_bytes"]["train"]),
                f"{100 * plan_error(row):+.1f} %",
            )
        )
    return [*table(titles, lines), "", *memory_verdict(found)]


def throughput_page(rows: list[Row], facts: Row) -> list[str]:
    found = measured_rows(rows)
    speeds = [row for row in found if "tokens_per_second" in row]
    titles = ("setting", "tokens/s", "share of the bf16 ceiling", "peak GB")
    lines = [
        (
            row["case"],
            number(row["tokens_per_second"], 0),
            number(row.get("share_of_ceiling")),
            gigabytes(row["peak_bytes"]),
        )
        for row in speeds
    ]
    page = [*table(titles, lines)]
    profiles = [row for row in found if "kernel_seconds" in row]
    if profiles:
        kinds = list(profiles[0]["kernel_seconds"])
        shares = [
            (
                row["case"],
                *(f"{100 * row['kernel_seconds'][kind] / row['step_seconds']:.0f} %" for kind in kinds),
                f"{100 * row['waiting_seconds'] / row['step_seconds']:.0f} %",
                str(row["num_kernels"]),
            )
            for row in profiles
        ]
        page += ["", *table(("of a step's time", *kinds, "waiting for launches", "kernels"), shares)]
    return page


def peers_page(rows: list[Row], facts: Row) -> list[str]:
    titles = (
        "setting", "sweeplab tokens/s", "Trainer tokens/s", "ratios by round", "ratio of peaks", "losses differ by nats"
    )  # fmt: skip
    lines = [
        (
            row["case"],
            number(row["tokens_per_second"]["sweeplab"], 0),
            number(row["tokens_per_second"]["trainer"], 0),
            ", ".join(number(ratio) for ratio in row["speed_ratios"]),
            number(row["peak_ratio"]),
            f"{row['largest_loss_difference_nats']:.1e}",
        )
        for row in measured_rows(rows)
    ]
    return table(titles, lines)


def cohorts_verdict(speeds: list[Row]) -> str:
    """Whether eight at once are as fast as hoped at every length, and no number of trials slower than alone."""
    aimed = [row for row in speeds if row["goal_of_8"] is not None and "8" in row["ratios"]]
    reached = [row for row in aimed if row["ratios"]["8"] >= row["goal_of_8"]]
    lowest = min((ratio for row in speeds for ratio in row["ratios"].values()), default=None)
    line = (
        f"Ratios are to the same trials one after another. Goals for eight at once: {len(reached)} of {len(aimed)} met."
    )
    if lowest is None:
        return line
    return f"{line} Lowest ratio {lowest:.2f}, goal {NOWHERE_UNDER} {'met' if lowest >= NOWHERE_UNDER else 'missed'}."


def cohorts_page(rows: list[Row], facts: Row) -> list[str]:
    found = measured_rows(rows)
    speeds = [row for row in found if "ratios" in row]
    sizes = sorted({int(size) for row in speeds for size in row["ratios"]})
    titles = ("micro-batch x length", "tokens/s alone", *(f"{size} at once" for size in sizes[1:]), "goal", "peak GB")
    lines = []
    for row in speeds:
        ratios = [number(row["ratios"].get(str(size))) for size in sizes[1:]]
        peaks = [peak for peak in row["peak_bytes"].values() if peak is not None]
        alone = number(row["tokens_per_second"]["1"], 0)
        goal = number(row["goal_of_8"])
        lines.append((row["case"], alone, *ratios, goal, gigabytes(max(peaks, default=None))))
    page = [*table(titles, lines), "", cohorts_verdict(speeds)]
    page += [f"{row['case']}: {row['stopped']}" for row in speeds if row["stopped"] is not None]
    for row in (one for one in found if "peft_sensitivities" in one):
        pairs = zip(row["weight_differences"], row["peft_sensitivities"], strict=True)
        weights = ", ".join(f"{difference:.1e} of {sensitivity:.1e}" for difference, sensitivity in pairs)
        page.append(
            f"{row['case']}: losses differ by {row['largest_loss_difference_nats']:.1e} nats (bound "
            f"{row['loss_bound_nats']:.1e}), weights by {weights}, what a disturbance as small as rounding makes of "
            "PEFT's own run (bound 3 times that; root mean squares): "
            f"{'equal' if row['equal'] else 'not equal'} within the bounds."
        )
    return page


PAGES: Final[dict[str, Callable[[list[Row], Row], list[str]]]] = {
    "memory": memory_page,
    "throughput": throughput_page,
    "peers": peers_page,
    "cohorts": cohorts_page,
}


def part_page(part: str, told: dict[str, Any]) -> list[str]:
    facts = told["surroundings"]
    device, versions = facts["device"], facts["versions"]
    return [
        f"## {part}",
        "",
        f"{facts['date']}, {device.get('gpu', device['processor'])}, driver {facts['driver'] or DASH}, CUDA "
        f"{device.get('cuda', DASH)}; measured ceilings: {facts['bf16_flops_per_second'] / 1e12:,.0f} TFLOP/s in bf16, "
        f"{facts['copy_bytes_per_second'] / 1e9:,.0f} GB/s; "
        + ", ".join(f"{name} {version}" for name, version in versions.items() if version),
        "",
        *PAGES[part](told["rows"], facts),
        *not_measured(told["rows"]),
        "",
    ]


def report(parts: dict[str, dict[str, Any]]) -> str:
    """The page of all parts that there are."""
    head = ["# One GPU", "", "Generated by `python -m experiments.benchmarks.gpu`. GB are 1e9 bytes of PyTorch's", ""]
    head[2] += " allocator; random weights, which move neither memory nor time."
    return "\n".join([*head, *(line for part, told in parts.items() for line in part_page(part, told))])
