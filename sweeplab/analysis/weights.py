"""The base's matrices beside the updates: projections, amplification and spectra, matrix by matrix."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final, NamedTuple

from sweeplab.analysis.adapters import Array, read_factors
from sweeplab.analysis.projections import Projection, project
from sweeplab.analysis.sharing import matrices_of
from sweeplab.analysis.spectra import decompose_update, spectrum
from sweeplab.analysis.trials import Trained
from sweeplab.config.model import ModelConfig
from sweeplab.config.quantization import QuantizationConfig
from sweeplab.config.trial import trial_config_from_dict
from sweeplab.runtime.errors import ConfigError
from sweeplab.statistics.selection import pick_evenly

MOST_WORK: Final = 6e11  # sum of O I min(O, I) over the matrices of a base that are decomposed: minutes on a CPU
MOST_SHARE: Final = 3  # one matrix may take a third of it, which leaves out the head of a large model


class Measured(NamedTuple):
    """One matrix of one trial; `weight_K` and `projection` are None where the base could not be loaded."""

    number: int  # of the trial
    name: str
    update_K: Array  # singular values of dW
    weight_K: Array | None  # of W
    projection: Projection | None


Weights = Callable[[str], Array | None]


def base_weights(model: ModelConfig, quantization: QuantizationConfig) -> Weights:
    """The base's matrices by name, (out_features, in_features) in 64 bits, dequantized; None for one that it lacks.

    Raises `ConfigError` for a base that cannot be loaded.
    """
    import torch
    from transformers.pytorch_utils import Conv1D

    from sweeplab.models.base import load_base
    from sweeplab.models.layers import find_linear_layers
    from sweeplab.models.quantization.layers import dequantize_layer
    from sweeplab.models.quantization.schemes import find_quantized_layers

    loaded = load_base(model, quantization, torch.float32, torch.device("cpu")).model
    quantized = {name for name, _ in find_quantized_layers(loaded)}
    modules: dict[str, Any] = dict(find_linear_layers(loaded))

    def weight(name: str) -> Array | None:
        module: Any = modules.get(name)
        if module is None:
            return None
        if name in quantized:
            module = dequantize_layer(module)
        values: Array = module.weight.detach().double().numpy()
        return values.T if isinstance(module, Conv1D) else values

    return weight


def by_base(trained: Sequence[Trained]) -> Iterator[tuple[ModelConfig, QuantizationConfig, list[Trained]]]:
    """Trials by the base that they stand on, as it was quantized."""
    groups: dict[str, tuple[ModelConfig, QuantizationConfig, list[Trained]]] = {}
    for trial in trained:
        config = trial_config_from_dict(trial.record.config)
        key = repr((asdict(config.model), asdict(config.quantization)))
        groups.setdefault(key, (config.model, config.quantization, []))[2].append(trial)
    yield from groups.values()


def affordable(names: Sequence[str], shapes: Mapping[str, tuple[int, int]]) -> list[str]:
    """As many of `names`, evenly drawn, as `MOST_WORK` allows, but the smallest at least."""
    work = {name: math.prod(shapes[name]) * min(shapes[name]) for name in names}
    small = [name for name in names if work[name] <= MOST_WORK / MOST_SHARE]
    for most in range(len(small), 0, -1):
        chosen = pick_evenly(small, most)
        if sum(work[name] for name in chosen) <= MOST_WORK:
            return chosen
    return [min(work, key=work.__getitem__)]


def measure_weights(trained: Sequence[Trained], most: int, say: Callable[[str], None]) -> tuple[list[Measured], str]:
    """Every chosen matrix of every trial, and why the base could not be read ('' where it was).

    Raises `StoreError` for a damaged adapter.
    """
    found: list[Measured] = []
    trouble = ""
    for model, quantization, members in by_base(trained):
        shapes = {name: (s.out_features, s.in_features) for one in members for name, s in one.adapter.shapes.items()}
        names = affordable(matrices_of(members, most), shapes)
        weights: Weights | None = None
        try:
            say(f"loading {model.name} ({quantization.label()})")
            weights = base_weights(model, quantization)
        except ConfigError as error:
            trouble = str(error)
        for index, name in enumerate(names, 1):
            say(f"spectra of {name}, matrix {index} of {len(names)}")
            found += measure_matrix(members, name, weights)
    return found, trouble


def measure_matrix(members: Sequence[Trained], name: str, weights: Weights | None) -> Iterator[Measured]:
    weight_OI = None if weights is None else weights(name)
    weight_K = None if weight_OI is None else spectrum(weight_OI)
    for trial in members:
        if name in trial.adapter.shapes:
            update = decompose_update(read_factors(trial.adapter, name))
            projection = None
            if weight_OI is not None and weight_K is not None:
                fits = weight_OI.shape == (update.left_OK.shape[0], update.right_IK.shape[0])
                projection = project(weight_OI, weight_K, update) if fits and len(update.sizes_K) else None
            yield Measured(trial.record.number, name, update.sizes_K, weight_K, projection)
