"""Kernels that a micro-batch of a 7B's layers launches on a GPU, and where the host waits for the device."""

import pytest

from tests.fakecuda.trials import DQ, LAYERS, ONE_LAYER, compose, count_micro_batch

pytestmark = pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor:UserWarning")


@pytest.mark.parametrize(
    "overrides", [(), ("adapter.dropout=0.05", *LAYERS), ("training.gradient_checkpointing=true",)]
)
@pytest.mark.parametrize("lengths", [(1024,), (512, 300)])
def test_the_host_waits_for_nothing_in_a_micro_batch(overrides: tuple[str, ...], lengths: tuple[int, ...]) -> None:
    meter = count_micro_batch([compose(ONE_LAYER, lengths, DQ, *overrides)], lengths, padded=len(set(lengths)) > 1)
    assert meter.waits == {}
    assert meter.launches.total() > 150


def test_right_padding_takes_the_kernel_of_no_padding() -> None:
    """Padding stands on the right, where causal attention never looks."""
    meter = count_micro_batch([compose(ONE_LAYER, (512, 300), DQ)], (512, 300), padded=True)
    assert meter.launches["_scaled_dot_product_flash_attention"] == 1
    assert meter.launches["_scaled_dot_product_efficient_attention"] == 0


def test_launches_do_not_grow_with_the_number_of_ranks() -> None:
    alike, mixed = (
        count_micro_batch([compose(ONE_LAYER, (128,), DQ, f"adapter.rank={rank}", *LAYERS) for rank in ranks], (128,))
        for ranks in ((16, 16, 16, 16), (8, 16, 32, 64))
    )
    assert mixed.launches.total() < 1.1 * alike.launches.total()


def test_an_input_is_cast_once_for_all_matrices_that_read_it() -> None:
    """Of one matrix more, only the gradient of its result."""
    two, three = (
        count_micro_batch([compose(ONE_LAYER, (128,), DQ, f"adapter.lora_key={key}")], (128,))
        for key in ("false", "true")
    )
    assert three.launches["_to_copy"] == two.launches["_to_copy"] + 1
