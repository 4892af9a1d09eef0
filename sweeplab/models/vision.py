"""Image classifiers among the bases: their architectures, and the size of image that they read."""

from typing import Any, Final

from transformers import AutoModelForCausalLM, AutoModelForImageClassification, PretrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES

from sweeplab.builtin.digits import NUM_CLASSES, ImageSize
from sweeplab.config.data import DataConfig
from sweeplab.runtime.errors import ConfigError, write_value

_HEAD: Final = "classifier"


def is_image_classifier(config: PretrainedConfig) -> bool:
    """By the architecture alone: no family of transformers both classifies images and continues text."""
    return config.model_type in MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES


def choose_auto_class(config: PretrainedConfig) -> Any:
    """transformers' class that builds or loads the architecture."""
    return AutoModelForImageClassification if is_image_classifier(config) else AutoModelForCausalLM


def find_image_head(config: PretrainedConfig) -> str | None:
    """The name of an image classifier's last matrix; None for a language model."""
    return _HEAD if is_image_classifier(config) else None


def refuse_other_family(config: PretrainedConfig, data: DataConfig) -> None:
    """Raises `ConfigError` for images before a language model, and for text before an image classifier."""
    if is_image_classifier(config) == data.is_images():
        return
    what, fitting = (
        ("a language model", "model=tiny_vit, or data of text")
        if data.is_images()
        else ("an image classifier", "data=digits, or a language model")
    )
    raise ConfigError(
        f"data.name={data.name} does not go with this model, a {config.model_type}, which is {what}; choose {fitting}"
    )


def count_classes(config: PretrainedConfig) -> int:
    return len(config.id2label or {})


def read_image_size(config: PretrainedConfig) -> ImageSize:
    """Square images in square patches: (side / patch)^2 tokens and the class token. Raises `ConfigError`."""
    side, patch, channels = (getattr(config, name, None) for name in ("image_size", "patch_size", "num_channels"))
    if not (isinstance(side, int) and isinstance(patch, int) and isinstance(channels, int)):
        raise ConfigError(
            f"model of type {config.model_type} must have whole numbers image_size, patch_size and num_channels, got "
            f"{write_value(side)}, {write_value(patch)} and {write_value(channels)}; choose a vision transformer, "
            "such as model=tiny_vit"
        )
    if count_classes(config) < NUM_CLASSES:
        raise ConfigError(
            f"model of type {config.model_type} must tell at least {NUM_CLASSES} classes apart for data=digits, got "
            f"num_labels={config.num_labels}; save it with num_labels={NUM_CLASSES}, and let adapter.lora_head=true "
            "adapt its head"
        )
    return ImageSize(channels, side, (side // patch) ** 2 + 1)
