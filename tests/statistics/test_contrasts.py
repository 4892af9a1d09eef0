"""Contrasts against SciPy's paired tests, a mixed model's moments, and simulated studies with seeds and items anew."""

import itertools

import numpy as np
import pytest
from scipy import stats

from sweeplab.statistics.contrasts import estimate_contrast
from sweeplab.statistics.factorial import build_main_effects
from sweeplab.statistics.intervals import Array, level_with
from sweeplab.statistics.moderated import average_prior
from sweeplab.statistics.results import ResultTable
from tests.statistics.simulated import covers_zero, table_of, trials

FIRST_MINUS_SECOND = np.array([1.0, -1.0])


def test_two_settings_have_the_paired_t_interval() -> None:
    values = np.random.default_rng(0).normal(size=(2, 3))
    estimate = estimate_contrast(ResultTable(values), FIRST_MINUS_SECOND)
    low, high = stats.ttest_rel(values[0], values[1]).confidence_interval(level_with(3))
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=1e-12)
    assert estimate.covers == "seeds"


def test_one_seed_is_paired_by_item() -> None:
    items = trials(np.random.default_rng(0), 2, 1)
    estimate = estimate_contrast(table_of(items), FIRST_MINUS_SECOND)
    low, high = stats.ttest_rel(items[0, 0], items[1, 0]).confidence_interval(0.95)
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=1e-12)
    assert estimate.covers == "items"


def test_one_seed_without_items_has_the_standard_errors() -> None:
    table = ResultTable(np.array([[0.5], [0.7]]), None, np.array([[0.03], [0.04]]))
    estimate = estimate_contrast(table, FIRST_MINUS_SECOND)
    assert estimate.se == pytest.approx(0.05)
    assert (estimate.low, estimate.high) == pytest.approx((-0.2 - 1.959964 * 0.05, -0.2 + 1.959964 * 0.05), abs=1e-6)
    assert estimate_contrast(ResultTable(np.array([[0.5], [0.7]])), FIRST_MINUS_SECOND).low is None


def test_what_a_seed_does_to_all_settings_cancels() -> None:
    values = np.random.default_rng(0).normal(size=(4, 3))
    weights = np.array([1.0, -1.0, 0.0, 0.0])
    shifted = estimate_contrast(ResultTable(values + np.array([10.0, -20.0, 30.0])), weights)
    assert shifted.se == pytest.approx(estimate_contrast(ResultTable(values), weights).se)


def test_a_pair_is_compared_over_the_seeds_that_both_have() -> None:
    values = np.random.default_rng(0).normal(size=(2, 4))
    values[0, 3] = values[1, 0] = np.nan
    estimate = estimate_contrast(ResultTable(values), FIRST_MINUS_SECOND)
    assert estimate.value == pytest.approx((values[0, 1:3] - values[1, 1:3]).mean())


def test_a_loss_is_analyzed_by_its_logarithm() -> None:
    """The interval of a difference of two losses is that of their logarithms, times the losses, to first order."""
    values = np.array([[1.00, 1.02, 0.99], [1.50, 1.52, 1.49]])
    estimate = estimate_contrast(ResultTable(values, is_log=True), FIRST_MINUS_SECOND)
    assert estimate.value == pytest.approx(values[0].mean() - values[1].mean())
    far = np.array([[1.0, 1.02, 0.98], [1.1, 1.13, 1.08], [9.0, 9.2, 8.8]])
    near_log = estimate_contrast(ResultTable(far, is_log=True), np.array([1.0, -1.0, 0.0]))
    near = estimate_contrast(ResultTable(far), np.array([1.0, -1.0, 0.0]))
    assert near_log.se is not None
    assert near.se is not None
    assert near_log.se < near.se / 2  # nine times the loss has nine times the spread


def test_the_variance_has_the_moments_of_the_mixed_model() -> None:
    """Means over many draws of the squared standard error and of the difference's own variance agree within 15 %."""
    random = np.random.default_rng(0)
    estimates = [estimate_contrast(table_of(trials(random, 2, 6)), FIRST_MINUS_SECOND) for _ in range(400)]
    expected = np.mean([one.se**2 for one in estimates if one.se is not None])
    assert expected == pytest.approx(np.var([one.value for one in estimates]), rel=0.15)


@pytest.mark.parametrize(("num_settings", "num_seeds"), [(2, 2), (2, 3), (7, 2), (7, 3)])
def test_a_difference_holds_for_new_seeds_and_items(num_settings: int, num_seeds: int) -> None:
    random = np.random.default_rng(num_seeds)
    weights = np.zeros(num_settings)
    weights[:2] = FIRST_MINUS_SECOND
    draws = [estimate_contrast(table_of(trials(random, num_settings, num_seeds)), weights) for _ in range(300)]
    share = np.mean([covers_zero(one) for one in draws])
    level = level_with(num_seeds)
    assert share > level - 3 * (level * (1 - level) / 300) ** 0.5


