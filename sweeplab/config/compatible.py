"""Sections that do not go together, and what is not on this machine: refused before anything that takes long."""

from importlib.util import find_spec
from typing import Any

from sweeplab.builtin.digits import DIGITS_TASKS
from sweeplab.config.adapter import (
    BASE_CHANGING,
    BASE_WEIGHT_METHODS,
    VIRTUAL_TOKEN_METHODS,
    LowRankAdapter,
)
from sweeplab.config.data import DataConfig, FiledData, JsonData, MixtureData, TextData
from sweeplab.config.devices import check_devices
from sweeplab.config.evaluation import EvaluationConfig
from sweeplab.config.included import check_code, check_folder
from sweeplab.config.judge_rules import check_judged_trial
from sweeplab.config.model import IMAGE_BASE, LocalModel, ModelConfig
from sweeplab.config.own_items import check_own
from sweeplab.config.quantization import HQQ_BITS, QuantizationConfig
from sweeplab.config.tasks import check_task_names
from sweeplab.config.training import TrainingConfig
from sweeplab.config.trial import TrialConfig
from sweeplab.runtime.errors import ConfigError, check_choice, refuse, write_value
from sweeplab.runtime.paths import expand_home


def check_trial(config: TrialConfig) -> None:
    """Refuses a trial that cannot run. Raises `ConfigError`."""
    _check_model_folder(config.model)
    _check_packages(config.quantization)
    _check_data_files(config.data)
    _check_steps(config)
    _check_tasks(config.evaluation)
    _check_images(config)
    _check_quantized(config)
    check_devices(config)
    check_judged_trial(config)


def _check_model_folder(model: ModelConfig) -> None:
    if not isinstance(model, LocalModel):
        return
    if not (expand_home(model.path) / "config.json").is_file():
        raise refuse("model.path", "must be a folder with a config.json", model.path, "check the path")
    if not model.random_init and not list(expand_home(model.path).glob("*.safetensors")):
        raise refuse(
            "model.path",
            "must hold *.safetensors (pickled weights are not loaded)",
            model.path,
            "convert it with save_pretrained, or set model.random_init=true",
        )


def _check_packages(quantization: QuantizationConfig) -> None:
    packed = sorted(quantization.schemes() & set(HQQ_BITS))
    if packed and find_spec("hqq") is None:
        raise ConfigError(
            f"quantization.scheme={packed[0]} needs the package hqq, which is not installed; "
            "pip install -c constraints.txt -e '.[hqq]', or choose quantization=nf4_dq"
        )


def _check_data_files(data: DataConfig) -> None:
    """Files that are not there, and one that is held out from itself. Raises `ConfigError`."""
    paths = {}
    if isinstance(data, JsonData):
        paths["data.path"] = data.path
    if isinstance(data, FiledData) and data.heldout_path is not None:
        paths["data.heldout_path"] = data.heldout_path
    if isinstance(data, MixtureData):
        paths |= {f"data.parts[{place}].path": part.path for place, part in enumerate(data.parts)}
    for key, path in paths.items():
        if not expand_home(path).is_file():
            raise refuse(key, "must be a file", path, "check the path")
    if len(paths) == 2 and isinstance(data, JsonData):
        own, heldout = (expand_home(path) for path in paths.values())
        if own.samefile(heldout):
            raise refuse(
                "data.heldout_path",
                f"must be another file than data.path={data.path}, or nothing is held out",
                data.heldout_path,
                "leave it null to set data.heldout_fraction of the records aside",
            )


def _check_steps(config: TrialConfig) -> None:
    """Steps of warmup, and steps at which tasks are scored. Raises `ConfigError`."""
    warmup, steps, asked = config.schedule.warmup_steps, config.training.max_steps, config.evaluation
    if warmup is not None and steps is not None and warmup >= steps:
        rule = f"must be below training.max_steps={steps}"
        raise refuse("schedule.warmup_steps", rule, warmup, "lower it, or use null for warmup_ratio")
    if asked.rung_tasks and config.training.heldout_interval is None:
        raise ConfigError(
            f"evaluation.rung_tasks={write_value(asked.rung_tasks)} needs steps to be scored at, got "
            "training.heldout_interval=null; give a number of steps: training.heldout_interval=20"
        )
    _check_middle(config.training)


