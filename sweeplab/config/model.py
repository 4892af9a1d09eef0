"""The frozen base: one class for each model.source."""

from typing import Annotated, Any, Final, Literal

from pydantic import Field, field_validator

from sweeplab.config.adapter import TOGGLES
from sweeplab.records.section import Section, Text, key
from sweeplab.runtime.errors import check_choice

IMAGE_BASE: Final = "tiny_vit"


class ModelConfig(Section):
    """What every source has."""

    source: str
    name: Text = key("what reports call it")
    random_init: bool = key("random weights instead of the trained ones, to measure memory and time", False)
    modules: dict[str, list[str]] = key(
        "for an architecture that sweeplab does not know: query, key, value, projection, mlp or head -> names of its "
        "modules",
        {},
    )

    @field_validator("modules")
    @classmethod
    def _check_toggles(cls, modules: dict[str, list[str]]) -> dict[str, list[str]]:
        for toggle in modules:
            check_choice("model.modules", toggle, TOGGLES)
        return modules

    @property
    def config_values(self) -> dict[str, Any]:
        """Hugging Face config values from conf; empty where the model's own config.json is read."""
        return self.architecture if isinstance(self, LocalModel | HubModel) else {}

    @property
    def hub_revision(self) -> str | None:
        """The commit or tag of a hub's model; None for its newest, and for other sources."""
        return self.revision if isinstance(self, HubModel) else None


def _architecture() -> Any:
    return key("Hugging Face config values, so that a plan needs no network; empty: from the model itself", {})


class EmbeddedModel(ModelConfig):
    """A small base that comes with sweeplab."""

    source: Literal["embedded"] = "embedded"
    name: Literal["tiny_base", "tiny_vit"] = key("which of the two models that come with the package")


class LocalModel(ModelConfig):
    """A folder in Hugging Face's layout."""

    source: Literal["local"] = "local"
    path: Text = key("the folder", missing="give a folder in Hugging Face's layout: model.path=DIR")
    architecture: dict[str, Any] = _architecture()


class HubModel(ModelConfig):
    """A model of the Hugging Face hub."""

    source: Literal["hub"] = "hub"
    name: Text = key("the hub's name, ORG/NAME")
    revision: Text | None = key("a commit or tag; null: the newest", None)
    architecture: dict[str, Any] = _architecture()


AnyModel = Annotated[EmbeddedModel | LocalModel | HubModel, Field(discriminator="source")]
