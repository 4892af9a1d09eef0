"""The base's matrices beside the updates: projections, amplification and spectra, matrix by matrix."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from sweeplab.analysis.adapters import Array, read_factors
from sweeplab.analysis.projections import Projection, project_onto_update
from sweeplab.analysis.sharing import choose_matrices
from sweeplab.analysis.spectra import decompose_update, find_spectrum
from sweeplab.analysis.trials import TrainedAdapter
from sweeplab.config.model import ModelConfig
from sweeplab.config.parse import trial_config_from_dict
from sweeplab.config.quantization import QuantizationConfig
from sweeplab.runtime.errors import ConfigError
from sweeplab.statistics.selection import pick_evenly

_MOST_WORK: Final = 6e11  # sum of O I min(O, I) over the matrices of a base that are decomposed: minutes on a CPU
_MOST_SHARE: Final = 3  # one matrix may take a third of it, which leaves out the head of a large model


class MeasuredMatrix(NamedTuple):
    """One matrix of one trial; `weight_K` and `projection` are None where the base could not be loaded."""

    number: int  # of the trial
    name: str
    update_K: Array  # singular values of dW
    weight_K: Array | None  # of W
    projection: Projection | None


Weights = Callable[[str], Array | None]


def read_base_weights(model: ModelConfig, quantization: QuantizationConfig) -> Weights:
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


def _group_by_base(
    trained: Sequence[TrainedAdapter],
) -> Iterator[tuple[ModelConfig, QuantizationConfig, list[TrainedAdapter]]]:
    """Trials by the base that they stand on, as it was quantized."""
    groups: dict[str, tuple[ModelConfig, QuantizationConfig, list[TrainedAdapter]]] = {}
    for trial in trained:
        config = trial_config_from_dict(trial.record.config)
        key = repr((config.model.to_dict(), config.quantization.to_dict()))
        groups.setdefault(key, (config.model, config.quantization, []))[2].append(trial)
    yield from groups.values()


def choose_affordable(names: Sequence[str], shapes: Mapping[str, tuple[int, int]]) -> list[str]:
    """As many of `names`, evenly drawn, as `_MOST_WORK` allows, but the smallest at least."""
    work = {name: math.prod(shapes[name]) * min(shapes[name]) for name in names}
    small = [name for name in names if work[name] <= _MOST_WORK / _MOST_SHARE]
    for most in range(len(small), 0, -1):
        chosen = pick_evenly(small, most)
        if sum(work[name] for name in chosen) <= _MOST_WORK:
            return chosen
    return [min(work, key=work.__getitem__)]


def measure_weights(
    trained: Sequence[TrainedAdapter], most: int, say: Callable[[str], None]
) -> tuple[list[MeasuredMatrix], str]:
    """Every chosen matrix of every trial, and why the base could not be read ('' where it was).

    Raises `StoreError` for a damaged adapter.
    """
    found: list[MeasuredMatrix] = []
    trouble = ""
    for model, quantization, members in _group_by_base(trained):
        shapes = {name: (s.out_features, s.in_features) for one in members for name, s in one.adapter.shapes.items()}
        names = choose_affordable(choose_matrices(members, most), shapes)
        weights: Weights | None = None
        try:
            say(f"loading {model.name} ({quantization.label()})")
            weights = read_base_weights(model, quantization)
        except ConfigError as error:
            trouble = str(error)
        for index, name in enumerate(names, 1):
            say(f"spectra of {name}, matrix {index} of {len(names)}")
            found += _measure_matrix(members, name, weights)
    return found, trouble


def _measure_matrix(members: Sequence[TrainedAdapter], name: str, weights: Weights | None) -> Iterator[MeasuredMatrix]:
    weight_OI = None if weights is None else weights(name)
    weight_K = None if weight_OI is None else find_spectrum(weight_OI)
    for trial in members:
        if name in trial.adapter.shapes:
            update = decompose_update(read_factors(trial.adapter, name))
            projection = None
            if weight_OI is not None and weight_K is not None:
                fits = weight_OI.shape == (update.left_OK.shape[0], update.right_IK.shape[0])
                projection = project_onto_update(weight_OI, weight_K, update) if fits and len(update.sizes_K) else None
            yield MeasuredMatrix(trial.record.number, name, update.sizes_K, weight_K, projection)
