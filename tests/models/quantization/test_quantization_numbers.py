"""The numbers of 4-bit quantization, from first principles in NumPy and SciPy, against what bitsandbytes stores."""

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from bitsandbytes import functional
from bitsandbytes.nn.modules import Linear4bit
from scipy.stats import norm

from sweeplab.config.model import ModelConfig
from sweeplab.config.quantization import QuantizationConfig
from sweeplab.models.base import load_base
from sweeplab.models.quantization.schemes import list_stored_tensors, measure_storage

BLOCK = 64
# Probability of the outermost quantile: the mean of 1 - 1/30 and 1 - 1/32, as half a step of 15 and of 16 levels.
OFFSET = 1 - (1 / 30 + 1 / 32) / 2
PUBLISHED_OFFSET = 0.9677083  # the same, as the authors' code rounds it


class Quantized(NamedTuple):
    """What bitsandbytes stores of a tensor, unpacked by hand."""

    codes: np.ndarray  # of every weight, 0 to 15
    scales: np.ndarray  # of every block
    dequantized: np.ndarray


def quantized(weights: np.ndarray, kind: str) -> Quantized:
    packed, state = functional.quantize_4bit(torch.from_numpy(weights), blocksize=BLOCK, quant_type=kind)
    pairs = packed.numpy().reshape(-1)
    codes = np.stack([pairs >> 4, pairs & 15], axis=1).reshape(-1)  # the first of two weights is in the high half
    return Quantized(codes, state.absmax.numpy(), functional.dequantize_4bit(packed, state).numpy().reshape(-1))


def levels(kind: str) -> np.ndarray:
    """The sixteen values that bitsandbytes really multiplies by, in the order of their codes."""
    _, state = functional.quantize_4bit(torch.ones(BLOCK), quant_type=kind)
    return np.asarray(state.code)


def normal_float_levels(offset: float, dtype: torch.dtype) -> np.ndarray:
    """Quantiles of N(0, 1) in 8 and in 7 even steps from `offset` to 1/2, over the largest; 1/2 itself is zero.

    Dettmers et al. 2023, arXiv 2305.14314, section 3 and appendix E: eight positive levels, seven negative, zero.
    """
    positive = norm.ppf(torch.linspace(offset, 0.5, 9, dtype=dtype)[:-1].numpy().astype(np.float64))
    negative = -norm.ppf(torch.linspace(offset, 0.5, 8, dtype=dtype)[:-1].numpy().astype(np.float64))
    made = np.sort([*positive, 0.0, *negative])
    return np.asarray(made / made.max())


def gaussian(num_weights: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=num_weights).astype(np.float32)


def test_nf4_s_levels_are_normal_quantiles_to_1e_7() -> None:
    """To 1e-7 with the probabilities in 32 bits, as the authors computed; to 2e-7 with the exact ones."""
    stored = levels("nf4").astype(np.float64)
    np.testing.assert_allclose(normal_float_levels(PUBLISHED_OFFSET, torch.float32), stored, rtol=0, atol=1e-7)
    np.testing.assert_allclose(normal_float_levels(OFFSET, torch.float64), stored, rtol=0, atol=2e-7)
    assert pytest.approx(PUBLISHED_OFFSET, abs=5e-8) == OFFSET
    library = functional.create_normal_map().numpy()  # type: ignore[no-untyped-call]
    np.testing.assert_allclose(np.unique(library), stored, rtol=0, atol=1e-7)
    assert len(stored) == 16
    assert ((stored > 0).sum(), (stored < 0).sum(), (stored == 0).sum()) == (8, 7, 1)


