"""`action=plan`: what would run, how many parameters, how much memory and time; nothing is trained."""

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from sweeplab.cli.plan_tables import (
    PlanRow,
    format_bytes,
    make_parts_table,
    make_settings_table,
    suggest_remedies,
)
from sweeplab.cli.plan_time import (
    StudyTimes,
    describe_parts,
    describe_tasks,
    describe_time,
    list_placements,
    sum_times,
)
from sweeplab.config.compose import Request
from sweeplab.config.sampler import FinalsSampler
from sweeplab.config.search_rules import RACES
from sweeplab.config.space import Axis, axes, grid, list_begin
from sweeplab.config.study import StudyConfig, study_folder
from sweeplab.config.training import TrainingConfig
from sweeplab.evaluation.judge import describe_requests
from sweeplab.execution.placement import list_visible_gpus
from sweeplab.planning.early import refuse_early
from sweeplab.planning.fit import UNCERTAINTY, Fit, judge_fit, read_device_memory
from sweeplab.planning.probe import probe_models
from sweeplab.records.plan import PLAN_VERSION, StudyPlan
from sweeplab.records.store import to_json, write_json
from sweeplab.report.evidence.formatting import describe_params
from sweeplab.search.planned import compose_planned_points, count_planned_trials, list_settings

if TYPE_CHECKING:
    from sweeplab.planning.forecast import Forecast


