"""What the actions of a study take, beside the study itself."""

from typing import Literal, Self

from pydantic import model_validator

from sweeplab.config.sizes import num_bytes
from sweeplab.records.section import Section, Text, key
from sweeplab.runtime.errors import ConfigError, refuse

_LEAST_MEMORY_BYTES = 10**6  # with less a unit was forgotten


class PlanConfig(Section):
    """What a plan is asked."""

    device_memory: Text | None = key(
        "memory that every trial must fit in: 14GB, 14GiB, a number of bytes, or a card's, such as t4 (16 GB), l4 or "
        "a10 (24 GB), l40s, a100-40gb, a100-80gb, h100, h200; null: no limit",
        None,
    )
    skip_unfit: bool = key("with action=run, record trials that will not fit as skipped instead of running them")

    @model_validator(mode="after")
    def _check_size(self) -> Self:
        if self.device_memory is not None:
            size = num_bytes("plan.device_memory", self.device_memory)
            if size < _LEAST_MEMORY_BYTES:
                given = f"{self.device_memory}, which is {size} bytes"
                raise refuse("plan.device_memory", "must be at least 1MB", given, "write the unit too, such as 14GB")
        elif self.skip_unfit:
            raise ConfigError(
                "plan.skip_unfit=true needs the memory that trials must fit in, got plan.device_memory=null; "
                "give it: plan.device_memory=14GB"
            )
        return self


class WatchConfig(Section):
    """How a study is watched."""

    once: bool = key("show the study as it stands and end, for scripts")
    page: bool = key(
        "serve the report on this machine's loopback, made anew while the study runs, with buttons that stop a trial "
        "or the study and add a seed; the address is printed"
    )

    @model_validator(mode="after")
    def _check_page(self) -> Self:
        if self.page and self.once:
            raise refuse("watch.once", "shows a study in the terminal", "true beside watch.page=true", "leave one out")
        return self


class ExtendConfig(Section):
    """Further seeds of settings that a study has."""

    seeds: list[int] = key("seeds to add; empty: the next one that the setting does not have", [])


class ExportConfig(Section):
    """A finished trial as files."""

    kind: Literal["adapter", "merged"] = key(
        "adapter: PEFT's files; merged: the dequantized base with the adapter in its weights"
    )
    dtype: Literal["float32", "bfloat16", "float16"] = key(
        "number format of merged weights", needs="export.kind=merged"
    )
    path: Text | None = key("folder to write to; it must not exist yet", None)
    trials: list[int] = key("numbers of trials whose adapters are combined into one; empty: the adapter of trial=N")
    weights: list[float] = key("weight of each adapter in export.trials")
    combination: Literal["linear", "cat", "svd", "ties"] = key(
        "how adapters are combined, as PEFT names it; cat: their exact weighted sum, whose rank is the sum of theirs; "
        "svd: its best approximation at the largest of their ranks; linear, ties: A and B are combined separately",
        needs="export.trials",
    )


class CompareConfig(Section):
    """How studies are compared."""

    uncontrolled: bool = key("also compare studies that differ in more than what they vary")
