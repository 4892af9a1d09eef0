"""The frozen base: where it comes from."""

from dataclasses import dataclass, field
from typing import Any, Final

from omegaconf import MISSING

from sweeplab.config.adapter import TOGGLES
from sweeplab.config.unread import OF_MODELS, refuse_unread
from sweeplab.runtime.errors import ConfigError, check_choice, refuse
from sweeplab.runtime.paths import expand_home


@dataclass
class ModelConfig:
    source: str = MISSING  # embedded | local | hub
    name: str = MISSING  # the hub's name, or what reports call it
    path: str | None = None  # a Hugging Face folder, for source=local
    revision: str | None = None  # a commit or tag, for source=hub
    random_init: bool = False  # the architecture without its weights, for memory and time
    # Hugging Face config values, so that a plan needs no network; empty: from the model's folder or the hub
    architecture: dict[str, Any] = field(default_factory=dict)
    # toggle -> module names, for an architecture the table lacks; empty: the table
    modules: dict[str, list[str]] = field(default_factory=dict)


TEXT_BASE: Final = "tiny_base"
IMAGE_BASE: Final = "tiny_vit"


def check_model(model: ModelConfig) -> None:
    check_choice("model.source", model.source, ("embedded", "local", "hub"))
    if model.source == "embedded":
        check_choice("model.name", model.name, (TEXT_BASE, IMAGE_BASE))
    refuse_unread("model", model, OF_MODELS)
    if model.source == "local":
        if model.path is None:
            raise ConfigError("model.path is missing; give a folder in Hugging Face's layout: model.path=DIR")
        if not (expand_home(model.path) / "config.json").is_file():
            raise refuse("model.path", "must be a folder with a config.json", model.path, "check the path")
        if not model.random_init and not list(expand_home(model.path).glob("*.safetensors")):
            raise refuse(
                "model.path",
                "must hold *.safetensors (pickled weights are not loaded)",
                model.path,
                "convert it with save_pretrained, or set model.random_init=true",
            )
    for toggle in model.modules:
        check_choice("model.modules", toggle, TOGGLES)