def test_bins_of_nf4_on_a_gaussian_are_equally_full_on_each_side_only_and_not_under_absmax() -> None:
    """The paper says "an equal number of values in each quantization bin". What holds:

    With the scale that the levels were made for, ppf(offset) standard deviations, the inner negative bins hold 6.7 % to
    6.8 % each and the inner positive ones 5.86 % to 5.95 %, where 1/16 is 6.25 %: equal on each side, not across, for
    seven and eight levels share a half each. With the scale that a block of 64 has, its largest value (2.4 standard
    deviations on average), bins hold from 1.7 % at the ends to 9.3 % beside zero.
    """
    stored = levels("nf4").astype(np.float64)
    edges = np.array([-np.inf, *(stored[1:] + stored[:-1]) / 2, np.inf])
    share = np.diff(norm.cdf(edges * norm.ppf(OFFSET)))
    assert share[2:7].min() > 0.0670
    assert share[2:7].max() < 0.0682
    assert share[8:14].min() > 0.0586
    assert share[8:14].max() < 0.0596
    assert 0.0556 < share.min() < share.max() < 0.0711
    codes = quantized(gaussian(2**20), "nf4").codes
    under_absmax = np.bincount(codes, minlength=16) / len(codes)
    assert (under_absmax[[0, 15]] < 0.02).all()
    assert (under_absmax[[6, 7]] > 0.085).all()
    assert under_absmax[6] == pytest.approx(0.0925, abs=0.001)


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
def test_zero_is_exact(kind: str) -> None:
    weights = gaussian(4 * BLOCK)
    weights[::3] = 0.0
    weights[BLOCK : 2 * BLOCK] = 0.0  # a block of nothing else
    found = quantized(weights, kind).dequantized
    assert (found[weights == 0] == 0).all()
    assert np.isfinite(found).all()


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
@pytest.mark.parametrize("num_weights", [64 * 200, 64 * 7 + 24])
def test_weights_are_levels_times_the_largest_of_their_block(kind: str, num_weights: int) -> None:
    weights = gaussian(num_weights) * np.float32(0.02)
    found = quantized(weights, kind)
    padded = np.pad(weights, (0, -num_weights % BLOCK)).reshape(-1, BLOCK)
    scales = np.abs(padded).max(axis=1)
    assert np.array_equal(found.scales, scales)  # one scale per block of 64, the last one incomplete
    by_hand = levels(kind)[found.codes[:num_weights]] * np.repeat(scales, BLOCK)[:num_weights]
    assert np.array_equal(found.dequantized, by_hand)
    nearest = np.abs((padded / scales[:, None])[..., None] - levels(kind).astype(np.float64)).min(axis=-1)
    off = np.abs(by_hand - weights) / np.repeat(scales, BLOCK)[:num_weights]
    np.testing.assert_allclose(off, nearest.reshape(-1)[:num_weights], rtol=0, atol=1e-6)


def nearest_level_error(weights: np.ndarray, table: np.ndarray) -> float:
    """Mean squared error of the nearest of `table` times the largest of each block of 64."""
    blocks = weights.reshape(-1, BLOCK).astype(np.float64)
    scales = np.abs(blocks).max(axis=1, keepdims=True)
    nearest = np.abs((blocks / scales)[..., None] - table).argmin(axis=-1)
    return float(np.mean((table[nearest] * scales - blocks) ** 2))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_error_of_nf4_below_fp4_below_int4_on_gaussian_weights_but_not_for_bitsandbytes_fp4(seed: int) -> None:
    """The order holds for FP4 with two bits of exponent and one of mantissa: 0.0085 < 0.0112 < 0.0117 of the variance.

    bitsandbytes' FP4 has 0.0052 in the place of 1/12, its smallest positive level, and errs more than Int4: 0.0149.
    """
    weights = gaussian(2**17, seed)
    positive = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6]) / 6
    fp4, int4 = np.unique([*positive, *-positive]), np.arange(-7, 8) / 7
    errors = [quantized(weights, kind).dequantized.astype(np.float64) - weights for kind in ("nf4", "fp4")]
    nf4_error, library_error = (float(np.mean(error**2)) for error in errors)
    assert nf4_error < nearest_level_error(weights, fp4) < nearest_level_error(weights, int4) < library_error
    assert nf4_error == pytest.approx(nearest_level_error(weights, levels("nf4").astype(np.float64)), rel=1e-5)
    assert library_error == pytest.approx(nearest_level_error(weights, levels("fp4").astype(np.float64)), rel=1e-5)
    stored = np.unique(np.abs(levels("fp4")))
    np.testing.assert_allclose(stored[[0, *range(2, 8)]], positive[[0, *range(2, 8)]], rtol=0, atol=1e-4)
    assert stored[1] == pytest.approx(0.0052, abs=1e-4)


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
def test_an_outlier_stays_in_its_block(kind: str) -> None:
    weights = gaussian(8 * BLOCK)
    spoiled = weights.copy()
    spoiled[3 * BLOCK + 10] = 50.0
    before, after = quantized(weights, kind), quantized(spoiled, kind)
    own = np.arange(8 * BLOCK) // BLOCK == 3
    assert np.array_equal(before.codes[~own], after.codes[~own])
    assert np.array_equal(before.dequantized[~own], after.dequantized[~own])
    error = np.abs(after.dequantized - spoiled)
    assert error[own].mean() > 5 * np.abs(before.dequantized - weights)[own].mean()
    assert after.dequantized[3 * BLOCK + 10] == 50.0


