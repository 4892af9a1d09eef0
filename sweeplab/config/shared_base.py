"""Which trials can train together on one frozen base, and which cannot."""

import json
from typing import Any, Final

from sweeplab.config.adapter import BASE_CHANGING, LoraAdapter, LowRankAdapter
from sweeplab.config.trial import TrialConfig

_OWN_TRAINING: Final = ("epochs", "max_steps", "gradient_clip", "heldout_interval", "keep", "patience", "log_interval")
# optimizers that work number by number, so that all matrices of an adapter can be one vector
_ELEMENTWISE: Final = (
    "torch.optim.Adam",
    "torch.optim.AdamW",
    "torch.optim.SGD",
    "bitsandbytes.optim.Lion",
    "bitsandbytes.optim.PagedAdamW32bit",
    "schedulefree.AdamWScheduleFree",
)

_FREE_OF_COST: Final = ("lr", "alpha", "alpha_ratio", "alpha_pattern")
# floating-point operations of a trial's mean micro-batch, above which trials at once are not faster on a CPU: the
# products take nearly all of its time. SmolLM2-135M in nf4_dq, 4 rows of 90 tokens, 2e11: 2.55 s of processor time
# for one trial, 2 x 2.54 s for two. The embedded base, 2e9, is twice as fast with many.
_MOST_TO_SHARE: Final = 1e11
_LEAST_TO_MEASURE: Final = 400
_SMALLEST_BUCKET: Final = 8  # ranks up to it share a bucket, those above one up to the next power of two


def padded_rank(rank: int) -> int:
    """The rank of the bucket that adapters of `rank` share, with zeros beyond their own."""
    return max(_SMALLEST_BUCKET, 1 << (rank - 1).bit_length())


def why_exclusive(config: TrialConfig) -> str | None:
    """Why a trial needs the base for itself; None where others can train beside it."""
    adapter = config.adapter
    if not isinstance(adapter, LoraAdapter):
        return f"adapter.method={adapter.method} trains something else than matrices beside the base's"
    if adapter.dora:
        return "adapter.dora=true scales the base's own columns"
    if adapter.initialization in BASE_CHANGING:
        return f"adapter.initialization={adapter.initialization} changes the base"
    if adapter.bias != "none":
        return f"adapter.bias={adapter.bias} trains biases of the base"
    if adapter.train_norms:
        return "adapter.train_norms=true trains normalization layers of the base"
    if config.optimizer.target.endswith("SophiaG"):
        return "optimizer=sophia runs a backward of its own through the whole model"
    return None


def why_alone(config: TrialConfig, device: str) -> str | None:
    """Why a trial trains by itself on a device of this kind, cpu or cuda; None where others can train beside it.

    On CUDA bitsandbytes trains int8 through `MatMul8bitLt`, whose outlier columns are those of any row of the batch
    (0.50, backends/cuda/ops.py). A CPU multiplies in full precision there.
    """
    if device == "cuda" and "int8" in config.quantization.schemes():
        return "quantization.scheme=int8 on CUDA takes an outlier in any row of a batch as one of all rows"
    return why_exclusive(config)


def why_undivided(config: TrialConfig) -> str | None:
    """Why several devices cannot share a trial's rows; None where they can, with the results of one device.

    Dropout beside the base follows from seed and step, so that each device knows its rows' part of it. What a trial
    alone, or Sophia, draws follows from the state of a generator.
    """
    alone, adapter = why_exclusive(config), config.adapter
    if config.optimizer.target.endswith("SophiaG"):
        return "optimizer=sophia draws labels for a whole micro-batch"
    if alone is not None and isinstance(adapter, LowRankAdapter) and adapter.dropout:
        return f"{alone}, and every device would draw adapter.dropout={adapter.dropout} for itself"
    if alone is not None and config.training.strategy == "fsdp":
        return f"{alone}, and no device has the whole base"
    return None


def geometry(config: TrialConfig) -> dict[str, Any]:
    """What trials of one cohort have in common: base, quantization, data, shape of the batches, evaluation."""
    values = config.to_dict()
    training = {name: value for name, value in values["training"].items() if name not in _OWN_TRAINING}
    return {name: values[name] for name in ("model", "quantization", "data", "evaluation")} | {"training": training}


def takes_vectors(config: TrialConfig) -> bool:
    """True where the optimizer may take all matrices of an adapter as one: it works number by number, at one rate."""
    return config.optimizer.target in _ELEMENTWISE and not config.adapter.lr_pattern


def describe_layout(config: TrialConfig) -> str:
    """The same text for trials whose steps cost the same: shapes, adapter and optimizer are alike; seeds, rates,
    scaling and the number of steps may differ."""
    values = config.to_dict()
    adapter = {name: value for name, value in values["adapter"].items() if name not in _FREE_OF_COST}
    optimizer = {name: value for name, value in values["optimizer"].items() if name not in _FREE_OF_COST}
    clips = config.training.gradient_clip is not None
    return json.dumps([geometry(config), adapter, optimizer, clips], sort_keys=True)


def pays_to_measure(num_micro_batches: int, device: str) -> bool:
    """False where trials of so many micro-batches together end sooner than what is measured before them pays: on a CPU
    that takes as long as some 24 of them."""
    return device != "cpu" or num_micro_batches >= _LEAST_TO_MEASURE


def can_gain_from_others(num_params: int, micro_batch_tokens: float, device: str) -> bool:
    """False where training beside other trials cannot be faster: products on a CPU that are large already."""
    return device != "cpu" or 4 * num_params * micro_batch_tokens < _MOST_TO_SHARE
