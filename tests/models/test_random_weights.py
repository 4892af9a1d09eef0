"""Random weights made matrix by matrix: the same model as the same weights read from a disk, and no more memory."""

from pathlib import Path
from typing import Any, Final

import pytest
import torch
from transformers import PreTrainedModel

from sweeplab.config.model import ModelConfig
from sweeplab.config.quantization import QuantizationConfig
from sweeplab.models.base import load_model, read_architecture
from sweeplab.models.layers import list_quantizable_shapes
from sweeplab.models.quantization.schemes import find_quantized_layers, list_stored_tensors, measure_storage
from sweeplab.models.random_weights import fill_layers, make_empty_model
from tests.planning.live import LiveBytes

CPU: Final = torch.device("cpu")
PLAIN: Final = QuantizationConfig("none", False)
NF4_DQ: Final = QuantizationConfig("nf4", True)


def random(model: ModelConfig, quantization: QuantizationConfig, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    return load_model(model, quantization, dtype, CPU)


def kinds(model: PreTrainedModel) -> dict[str, str]:
    return {name: type(module).__name__ for name, module in model.named_modules()}


@pytest.mark.parametrize(
    "quantization",
    [
        PLAIN,
        NF4_DQ,
        QuantizationConfig("fp4", False),
        QuantizationConfig("int8", False),
        QuantizationConfig("nf4", True, pattern={"mlp": "int8"}),
    ],
    ids=QuantizationConfig.label,
)
@pytest.mark.parametrize("family", ["llama", "gpt2", "phi", "vit"])
def test_it_is_what_the_same_weights_on_disk_become(
    architectures: dict[str, ModelConfig], family: str, quantization: QuantizationConfig, tmp_path: Path
) -> None:
    random(architectures[family], PLAIN).save_pretrained(str(tmp_path))
    if "mlp" in quantization.pattern and family == "vit":
        quantization = QuantizationConfig("nf4", True, pattern={"attention": "int8"})
    loaded = load_model(ModelConfig(source="local", name="x", path=str(tmp_path)), quantization, torch.float32, CPU)
    made = random(architectures[family], quantization)
    assert kinds(made) == kinds(loaded)
    expected, found = loaded.state_dict(), made.state_dict()
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name
    assert [name for name, _ in made.named_buffers()] == [name for name, _ in loaded.named_buffers()]
    for (name, one), (_, other) in zip(made.named_buffers(), loaded.named_buffers(), strict=True):
        assert torch.equal(one, other), name
    layers = dict(find_quantized_layers(loaded))
    for name, layer in find_quantized_layers(made):
        for one, other in zip(list_stored_tensors(layer), list_stored_tensors(layers[name]), strict=True):
            assert torch.equal(one, other), name
    assert measure_storage(made) == measure_storage(loaded)


def test_values_are_normal_with_the_architectures_deviation(architectures: dict[str, ModelConfig]) -> None:
    model = random(architectures["llama"], PLAIN)
    std = float(model.config.initializer_range)
    matrices = {name: weight for name, weight in model.named_parameters() if weight.ndim == 2}
    for name, weight in matrices.items():
        bound = 5 * std / (2 * weight.numel()) ** 0.5  # five standard errors
        assert float(weight.detach().std()) == pytest.approx(std, abs=bound), name
    first = [weight.flatten()[:8] for weight in matrices.values()]
    assert len({tuple(values.tolist()) for values in first}) == len(first)
    norms = [weight for weight in model.parameters() if weight.ndim == 1]
    assert all(bool((weight == 1).all()) for weight in norms)


def test_no_more_than_a_matrix_stands_beside_the_quantized_model(architectures: dict[str, Any]) -> None:
    large = ModelConfig(
        source="hub",
        name="large",
        random_init=True,
        architecture=architectures["llama"].architecture | {"num_hidden_layers": 12, "intermediate_size": 512},
    )
    empty = make_empty_model(read_architecture(large), torch.float32)
    schemes = dict.fromkeys((shape.name for shape in list_quantizable_shapes(empty)), "nf4")
    with LiveBytes(empty.parameters()) as live:
        model = fill_layers(empty, schemes, NF4_DQ, torch.float32, CPU)
    matrix = 4 * 64 * 512
    assert measure_storage(model).num_params > 12 * matrix / 4
    assert live.peak < measure_storage(model).num_bytes + 3 * matrix
