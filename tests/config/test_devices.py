"""What does not go with one model on several devices is refused, in one line."""

import re

import pytest

from sweeplab.runtime.errors import ConfigError
from tests.trials import Compose

TWO = ("training.strategy=ddp", "training.num_devices=2")
PARTS = ("training.strategy=fsdp", "training.num_devices=2")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("training.strategy=dp",), r"training\.strategy is unknown, got 'dp'; choose one of single, ddp, fsdp"),
        (
            ("training.num_devices=2",),
            r"training\.num_devices must be 1 for training\.strategy=single, got 2; choose training\.strategy=ddp, or",
        ),
        (("training.strategy=ddp",), r"training\.num_devices must be at least 2, got 1; choose training\.strategy=si"),
        (("training.num_devices=0",), r"training\.num_devices must be at least 1, got 0; use a whole number from 1"),
        (
            ("training.strategy=ddp", "training.num_devices=3"),
            r"training\.micro_batch_size must be a multiple of training\.num_devices=3, .*, got 16; try 12",
        ),
        ((*TWO, "optimizer=sophia"), r"training\.strategy=ddp does not go with this trial: optimizer=sophia draws "),
        (
            (*TWO, "adapter.dora=true", "adapter.dropout=0.1", "quantization=none"),
            r"training\.strategy=ddp does not go .*: adapter\.dora=true .*, and every device would draw "
            r"adapter\.dropout=0\.1 for itself; choose training\.strategy=single",
        ),
        (
            (*PARTS, "adapter=norms"),
            r"training\.strategy=fsdp does not go .*: adapter\.method=norms .*, and no device has the whole base; ch",
        ),
        ((*PARTS, "quantization=int8"), r"quantization\.scheme must be one of fp4, nf4, none for .*fsdp, got int8; c"),
        ((*PARTS, "model=tiny_vit", "data=digits"), r"training\.strategy=fsdp is for language models, got data=digits"),
    ],
)
def test_what_cannot_be_divided_is_refused(compose_trial: Compose, overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        compose_trial(*overrides)
    assert re.match(message, str(refused.value)), refused.value
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "overrides",
    [
        (*TWO, "adapter.dropout=0.1"),  # keyed by seed and step
        (*TWO, "adapter.dora=true", "quantization=none"),
        (*TWO, "adapter=none", "quantization=none"),
        (*TWO, "model=tiny_vit", "data=digits"),
        (*PARTS, "quantization=fp4", "adapter.dropout=0.1"),
    ],
)
def test_what_gives_one_process_s_results_is_not(compose_trial: Compose, overrides: tuple[str, ...]) -> None:
    assert compose_trial(*overrides).training.num_devices == 2
