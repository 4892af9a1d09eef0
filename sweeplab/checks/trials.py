"""A trial that cannot run is refused here, before anything that takes long."""

import math
import re
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from sweeplab.checks.devices import check_devices
from sweeplab.checks.effects import OF_DATA, OF_MODELS, VIRTUAL_TOKEN_METHODS, refuse_unread
from sweeplab.checks.optimizers import check_optimizer
from sweeplab.checks.rules import check_at_least, check_choice, refuse
from sweeplab.checks.tasks import check_task_names
from sweeplab.config import (
    BASE_CHANGING,
    HQQ_BITS,
    LORA_METHODS,
    TOGGLES,
    AdapterConfig,
    ConfigError,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    QuantizationConfig,
    TrialConfig,
)
from sweeplab.digits import DIGITS_TASKS, ORIENTATIONS
from sweeplab.world import TARGETS

TEXT_BASE: Final = "tiny_base"
IMAGE_BASE: Final = "tiny_vit"
SCHEMES: Final = ("none", "nf4", "fp4", "int8", *HQQ_BITS)
PRECISIONS: Final = ("auto", "float32", "bfloat16")  # float16 would need scaled losses
STYLES: Final = ("plain", "alpaca", "chatml", "template")
SHAPES: Final = ("constant", "linear", "cosine")
METHODS: Final = ("lora", "none", "bitfit", "norms", "top_layers", "prompt", "prefix", "lora_prefix")
BASE_WEIGHT_METHODS: Final = ("none", "top_layers")  # bitfit and norms train what quantization leaves alone
INITIALIZATIONS: Final = ("default", "gaussian", "orthogonal", "olora", "pissa")
BIASES: Final = ("none", "all", "lora_only")


def check_expressions(key: str, patterns: Iterable[str]) -> None:
    """Raises `ConfigError` for a pattern that is no regular expression."""
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            rule = "must hold regular expressions over module names"
            raise refuse(key, rule, repr(pattern), f"mend it ({error})") from error


def check_adapter(adapter: AdapterConfig) -> None:
    check_choice("adapter.method", adapter.method, METHODS)
    check_at_least("adapter.num_virtual_tokens", adapter.num_virtual_tokens, 1, "try 20")
    check_at_least("adapter.num_layers", adapter.num_layers, 1, "try 2")
    for name in ("rank_pattern", "alpha_pattern", "lr_pattern"):
        check_expressions(f"adapter.{name}", getattr(adapter, name))
    for pattern, factor in adapter.lr_pattern.items():
        if not factor > 0:
            raise refuse("adapter.lr_pattern", "must hold factors above 0", f"{pattern}: {factor}", "try 0.5")
    if adapter.method not in LORA_METHODS:
        return
    check_choice("adapter.initialization", adapter.initialization, INITIALIZATIONS)
    check_choice("adapter.bias", adapter.bias, BIASES)
    check_at_least("adapter.rank", adapter.rank, 1, "use adapter=none to train without one")
    check_at_least("adapter.budget", adapter.budget, 1, "use null for adapter.rank")
    for pattern, rank in adapter.rank_pattern.items():
        check_at_least(f"adapter.rank_pattern.{pattern}", rank, 1, "leave the module out of the toggles instead")
    if not adapter.lr_ratio > 0:
        raise refuse("adapter.lr_ratio", "must be above 0", adapter.lr_ratio, "use 1 for equal rates")
    if not adapter.effective_alpha() > 0:
        raise refuse("adapter.alpha", "must be above 0", adapter.effective_alpha(), "try adapter.alpha_ratio=2")
    if not 0 <= adapter.dropout < 1:
        raise refuse("adapter.dropout", "must be from 0 to below 1", adapter.dropout, "try 0.05, or 0 for none")
    if not adapter.enabled():
        names = ", ".join(f"lora_{toggle}" for toggle in TOGGLES)
        raise ConfigError(f"adapter has every toggle off, so nothing would train; switch on at least one of {names}")


def check_data(data: DataConfig) -> None:
    check_choice("data.source", data.source, ("world", "json", "hub", "mixture", "digits"))
    check_choice("data.style", data.style, STYLES)
    if data.source == "world":
        check_choice("data.target", data.target, TARGETS)
    if data.source == "digits":
        check_choice("data.target", data.target, ORIENTATIONS)
    check_parts(data)
    refuse_unread("data", data, OF_DATA)
    for key, path in (("data.path", data.path), ("data.heldout_path", data.heldout_path)):
        if path is not None and not Path(path).is_file():
            raise refuse(key, "must be a file", path, "check the path")
    if data.source == "json" and data.path is None:
        raise ConfigError("data.path is missing; give a JSON or JSONL file of instruction records: data.path=FILE")
    if data.path is not None and data.heldout_path is not None and Path(data.path).samefile(data.heldout_path):
        raise refuse(
            "data.heldout_path",
            f"must be another file than data.path={data.path}, or nothing is held out",
            data.heldout_path,
            "leave it null to set data.heldout_fraction of the records aside",
        )
    if data.source == "hub" and not data.name:
        raise ConfigError("data.name is missing; give the hub's name of a data set: data.name=ORG/NAME")
    if not 0 < data.heldout_fraction < 1:
        raise refuse("data.heldout_fraction", "must be between 0 and 1", data.heldout_fraction, "try 0.1")
    check_at_least("data.num_examples", data.num_examples, 2, "leave it null for all")
    if data.fraction is not None and not 0 < data.fraction <= 1:
        raise refuse("data.fraction", "must be above 0 and at most 1", data.fraction, "leave it null for all")
    if data.fraction is not None and data.num_examples is not None:
        raise ConfigError(
            f"data.fraction={data.fraction} and data.num_examples={data.num_examples} both say how many examples; "
            "leave one of them null"
        )


