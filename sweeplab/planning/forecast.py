"""Forecasts parameters, memory and time of a trial before it runs."""

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sweeplab.adapters.counting import Skeleton, build_skeleton, count_trainable_params, find_quantized_matrices
from sweeplab.adapters.targets import describe_parameters, refuse_parameters_in_parts, refuse_quantized_parameters
from sweeplab.config.data import TextData
from sweeplab.config.executor import ExecutorConfig
from sweeplab.config.shared_base import why_alone
from sweeplab.config.trial import TrialConfig
from sweeplab.models.layers import ExpertShape
from sweeplab.models.row_limits import RowLimit, find_row_limit, inexact_packing_error
from sweeplab.planning.lengths import DataExtent, measure_data_extent
from sweeplab.planning.memory import find_adapted_matrices
from sweeplab.planning.phases import MemoryForecast, forecast_base, forecast_memory
from sweeplab.planning.tasks import EvaluationWork, count_evaluation_work
from sweeplab.planning.time import (
    PROFILE_STEPS,
    count_flops_per_token,
    count_heldout_measurements,
    count_optimizer_steps,
    count_train_tokens,
    estimate_task_seconds,
    estimate_train_seconds,
    measure_flops_per_second,
    share_of_layers,
)
from sweeplab.runtime.device import PlannedDevice, plan_device

if TYPE_CHECKING:
    from sweeplab.planning.speed import PassSeconds


_FLOPS_APART: Final = 1.5  # settings whose operations differ by such a factor are measured each


@dataclass(frozen=True)
class Forecast:
    """The forecast for one trial; None for a value that cannot be known on this machine."""

    model: str  # its name
    num_total_params: int
    num_trainable_params: int
    why_alone: str | None  # None: other trials can train beside it
    base_bits_per_param: float  # as a record measures it
    memory: MemoryForecast
    num_steps: int | None
    num_train_tokens: float | None  # padding not counted
    train_seconds: float | None
    heldout_seconds: float | None  # of all measurements of the held-out loss of the trial
    base_seconds: float | None  # the base's held-out loss and its tasks, once for the study
    load_seconds: float | None  # of the base, once for each worker
    evaluation: EvaluationWork | None  # what a trial's tasks ask; None: not known
    task_seconds: float | None  # of all tasks of the trial, those during its training included
    profile_seconds: float | None  # of a trial's layout, where it trains beside others
    probed_flops_per_second: float | None  # of a matrix product, before `time._EFFICIENCY`
    extent: DataExtent
    device: PlannedDevice
    row_limits: tuple[RowLimit, ...] = ()  # on answers that share their question's tokens in evaluation

    @property
    def trial_seconds(self) -> float | None:
        """Of training, held-out losses and tasks; None where one is not known."""
        parts = (self.train_seconds, self.heldout_seconds, self.task_seconds)
        return None if None in parts else sum(filter(None, parts))

    def to_dict(self) -> dict[str, Any]:
        """The forecast as values for `plan.json`."""
        return {
            "model": self.model,
            "num_total_params": self.num_total_params,
            "num_trainable_params": self.num_trainable_params,
            "base_bits_per_param": self.base_bits_per_param,
            "peak_memory_bytes": self.memory.training.total_bytes,
            "peak_moment": self.memory.training_moment,
            "memory": asdict(self.memory.training),
            "moments": {name: asdict(parts) for name, parts in self.memory.moments().items()},
            "needed_memory_bytes": self.memory.needed_bytes,
            "num_steps": self.num_steps,
            "train_seconds": self.train_seconds,
            "heldout_seconds": self.heldout_seconds,
            "base_seconds": self.base_seconds,
            "load_seconds": self.load_seconds,
            "task_seconds": self.task_seconds,
            "tasks": None if self.evaluation is None else [task.to_dict() for task in self.evaluation.tasks],
            "profile_seconds": self.profile_seconds,
            "probed_flops_per_second": self.probed_flops_per_second,
            "data": self.extent._asdict(),
            "device": {"kind": self.device.kind, "present": self.device.present, "dtype": self.device.dtype_name},
        }


def _refuse_inexact_packing(config: TrialConfig, sizes: Skeleton, extent: DataExtent) -> None:
    """Raises `ConfigError` for examples that may not share a row of this model, as far as its configuration says."""
    if isinstance(config.data, TextData) and config.data.packing:
        limit = find_row_limit(sizes.row_limits, extent.longest_example)
        if limit is not None:
            raise inexact_packing_error(limit, config.training.max_length)


def _describe_parameters(config: TrialConfig, sizes: Skeleton) -> str | None:
    """Why PEFT's way of adapting experts keeps other trials away; None where it is not taken. Raises `ConfigError`."""
    adapted = find_adapted_matrices(config.adapter, config.model, sizes)
    parameters = [one.name for one in adapted if isinstance(one, ExpertShape)]
    why = describe_parameters(parameters)
    if why is not None:
        quantized = [one.name for _, one in find_quantized_matrices(config.quantization, sizes)]
        refuse_quantized_parameters(parameters, quantized, sizes.model_type)
        refuse_parameters_in_parts(config, why)
    return why


class MeasuredPasses(NamedTuple):
    """Passes of one setting, and its operations for a token of training."""

    seconds: "PassSeconds"
    flops: float