def test_one_seed_does_not_cover_the_seed() -> None:
    """What the report says of one seed is so: an interval over items holds for the seeds' mean in 3 of 4 draws only."""
    random = np.random.default_rng(0)
    draws = [estimate_contrast(table_of(trials(random, 2, 1, 200)), FIRST_MINUS_SECOND) for _ in range(400)]
    assert np.mean([covers_zero(one) for one in draws]) < 0.85


def main_effect(num_seeds: int, by_seed: float, draws: int) -> float:
    """How often the interval of the first of six toggles' effects holds; seeds act on each with spread `by_seed`."""
    masks = np.array([[bits >> toggle & 1 for toggle in range(6)] for bits in range(1, 64)])
    signs = masks[:, 0] * 2.0 - 1
    weights = np.where(signs > 0, 1 / (signs > 0).sum(), -1 / (signs < 0).sum())
    random, covered = np.random.default_rng(num_seeds), 0
    for _ in range(draws):
        effects_TS = by_seed * random.normal(size=(6, num_seeds))
        values = random.normal(size=(63, num_seeds)) + (masks - 0.5) @ effects_TS
        estimate = estimate_contrast(ResultTable(values, main_KQ=build_main_effects(masks)), weights)
        covered += covers_zero(estimate)
    return covered / draws


@pytest.mark.parametrize("num_seeds", [2, 3])
def test_a_main_effect_has_the_error_of_what_seeds_do_to_it(num_seeds: int) -> None:
    """With the spread of single settings as the error, 77 to 80 % of the intervals held at a nominal 95 %."""
    assert main_effect(num_seeds, 0.8, 200) > 0.93


def test_where_axes_are_not_known_an_average_stands_on_its_own_seeds() -> None:
    values = np.random.default_rng(0).normal(size=(4, 3))
    weights = np.array([0.5, 0.5, -0.5, -0.5])
    estimate = estimate_contrast(ResultTable(values), weights)
    low, high = stats.ttest_1samp(weights @ values, 0.0).confidence_interval(level_with(3))
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=1e-12)


def draw_grid(by_axis: list[float]) -> tuple[ResultTable, Array]:
    """A grid of two values on each of three axes, two seeds, which move each axis' effect by so much, and noise."""
    levels_KA = np.array(list(itertools.product((0, 1), repeat=3)))
    noise_KS = 0.01 * np.random.default_rng(0).normal(size=(8, 2))
    by_seed_KS = (2 * levels_KA - 1) @ np.outer(by_axis, (1, -1))
    return ResultTable(noise_KS + by_seed_KS, main_KQ=build_main_effects(levels_KA)), (2 * levels_KA[:, 0] - 1) / 4


def test_a_main_effect_that_seeds_move_most_has_a_moderated_variance() -> None:
    table, weights_K = draw_grid([1.0, 0.1, 0.05])
    effects_AS = np.array([1.0, 0.1, 0.05])[:, None] * (1, -1)  # of one unit of the coded level
    squares_A = 8 * (effects_AS**2).sum(axis=1)
    prior = average_prior(squares_A, np.ones(3))
    unit = float(weights_K @ weights_K) / 2  # the variance of the mean of two seeds for a mean square of 1
    moderated = unit * (prior * squares_A.mean() + squares_A[0]) / (prior + 1)
    reach = stats.t.ppf((1 + level_with(2)) / 2, prior + 1) * moderated**0.5
    estimate = estimate_contrast(table, weights_K)
    assert estimate.high is not None
    assert estimate.high - estimate.value == pytest.approx(reach, rel=0.05)  # noise
    pooled = stats.t.ppf((1 + level_with(2)) / 2, 3) * (unit * squares_A.mean()) ** 0.5
    assert reach > 1.1 * pooled


def test_where_seeds_move_one_main_effect_only_nothing_is_known_of_how_alike_they_are() -> None:
    levels_KA = np.array(list(itertools.product((0, 1), repeat=2)))
    values_KS = (2 * levels_KA[:, 1:] - 1) * np.array([[0.5, 0.25]]) + np.array([[0.0], [0.0], [1.0], [1.0]])
    table = ResultTable(values_KS, main_KQ=build_main_effects(levels_KA))
    estimate = estimate_contrast(table, np.array([-0.5, -0.5, 0.5, 0.5]))
    pooled = 4 * 2 * 0.125**2 / 2 / 2  # eight runs .125 from their mean, two effects' freedoms, two seeds
    assert estimate.high is not None
    assert estimate.high - estimate.value == pytest.approx(stats.t.ppf((1 + level_with(2)) / 2, 2) * pooled**0.5)
