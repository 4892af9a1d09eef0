"""What every part of the configuration is built on: strict pydantic models, and keys that carry their own rule."""

from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.fields import FieldInfo


class Section(BaseModel):
    """A part of the configuration: frozen, without conversions, and without keys that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=())

    def replaced(self, **changes: Any) -> Self:
        """A copy with other values, which are not checked."""
        return self.model_copy(update=changes)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as a record and a message have them."""
        return self.model_dump(by_alias=True)


def _number_as_text(value: Any) -> Any:
    """Hydra reads `study.name=2024` as a number."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


Text = Annotated[str, BeforeValidator(_number_as_text)]


def key(
    meaning: str,
    default: Any = ...,
    *,
    unit: str | None = None,
    rule: str | None = None,
    remedy: str | None = None,
    missing: str | None = None,
    unless: str | None = None,
    needs: str | None = None,
    **constraints: Any,
) -> Any:
    """A field with what is said of it.

    Args:
        meaning: one line for `--help` and the documentation.
        default: only where conf gives none; a default lives once.
        unit: of a number.
        rule: what a refusal says, where the constraints alone would not say it well.
        remedy: how a refusal ends.
        missing: what a refusal says after `KEY is missing; `.
        unless: another key; where that has a value, this one has no effect. Also `KEY=VALUE`.
        needs: another key; where that is empty, this one has no effect. Also `KEY=VALUE`.
        constraints: pydantic's, such as `ge=1`.
    """
    said = {"unit": unit, "rule": rule, "remedy": remedy, "missing": missing, "unless": unless, "needs": needs}
    extra: dict[str, Any] = {name: value for name, value in said.items() if value is not None}
    return Field(default, description=meaning, json_schema_extra=extra or None, **constraints)


def said_of(field: FieldInfo, name: str) -> str | None:
    """What `key` was given as `unit`, `rule`, `remedy`, `missing`, `unless` or `needs`."""
    extra = field.json_schema_extra
    value = extra.get(name) if isinstance(extra, dict) else None
    return None if value is None else str(value)