def check_parts(data: DataConfig) -> None:
    """The files of a mixture. Raises `ConfigError`."""
    if data.source != "mixture":
        if data.parts:
            raise ConfigError(f"data.parts goes with data=mixture, got data.source={data.source}; choose data=mixture")
        return
    if len(data.parts) < 2:
        given = f"got {len(data.parts)}"
        raise ConfigError(
            f"data.parts must name at least two files, {given}; give data.parts=[{{path: FILE, weight: 3}}, "
            "{path: FILE, weight: 1}], or data=json for one"
        )
    for place, part in enumerate(data.parts):
        if not Path(part.path).is_file():
            raise refuse(f"data.parts[{place}].path", "must be a file", part.path, "check the path")
        if not 0 < part.weight < math.inf:
            raise refuse(f"data.parts[{place}].weight", "must be a number above 0", part.weight, "try 1")
    if len({part.path for part in data.parts}) < len(data.parts):
        raise ConfigError("data.parts names a file twice; give each file once, with the sum of its weights")
    for key, value in (("data.path", data.path), ("data.heldout_path", data.heldout_path)):
        if value is not None:
            raise refuse(key, "does not go with data=mixture", value, "each part sets its own held-out share aside")


def check_model(model: ModelConfig) -> None:
    check_choice("model.source", model.source, ("embedded", "local", "hub"))
    if model.source == "embedded":
        check_choice("model.name", model.name, (TEXT_BASE, IMAGE_BASE))
    refuse_unread("model", model, OF_MODELS)
    if model.source == "local":
        if model.path is None:
            raise ConfigError("model.path is missing; give a folder in Hugging Face's layout: model.path=DIR")
        if not (Path(model.path) / "config.json").is_file():
            raise refuse("model.path", "must be a folder with a config.json", model.path, "check the path")
        if not model.random_init and not list(Path(model.path).glob("*.safetensors")):
            raise refuse(
                "model.path",
                "must hold *.safetensors (pickled weights are not loaded)",
                model.path,
                "convert it with save_pretrained, or set model.random_init=true",
            )
    for toggle in model.modules:
        check_choice("model.modules", toggle, TOGGLES)


def check_quantization(quantization: QuantizationConfig) -> None:
    """Refuses schemes that do not exist or cannot be had here. Raises `ConfigError`."""
    check_choice("quantization.scheme", quantization.scheme, SCHEMES)
    check_expressions("quantization.pattern", quantization.pattern)
    for pattern, scheme in quantization.pattern.items():
        check_choice(f"quantization.pattern.{pattern}", scheme, SCHEMES)
    schemes = quantization.schemes()
    if quantization.double and schemes.isdisjoint(("nf4", "fp4")):
        raise refuse("quantization.double", "goes with nf4 or fp4 only", True, "choose quantization=nf4_dq")
    if quantization.group_size < 8 or quantization.group_size % 8:
        raise refuse("quantization.group_size", "must be a multiple of 8", quantization.group_size, "try 64")
    packed = sorted(schemes & set(HQQ_BITS))
    if packed and find_spec("hqq") is None:
        raise ConfigError(
            f"quantization.scheme={packed[0]} needs the package hqq, which is not installed; "
            "pip install -c constraints.txt -e '.[hqq]', or choose quantization=nf4_dq"
        )


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


def check_evaluation(evaluation: EvaluationConfig) -> None:
    check_task_names(evaluation.tasks)
    check_at_least("evaluation.batch_size", evaluation.batch_size, 1, "use a whole number from 1")
    check_at_least("evaluation.limit", evaluation.limit, 1, "use null for all items")
    check_at_least("evaluation.num_fewshot", evaluation.num_fewshot, 0, "use null for the task's own")
    check_at_least("evaluation.bootstrap_iters", evaluation.bootstrap_iters, 1, "try 1000")
    if evaluation.data_dir is not None and not Path(evaluation.data_dir).is_dir():
        raise refuse("evaluation.data_dir", "must be a folder", evaluation.data_dir, "check the path, or leave it null")


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