def _check_middle(training: TrainingConfig) -> None:
    """What is decided by held-out losses in the middle of the training needs enough of them. Raises `ConfigError`."""
    interval, steps, patience = training.heldout_interval, training.max_steps, training.patience
    needed = [("training.keep", "best", 1)] if training.keep == "best" else []
    if patience is not None:
        needed.append(("training.patience", str(patience), patience + 1))
    for name, value, count in needed:
        if interval is None:
            rule = "needs held-out losses in the middle of the training, and training.heldout_interval is null"
            raise refuse(name, rule, value, "give a share of the steps: training.heldout_interval=0.1")
        whole = 1 if interval < 1 else steps
        if whole is not None and count * interval >= whole:
            most = "the end" if interval < 1 else f"training.max_steps={steps}"
            rule = f"has no effect where held-out loss {count} of training.heldout_interval={interval} is not before"
            raise refuse(name, f"{rule} {most}", value, f"lower training.heldout_interval, or leave {name} out")


def _check_tasks(evaluation: EvaluationConfig) -> None:
    folder = evaluation.include_path
    if folder is not None:
        check_folder(folder)
    check_task_names(evaluation.tasks, folder)
    if folder is not None and not evaluation.include_code:
        check_code(folder, evaluation.tasks)
    check_own(evaluation)
    if evaluation.data_dir is not None and not expand_home(evaluation.data_dir).is_dir():
        raise refuse("evaluation.data_dir", "must be a folder", evaluation.data_dir, "check the path, or leave it null")


def _check_quantized(config: TrialConfig) -> None:
    """The table of what goes with a quantized base. Raises `ConfigError`."""
    adapter, schemes, label = config.adapter, config.quantization.schemes(), config.quantization.label()
    if isinstance(config.data, TextData) and config.data.packing and adapter.method in VIRTUAL_TOKEN_METHODS:
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
    if not isinstance(adapter, LowRankAdapter):
        return
    if adapter.dora and "int8" in schemes:
        raise ConfigError(
            "adapter.dora=true needs the norm of every weight, which quantization=int8 does not give on a CPU; choose "
            "quantization=nf4, or adapter.dora=false"
        )
    if adapter.initialization in BASE_CHANGING:
        raise ConfigError(
            f"adapter.initialization={adapter.initialization} takes its part out of the base's weights, which "
            f"quantization={label} cannot give back exactly; choose quantization=none, or initialization=default"
        )


def _check_images(config: TrialConfig) -> None:
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
    text_only: tuple[tuple[str, Any, bool, str], ...] = (
        ("adapter.method", config.adapter.method, config.adapter.method in VIRTUAL_TOKEN_METHODS, "adapter=lora"),
        ("evaluation.num_fewshot", asked.num_fewshot, asked.num_fewshot is not None, "null"),
        ("evaluation.clusters", asked.clusters, bool(asked.clusters), "evaluation.clusters={}"),
        ("evaluation.data_dir", asked.data_dir, asked.data_dir is not None, "null"),
        ("evaluation.include_path", asked.include_path, asked.include_path is not None, "null"),
        ("evaluation.path", asked.path, asked.path is not None, "evaluation=default"),
        ("evaluation.gen_kwargs", asked.gen_kwargs, bool(asked.gen_kwargs), "evaluation.gen_kwargs={}"),
        ("evaluation.apply_chat_template", True, asked.apply_chat_template, "evaluation.apply_chat_template=false"),
        ("evaluation.system_instruction", asked.system_instruction, asked.system_instruction is not None, "null"),
    )
    for key, value, is_set, remedy in text_only:
        if is_set:
            raise refuse(key, "is for text and does not go with data=digits", value, f"choose {remedy}")