def count_seeds_per_point(num_points: int, config: StudyConfig) -> list[int]:
    """Trials of each point; the grid goes seed by seed, so that `study.num_trials` cuts the last seeds off. Enqueued
    points have all their seeds one after another, so that it cuts the last points off."""
    num_trials = config.study.num_trials or num_points * len(config.study.seeds)
    most = len(config.study.seeds)
    if config.study.enqueue:
        return [min(most, max(0, num_trials - place * most)) for place in range(num_points)]
    return [min(most, max(0, -(-(num_trials - place) // num_points))) for place in range(num_points)]


def _import_as_workers() -> float | None:
    """Seconds of processor time of what a worker imports, too; None where it was imported before."""
    is_first, started = "torch" not in sys.modules, time.process_time()
    import sweeplab.planning.forecast  # first: it keeps bitsandbytes silent
    import sweeplab.planning.speed
    import sweeplab.trial.lifecycle  # noqa: F401

    return time.process_time() - started if is_first else None


def _plan_rows(request: Request, varied: list[Axis], is_listed: bool) -> tuple[list[PlanRow], float | None]:
    """Every setting with its forecast, and what a worker's imports take. Raises `ConfigError` for one that could not
    run."""
    planned = compose_planned_points(request, varied)  # before torch is imported: a mistake is refused at once
    refuse_early(config for _, config in planned)
    probe_models(config for _, config in planned)
    is_absent = request.config.executor.device == "cuda" and not list_visible_gpus()
    start_seconds = None if is_absent else _import_as_workers()  # no time is predicted for what is not here
    from sweeplab.planning.forecast import Forecaster
    from sweeplab.training.optimizers import check_optimizer

    for optimizer in {str(config.optimizer): config.optimizer for _, config in planned}.values():
        check_optimizer(optimizer)
    executors = [placement.executor for placement in list_placements(request.config)]  # with a worker's threads
    forecaster = Forecaster([*executors, request.config.executor][0])
    num_seeds = count_seeds_per_point(len(planned), request.config) if is_listed else [len(request.config.study.seeds)]
    rows = []
    for (params, config), seeds in zip(planned, num_seeds, strict=True):
        forecast = forecaster.forecast(config)
        rows.append(PlanRow(params, config, seeds, forecast, forecast.why_alone))
    return rows, start_seconds


def _find_largest_that_fits(rows: Sequence[PlanRow], memory_bytes: int) -> PlanRow | None:
    """The setting with the highest need of those that fit for certain."""
    fitting = [row for row in rows if judge_fit(row.forecast.memory.needed_bytes, memory_bytes) is Fit.FITS]
    return max(fitting, key=_rank_by_need, default=None)


def _rank_by_need(row: PlanRow) -> tuple[float, int]:
    """What orders settings by their need; of equal ones the one that trains more parameters is the larger."""
    return row.forecast.memory.needed_bytes, row.forecast.num_trainable_params


def _describe_fits(fits: Sequence[Fit]) -> str:
    """Such as `1 fits, 2 do not fit`."""
    several = {Fit.FITS: "fit", Fit.UNCERTAIN: "are uncertain", Fit.DOES_NOT_FIT: "do not fit"}
    one = {fit: str(fit) for fit in Fit} | {Fit.UNCERTAIN: "is uncertain"}
    counts = {fit: fits.count(fit) for fit in Fit}
    return ", ".join(f"{count} {(one if count == 1 else several)[fit]}" for fit, count in counts.items() if count)


def _describe_device_memory(rows: Sequence[PlanRow], memory_bytes: int) -> list[str]:
    """How many settings fit, the largest one that does, or what to try where none does; and what the words mean."""
    fits = [judge_fit(row.forecast.memory.needed_bytes, memory_bytes) for row in rows]
    largest = _find_largest_that_fits(rows, memory_bytes)
    if largest is not None:
        named = f"The largest that fits: {describe_params(largest.params)}, "
        named += f"{format_bytes(largest.forecast.memory.needed_bytes)}."
    else:
        smallest = min(rows, key=_rank_by_need)
        named = f"None fits for certain. {describe_params(smallest.params)} needs the least, "
        named += f"{format_bytes(smallest.forecast.memory.needed_bytes)}, most of it {suggest_remedies(smallest)}."
    return [
        f"Of {len(rows)} setting{'s' * (len(rows) != 1)} in {format_bytes(memory_bytes)}: "
        f"{_describe_fits(fits)}. {named}",
        f"Predictions are taken as ± {100 * UNCERTAINTY:.0f} %; what lies within that is uncertain, and runs. "
        "All phases count: loading, training and the held-out loss; lm-eval's own lengths are not known.",
    ]


def _describe_exclusive(rows: Sequence[PlanRow]) -> list[str]:
    """Which settings cannot share a base, reason by reason."""
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row.why_exclusive is not None:
            reasons.setdefault(row.why_exclusive, []).append(describe_params(row.params))
    return [f"Trains alone: {'; '.join(same)}: {why}." for why, same in reasons.items()]


def _describe_devices(training: TrainingConfig) -> list[str]:
    """What the numbers are of, where a model is on several devices."""
    strategy, count = training.strategy, training.num_devices
    if count == 1:
        return []
    share = f" and 1/{count} of the base's weights beside the layers at work" if strategy == "fsdp" else ""
    return [
        f"training.strategy={strategy} on {count} devices: memory is of one, with 1/{count} of the rows{share}. "
        "No time is predicted, since how long devices wait for each other was not measured."
    ]


def _describe_assumptions(device_asked: str, asks_tasks: bool, forecast: "Forecast") -> list[str]:
    """What a setting's numbers assume, in sentences."""
    from sweeplab.runtime.device import CUDA_CONTEXT_BYTES

    device, extent = forecast.device, forecast.extent
    where = "" if device.present else ", which is not here, so no time is predicted"
    lines = [
        f"{forecast.model}: {forecast.num_total_params:,} parameters.",
        f"Planned for {device.kind}{where}; arithmetic in {device.dtype_name}.",
    ]
    if not device.present and device.dtype_name == "bfloat16":
        lines.append("A GPU without bfloat16, such as a T4, uses float32: training.precision=float32 plans for it.")
    if device.kind == "cuda":
        lines.append(f"CUDA's own context stands beside the peak, about {format_bytes(CUDA_CONTEXT_BYTES)}.")
    elif device_asked == "auto":
        lines.append("executor.device=cuda plans for a GPU.")
    lines.append(
        f"Examples have {extent.mean:.0f} tokens, the longest {extent.longest} (measured)."
        if extent.measured
        else f"Every example is assumed to have training.max_length={extent.longest} tokens: an upper bound."
    )
    if extent.num_heldout is not None:
        lines.append(f"{extent.num_heldout:,} examples are held out.")
    if extent.num_truncated:
        lines.append(f"training.max_length cuts {extent.num_truncated:,} examples; raise it to learn from them whole.")
    if extent.num_naming_special:
        lines.append(
            f"{extent.num_naming_special:,} examples name special tokens in their own text, as an end token written by "
            "hand is: they are learned as text."
        )
    lines += [f"{note[0].upper()}{note[1:]}." for note in extent.notes]
    if asks_tasks and forecast.row_limits:
        limit = forecast.row_limits[0]
        since = f", in texts of more than {limit.num_tokens} tokens" if limit.num_tokens else ""
        lines.append(f"Evaluation computes a question anew for each of its answers{since}: the model has {limit.why}.")
    if forecast.num_steps is None:
        lines.append("The data is on the hub and not looked at, so steps are unknown; training.max_steps sets them.")
    return lines


def _write_sentences(
    config: StudyConfig, varied: list[Axis], rows: Sequence[PlanRow], is_listed: bool, times: StudyTimes
) -> list[str]:
    """What the numbers assume and what they leave out; each sentence once."""
    assumed = dict.fromkeys(
        line
        for row in rows
        for line in _describe_assumptions(config.executor.device, bool(config.evaluation.tasks), row.forecast)
    )
    drawn = []
    if not is_listed:
        ranges = "; ".join(f"{one.key} {one.describe()}" for one in varied) or "nothing"
        drawn = [f"sampler={config.sampler.name} draws {ranges}. The table shows the configured point."]
    asked = read_device_memory(config)
    fit = [] if asked is None else _describe_device_memory(rows, asked)
    measure = (
        "Peak memory and time in the table are of a trial alone: memory is training's; a trial's time is that of its "
        "training, its held-out losses and its tasks."
    )
    timed = [*describe_parts(times), *describe_tasks(rows)]
    sent = describe_requests(config.evaluation, count_planned_trials(config, varied))
    return [
        *drawn,
        *assumed,
        measure,
        *timed,
        *sent,
        *_describe_devices(config.training),
        *_describe_exclusive(rows),
        *fit,
    ]


def _list_plan_values(
    config: StudyConfig, varied: list[Axis], rows: Sequence[PlanRow], times: StudyTimes, sentences: list[str]
) -> dict[str, Any]:
    """`plan.json`."""
    values = {
        "version": PLAN_VERSION,
        "study": config.study.name,
        "model": config.model.name,
        "num_total_params": rows[0].forecast.num_total_params,
        "num_trials": count_planned_trials(config, varied),
        "train_seconds": times.training,
        "study_seconds": times.study,
        "study_parts": None if times.parts is None else times.parts.to_dict(),
        "study_may_end_early": times.is_bound,
        "device_memory_bytes": read_device_memory(config),
        "sampler": config.sampler.name,
        "space": {axis.key: axis.spec() for axis in varied},
        "assumptions": sentences,
        "rows": [_list_row_values(row, read_device_memory(config)) for row in rows],
    }
    return StudyPlan.model_validate(values, strict=False).to_dict()


def _list_row_values(row: PlanRow, memory_bytes: int | None) -> dict[str, Any]:
    fit = None if memory_bytes is None else str(judge_fit(row.forecast.memory.needed_bytes, memory_bytes))
    return {
        "params": row.params,
        "num_seeds": row.num_seeds,
        "fit": fit,
        "alone": row.why_exclusive,
        **row.forecast.to_dict(),
    }


def _say_total(config: StudyConfig, varied: list[Axis], num_trials: int, total: str) -> str:
    if config.sampler.name not in RACES:
        return f"{num_trials} trial{'s' * (num_trials != 1)}, training {total}."
    sampler = config.sampler
    first = sampler.num_drawn if isinstance(sampler, FinalsSampler) else len(grid(list_begin(varied)))
    budget = f", or study.budget={config.study.budget} is spent" if config.study.budget else ""
    return (
        f"A race: {first} trials, then as many seeds as their places need, until study.within is known{budget}. "
        f"{num_trials} trials at most would train for {total}."
    )


def plan_study(request: Request, console: Console) -> None:
    """Prints the plan and writes `plan.json`. Raises `ConfigError` for what could not run, and `StoreError`."""
    config, varied = request.config, axes(request.config.space)
    is_listed = list_settings(config, varied) is not None
    with console.status("counting parameters"):
        rows, start_seconds = _plan_rows(request, varied, is_listed)
    num_trials = count_planned_trials(config, varied)
    num_workers = len(list_placements(config))
    times = sum_times(config, rows, num_trials, is_listed, start_seconds)
    path = study_folder(config) / "plan.json"
    sentences = _write_sentences(config, varied, rows, is_listed, times)
    values = _list_plan_values(config, varied, rows, times, sentences)
    write_json(path, values)
    if config.output == "json":
        print(to_json(values), end="")
        return
    console.print(make_settings_table(str(config.study.name), rows, read_device_memory(config)))
    console.print(Text(_say_total(config, varied, num_trials, describe_time(times, num_workers))), soft_wrap=True)
    console.print(make_parts_table(rows))
    for sentence in sentences:
        console.print(Text(sentence), soft_wrap=True)
    console.print(Text(f"plan     {path}"), soft_wrap=True)
