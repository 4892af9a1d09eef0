"""How many trials of a 7B's layer are chosen to train at once, with times by roofline in the place of a clock's."""

from collections.abc import Callable, Sequence
from unittest import mock

import pytest

import sweeplab.trial.cohort_speed as cohort_speed
from experiments.benchmarks.fakecuda.roofline import CARDS, HOST, sum_seconds
from experiments.benchmarks.gpu.trials import Laboratory, begun
from tests.fakecuda.device import on_fake_cuda
from tests.fakecuda.trials import DQ, LAYERS, ONE_LAYER, compose

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor:UserWarning"),
]


def choose_size(lengths: Sequence[int]) -> int:
    """Of at most eight trials with micro-batches of one row, on an H100."""
    with on_fake_cuda() as meter:
        lab = Laboratory.on("cuda", cohort_size=1)
        trials = begun(lab, compose(ONE_LAYER, (max(lengths),), DQ, *LAYERS), list(lengths), list(range(8)))

        def time_by_roofline(work: Callable[[], None], device: object) -> float:
            meter.reset()
            work()
            return max(HOST * meter.launches.total(), sum_seconds(meter, CARDS[0]))

        with mock.patch.object(cohort_speed, "time_fastest", time_by_roofline):
            return cohort_speed.measure_fastest_size(trials, lab)


@pytest.mark.parametrize(
    ("lengths", "size"),
    [
        pytest.param([128] * 2, 8, id="short: bound by launches alone"),
        pytest.param([4096] * 2, 1, id="long: all of it grows with the trials"),
        pytest.param([*[128] * 99, 4096], 8, id="short, and one long row"),
    ],
)
def test_trials_share_a_pass_where_a_gpu_has_time_to_spare(lengths: list[int], size: int) -> None:
    assert choose_size(lengths) == size
