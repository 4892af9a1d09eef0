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
    mode: Literal["offline", "online"] = key("online: send the runs")
    project: Text = key("the project's name")
    entity: Text | None = key("the user or team; null: the user's default", None)


class NoTracking(TrackingConfig):
    """Records and reports alone."""

    name: Literal["none"] = "none"


AnyTracking = Annotated[WandbTracking | NoTracking, Field(discriminator="name")]
