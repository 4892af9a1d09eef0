"""Who watches a study: one class for each tracking.name."""

from typing import Annotated, Literal

from pydantic import Field

from sweeplab.records.section import Section, Text, key


class TrackingConfig(Section):
    """What every tracker has."""

    name: str


class WandbTracking(TrackingConfig):
    """One Weights & Biases run a trial, grouped by study."""

    name: Literal["wandb"] = "wandb"
    mode: Literal["offline", "online"] = key("offline: keep the runs in the study's folder; online: send them to W&B")
    project: Text = key("name of the W&B project")
    entity: Text | None = key("W&B user or team; null: your default", None)


class NoTracking(TrackingConfig):
    """Records and reports alone."""

    name: Literal["none"] = "none"


AnyTracking = Annotated[WandbTracking | NoTracking, Field(discriminator="name")]
