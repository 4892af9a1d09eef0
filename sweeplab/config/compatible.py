"""A trial that cannot run is refused here, before anything that takes long."""

from typing import Final

from sweeplab.builtin.digits import DIGITS_TASKS
from sweeplab.config.adapter import (
    BASE_CHANGING,
    BASE_WEIGHT_METHODS,
    LORA_METHODS,
    VIRTUAL_TOKEN_METHODS,
    check_adapter,
)
from sweeplab.config.data import check_data
from sweeplab.config.devices import check_devices
from sweeplab.config.evaluation import check_evaluation
from sweeplab.config.model import IMAGE_BASE, check_model
from sweeplab.config.optimizer import check_optimizer
from sweeplab.config.quantization import check_quantization
from sweeplab.config.trial import TrialConfig
from sweeplab.runtime.errors import ConfigError, check_at_least, check_choice, refuse

PRECISIONS: Final = ("auto", "float32", "bfloat16")  # float16 would need scaled losses
SHAPES: Final = ("constant", "linear", "cosine")


def check_training(config: TrialConfig) -> None:
    training, schedule = config.training, config.schedule
    for name in ("epochs", "max_steps", "micro_batch_size", "accumulation", "heldout_interval", "log_interval"):
        check_at_least(f"training.{name}", getattr(training, name), 1, "use a whole number from 1")
    check_at_least("training.max_length", training.max_length, 2, "use the longest example's tokens, or less")
    check_choice("training.precision", training.precision, PRECISIONS)
    if training.gradient_clip is not None and not training.gradient_clip > 0:
        raise refuse("training.gradient_clip", "must be above 0", training.gradient_clip, "use null for no clipping")
    check_choice("schedule.shape", schedule.shape, SHAPES)
    check_at_least("schedule.warmup_steps", schedule.warmup_steps, 0, "use null for warmup_ratio")
    warmup, steps = schedule.warmup_steps, training.max_steps
    if warmup is not None and steps is not None and warmup >= steps:
        rule = f"must be below training.max_steps={steps}"
        raise refuse("schedule.warmup_steps", rule, warmup, "lower it, or use null for warmup_ratio")
    for name in ("warmup_ratio", "end_factor"):
        if not 0 <= getattr(schedule, name) <= 1:
            raise refuse(f"schedule.{name}", "must be from 0 to 1", getattr(schedule, name), "try 0.05")


def check_rungs(config: TrialConfig) -> None:
    """Tasks at rungs are of those at the end, and there are rungs. Raises `ConfigError`."""
    asked = config.evaluation
    for task in asked.rung_tasks:
        check_choice("evaluation.rung_tasks", task, tuple(asked.tasks))
    if asked.rung_tasks and config.training.heldout_interval is None:
        raise ConfigError(
            f"evaluation.rung_tasks={asked.rung_tasks} needs steps to be scored at, got "
            "training.heldout_interval=null; give a number of steps: training.heldout_interval=20"
        )


def check_trial(config: TrialConfig) -> None:
    """Refuses a trial that cannot run. Raises `ConfigError`."""
    check_model(config.model)
    check_quantization(config.quantization)
    check_adapter(config.adapter)
    check_data(config.data)
    check_optimizer(config.optimizer)
    check_training(config)
    check_evaluation(config.evaluation)
    check_rungs(config)
    check_images(config)
    check_compatible(config)
    check_devices(config)


def check_compatible(config: TrialConfig) -> None:
    """The table of what goes with a quantized base. Raises `ConfigError`."""
    adapter, schemes, label = config.adapter, config.quantization.schemes(), config.quantization.label()
    if config.data.packing and adapter.method in VIRTUAL_TOKEN_METHODS:
        raise ConfigError(
            f"data.packing=true does not go with adapter={adapter.method}: its virtual tokens stand before a row, and "
            "every example of the row needs them; choose data.packing=false"
        )
    if schemes == {"none"}:
        return
    if adapter.method in BASE_WEIGHT_METHODS:
        raise ConfigError(
            f"adapter={adapter.method} trains weights of the base, which quantization={label} freezes; "
            "choose quantization=none, or adapter=lora"
        )
    if adapter.dora and "int8" in schemes:
        raise ConfigError(
            "adapter.dora=true needs the norm of every weight, which quantization=int8 does not give on a CPU; choose "
            "quantization=nf4, or adapter.dora=false"
        )
    if adapter.method in LORA_METHODS and adapter.initialization in BASE_CHANGING:
        raise ConfigError(
            f"adapter.initialization={adapter.initialization} takes its part out of the base's weights, which "
            f"quantization={label} cannot give back exactly; choose quantization=none, or initialization=default"
        )


def check_images(config: TrialConfig) -> None:
    """What goes with images and their classes, as far as it shows before the model is loaded. Raises `ConfigError`."""
    model, data, asked = config.model, config.data, config.evaluation
    if model.source == "embedded" and (model.name == IMAGE_BASE) != data.is_images():
        fitting = "model=tiny_vit" if data.is_images() else "data=digits"
        raise ConfigError(f"data.name={data.name} does not go with model.name={model.name}; choose {fitting}")
    if not data.is_images():
        for task in asked.tasks:
            if task in DIGITS_TASKS:
                raise refuse("evaluation.tasks", "is of images and goes with data=digits only", task, "drop it")
        return
    for task in asked.tasks:
        check_choice("evaluation.tasks with data=digits", task, tuple(DIGITS_TASKS))
    text_only = (
        ("adapter.method", config.adapter.method, config.adapter.method in VIRTUAL_TOKEN_METHODS, "adapter=lora"),
        ("data.packing", data.packing, data.packing, "data.packing=false"),
        ("evaluation.num_fewshot", asked.num_fewshot, asked.num_fewshot is not None, "null"),
        ("evaluation.data_dir", asked.data_dir, asked.data_dir is not None, "null"),
        ("evaluation.gen_kwargs", asked.gen_kwargs, bool(asked.gen_kwargs), "evaluation.gen_kwargs={}"),
        ("evaluation.apply_chat_template", True, asked.apply_chat_template, "evaluation.apply_chat_template=false"),
        ("evaluation.system_instruction", asked.system_instruction, asked.system_instruction is not None, "null"),
    )
    for key, value, is_set, remedy in text_only:
        if is_set:
            raise refuse(key, "is for text and does not go with data=digits", value, f"choose {remedy}")