@dataclass
class Forecaster:
    """Forecasts trials of one study; models, data and speeds that trials share are measured once."""

    executor: ExecutorConfig
    skeletons: dict[str, Skeleton] = field(default_factory=dict)
    extents: dict[str, DataExtent] = field(default_factory=dict)
    speeds: dict[PlannedDevice, float | None] = field(default_factory=dict)  # FLOP/s
    passes: dict[str, dict[int, MeasuredPasses | None]] = field(default_factory=dict)  # by size of the operations
    evaluations: dict[str, EvaluationWork | None] = field(default_factory=dict)

    def forecast(self, config: TrialConfig) -> Forecast:
        """Parameters, memory and time of `config`. Raises `ConfigError` for what could not run."""
        sizes, extent, device = self.surroundings(config)
        _refuse_inexact_packing(config, sizes, extent)
        if device not in self.speeds:
            self.speeds[device] = measure_flops_per_second(device, self.executor.num_threads)
        num_trainable = count_trainable_params(config.adapter, config.model, sizes)
        flops = count_flops_per_token(config, sizes, num_trainable, extent.mean, extent.target_share)
        tokens = count_train_tokens(config.training, extent)
        is_single = config.training.num_devices == 1  # how long devices wait for each other was not measured
        seconds = estimate_train_seconds(config, flops, tokens, device, self.speeds[device]) if is_single else None
        num_steps, heldout = count_optimizer_steps(config.training, extent.num_examples), extent.heldout_tokens
        work = self.evaluation_of(config, device)
        once = load = asked = step = None
        if (passes := self.passes_of(config, flops, sizes, extent, device, work)) is not None:
            per_token = passes.seconds.train * flops / passes.flops
            seconds = None if tokens is None else per_token * tokens
            once = None if heldout is None else passes.seconds.evaluate * heldout
            load = passes.seconds.load
            of_layers = share_of_layers(sizes, extent.target_share)  # answers are few of a task's tokens
            asked = None if work is None else estimate_task_seconds(work, passes.seconds, of_layers)
            step = per_token * config.training.micro_batch_size * config.training.accumulation * extent.longest
        count = None if num_steps is None else count_heldout_measurements(config.training, num_steps)
        asked_during = (asked or 0.0) if config.evaluation.rung_tasks else 0.0  # at most: they may be some of the tasks
        return Forecast(
            model=config.model.name,
            num_total_params=sizes.num_params,
            num_trainable_params=num_trainable,
            why_alone=why_alone(config, device.kind) or _describe_parameters(config, sizes),
            base_bits_per_param=8 * forecast_base(config, sizes, device).base_bytes / sizes.num_params,
            memory=forecast_memory(config, sizes, extent, device),
            num_steps=num_steps,
            num_train_tokens=tokens,
            train_seconds=seconds,
            heldout_seconds=None if once is None or count is None else once * count,
            base_seconds=None if once is None or asked is None else once + asked,
            load_seconds=load,
            evaluation=work,
            task_seconds=None if None in (asked, count) else (asked or 0.0) + asked_during * ((count or 1) - 1),
            profile_seconds=None if step is None else PROFILE_STEPS * step,
            probed_flops_per_second=self.speeds[device],
            extent=extent,
            device=device,
            row_limits=sizes.row_limits,
        )

    def evaluation_of(self, config: TrialConfig, device: PlannedDevice) -> EvaluationWork | None:
        """What the trial's tasks ask, where their time can be told. Raises `ConfigError`."""
        if device.kind != "cpu":
            return None
        key = f"{config.model} {config.quantization} {config.evaluation} {device}"
        if key not in self.evaluations:
            self.evaluations[key] = count_evaluation_work(config, device.dtype)
        return self.evaluations[key]

    def passes_of(
        self,
        config: TrialConfig,
        flops: float,
        sizes: Skeleton,
        extent: DataExtent,
        device: PlannedDevice,
        work: EvaluationWork | None,
    ) -> MeasuredPasses | None:
        """What was measured of a setting of this base, batch and data with about as many operations a token (`flops`);
        others take as theirs say. The sizes of the matrices count, too, so that far from what was measured that would
        be wrong."""
        if device.kind != "cpu":
            return None
        from sweeplab.planning.speed import measure_passes  # imports PEFT

        rows = config.training.micro_batch_size
        key = f"{config.model} {config.quantization} {rows} {extent.mean} {device} {work}"
        near = self.passes.setdefault(key, {})
        step = round(math.log(flops, _FLOPS_APART))
        if step not in near:
            known = next((one.seconds for one in near.values() if one is not None), None)
            found = measure_passes(config, sizes, extent, device, self.executor.num_threads, work, known)
            near[step] = None if found is None else MeasuredPasses(found, flops)
        return near[step]

    def memory(self, config: TrialConfig) -> MemoryForecast:
        """Memory of `config` only, without any measurement. Raises `ConfigError` for what could not run."""
        return forecast_memory(config, *self.surroundings(config))

    def surroundings(self, config: TrialConfig) -> tuple[Skeleton, DataExtent, PlannedDevice]:
        device = plan_device(self.executor.device, config.training.precision)
        return self.sizes_of(config), self.extent_of(config), device

    def sizes_of(self, config: TrialConfig) -> Skeleton:
        key = str(config.model)
        if key not in self.skeletons:
            self.skeletons[key] = build_skeleton(config.model)
        return self.skeletons[key]

    def extent_of(self, config: TrialConfig) -> DataExtent:
        key = f"{config.model} {config.data} {config.training.max_length}"
        if key not in self.extents:
            self.extents[key] = measure_data_extent(config)
        return self.extents[key]