@pytest.mark.parametrize(("double", "bits"), [(False, 0.5), (True, 0.126953125)])
@pytest.mark.parametrize("kind", ["nf4", "fp4"])
def test_bits_of_scales_per_parameter_as_they_are_stored(kind: str, double: bool, bits: float) -> None:
    kind_of_layer: Any = Linear4bit
    layer = kind_of_layer(1024, 1024, bias=False, quant_type=kind, compress_statistics=double)
    layer.to("cpu")
    num_params = 1024 * 1024
    assert layer.weight.nbytes * 8 == 4 * num_params
    scales = list_stored_tensors(layer)
    assert [(one.dtype, one.numel()) for one in scales[:2]] == (
        [(torch.uint8, num_params // 64), (torch.float32, num_params // 64 // 256)]
        if double
        else [(torch.float32, num_params // 64)]
    )
    assert sum(one.nbytes for one in scales[:2]) * 8 == bits * num_params
    assert sum(one.nbytes for one in scales[2:]) == (4 if double else 0)  # the mean of the scales, once per matrix
    assert measure_storage(layer).bits_per_param == 4 + bits + (32 / num_params if double else 0)


@pytest.mark.parametrize(
    ("scheme", "double", "weight_bits", "scale_bits"),
    [
        ("none", False, 32, 0),
        ("nf4", False, 4, 32 / 64),
        ("nf4", True, 4, None),
        ("fp4", False, 4, 32 / 64),
        ("int8", False, 8, None),
    ],
)
def test_bits_per_parameter_of_a_whole_base(
    scheme: str, double: bool, weight_bits: int, scale_bits: float | None
) -> None:
    """The embedded base: 4 layers of 4 matrices 128 x 128 and 3 of 128 x 384; everything else in 32 bits."""
    base = load_base(
        ModelConfig(source="embedded", name="tiny_base"),
        QuantizationConfig(scheme, double),
        torch.float32,
        torch.device("cpu"),
    )
    shapes = 4 * ([(128, 128)] * 4 + [(384, 128)] * 2 + [(128, 384)])
    matrices = sum(rows * columns for rows, columns in shapes)
    if scheme == "int8":
        scales = sum(32 * rows for rows, _ in shapes)
    elif double:  # 256 or 768 blocks a matrix: 1 or 3 outer blocks, and the mean
        scales = sum(8 * (n // 64) + 32 * (n // 64 // 256) + 32 for n in (rows * columns for rows, columns in shapes))
    else:
        assert scale_bits is not None
        scales = int(matrices * scale_bits)
    expected = (weight_bits * matrices + scales + 32 * (base.num_params - matrices)) / base.num_params
    assert measure_storage(base.model).bits_per_param == pytest.approx(expected, rel=1e-15)
    with torch.no_grad():
        base.model(input_ids=torch.tensor([[5, 6, 7]]))  # after which int8's scales stand elsewhere
    assert measure_storage(base.model).bits_per_param == pytest.approx(expected, rel=1e-15)
