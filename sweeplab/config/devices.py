"""What goes with one model on several devices."""

from typing import Final

from sweeplab.config.shared_base import why_undivided
from sweeplab.config.trial import TrialConfig
from sweeplab.runtime.errors import ConfigError, check_at_least, refuse

FIXED: Final = ("training.strategy", "training.num_devices")  # processes start before the first trial
_IN_PARTS: Final = {"none", "nf4", "fp4"}  # schemes whose matrices fsdp can take apart


def check_devices(config: TrialConfig) -> None:
    """Refuses a number of devices that the strategy or the trial does not go with. Raises `ConfigError`."""
    training = config.training
    strategy, count = training.strategy, training.num_devices
    if strategy == "single":
        if count > 1:
            remedy = "choose training.strategy=ddp, or fsdp for a base that does not fit one device"
            raise refuse("training.num_devices", "must be 1 for training.strategy=single", count, remedy)
        return
    check_at_least("training.num_devices", count, 2, "choose training.strategy=single for one")
    if training.micro_batch_size % count:
        rule = f"must be a multiple of training.num_devices={count}, so that each device has as many rows"
        raise refuse("training.micro_batch_size", rule, training.micro_batch_size, f"try {count * 4}")
    why = why_undivided(config)
    if why is not None:
        raise ConfigError(
            f"training.strategy={strategy} does not go with this trial: {why}; choose training.strategy=single"
        )
    if strategy == "fsdp":
        _check_parts(config)


def _check_parts(config: TrialConfig) -> None:
    """Refuses a base that cannot be in parts. Raises `ConfigError`."""
    others = sorted(config.quantization.schemes() - _IN_PARTS)
    if others:
        rule = f"must be one of {', '.join(sorted(_IN_PARTS))} for training.strategy=fsdp"
        raise refuse("quantization.scheme", rule, others[0], "choose quantization=nf4_dq")
    if config.data.is_images():
        raise ConfigError("training.strategy=fsdp is for language models, got data=digits; choose ddp")
