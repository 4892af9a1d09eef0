"""Kernels that a micro-batch of a 7B's layers launches on a GPU, and where the host waits for the device."""

from collections import Counter

import pytest

from tests.fakecuda.trials import DQ, LAYERS, NARROW, ONE_LAYER, compose, count_micro_batch, measure_step

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


STEPS = {
    "most options": (
        "adapter=loraplus",
        "adapter.dropout=0.1",
        "adapter.rslora=true",
        "adapter.rank_pattern={q_proj: 4}",
        "adapter.alpha_pattern={v_proj: 3}",
        "training.accumulation=2",
        "training.gradient_checkpointing=true",
        "schedule=cosine",
    ),
    "packed rows": ("data.packing=true", "training.gradient_clip=null", "schedule=linear", "optimizer=lion"),
    "DoRA": ("adapter=dora", "adapter.dropout=0.1", "training.accumulation=2", "optimizer=schedule_free"),
    "biases": ("adapter.bias=lora_only", "training.gradient_checkpointing=true", "optimizer=sgd"),
    "Sophia": ("optimizer=sophia", "optimizer.interval=1", "adapter.dropout=0.1", "training.accumulation=2"),
    "kept": ("training.keep=best", "training.heldout_interval=1"),
    **{one: (f"optimizer={one}",) for one in ("adafactor", "adamw_8bit", "muon", "paged_adamw_8bit")},
}
READ = ("copy to the CPU at sweeplab/training/module.py", 1)  # losses of all trials, which say whether one diverged
HELDOUT = ("copy to the CPU at sweeplab/evaluation/heldout.py", 2)  # sums and counts of all batches


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("most options", 8),
        ("packed rows", 1),
        ("DoRA", 1),
        ("biases", 1),
        ("Sophia", 1),
        ("kept", 1),
        ("adafactor", 2),
        ("adamw_8bit", 2),
        ("muon", 1),
        ("paged_adamw_8bit", 2),
    ],
)
def test_the_host_waits_once_in_a_whole_step(name: str, count: int) -> None:
    lengths = (24, 17)
    waits = measure_step(compose(NARROW, lengths, DQ, "training.max_steps=3", *STEPS[name]), lengths, count)
    found = Counter(site.partition(":")[0] for site in waits.elements())
    assert sorted(found.items()) == sorted([READ, HELDOUT] if name == "kept" else [READ])


def test_an_input_is_cast_once_for_all_matrices_that_read_it() -> None:
    """Of one matrix more, only the gradient of its result."""
    two, three = (
        count_micro_batch([compose(ONE_LAYER, (128,), DQ, f"adapter.lora_key={key}")], (128,))
        for key in ("false", "true")
    )
    assert three.launches["_to_copy"] == two.launches["_to_copy"] + 1
