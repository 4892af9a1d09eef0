"""One model in two processes against one process that has all rows: whole weight tensors and every loss."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
import torch

from sweeplab.config.trial import TrialConfig
from sweeplab.config.trial_spec import TrialSpec
from sweeplab.models.base import Base
from sweeplab.models.behavior import has_randomness
from sweeplab.runtime.errors import ConfigError
from sweeplab.runtime.process_group import ONE_PROCESS
from sweeplab.trial.resources import _refuse_random_base
from tests.trial.divided import Found, outcomes, run_divided
from tests.trial.test_cohort_numbers import COMMON, MIXED
from tests.trials import Compose, small_llama

MIXED_FIVE: Final = (
    "rank 32, dropout", "rank 4 again, unclipped, dropout", "every toggle, LoRA+", "Adafactor, three epochs",
    "head, dropout",
)  # fmt: skip
# rates that are too high: the least held-out loss comes before the end, and patience before that
_KEPT: Final = ("optimizer=sgd", "training.keep=best", "training.heldout_interval=1", "training.epochs=4")
TRIALS: Final[dict[str, list[tuple[int, tuple[str, ...]]]]] = {
    "ddp": [MIXED[name] for name in MIXED_FIVE],
    "ddp alone": [
        (0, ("adapter.dora=true", "adapter.rank=3")),
        (1, ("adapter=norms", "optimizer=sgd", "training.gradient_clip=0.01")),
        (2, ("adapter=none", "optimizer.lr=1e-3")),
    ],
    "ddp alone 32 bits": [(3, ("adapter=prompt", "adapter.num_virtual_tokens=3"))],
    "ddp kept": [
        (6, (*_KEPT, "optimizer.lr=0.1")),
        (6, (*_KEPT, "optimizer.lr=0.1", "training.patience=2", "adapter.dropout=0.2")),
        (6, (*_KEPT, "optimizer.lr=1e-3", "training.patience=2")),
    ],
    "ddp alone kept": [(4, (*_KEPT, "adapter.dora=true", "optimizer.lr=0.1", "training.patience=2"))],
    "fsdp kept": [(6, (*_KEPT, "optimizer.lr=0.1", "training.patience=2"))],
    "fsdp": [MIXED["rank 32, dropout"], MIXED["every toggle, LoRA+"]],
    "fsdp checkpointing chunks": [(1, ("adapter.dropout=0.2", "training.gradient_checkpointing=true"))],
    "fsdp nf4 32 bits": [(2, ("adapter.rank=4", "adapter.dropout=0.1", "quantization=nf4_dq"))],
}
TOLERANCE: Final = {True: 1e-4, False: 1e-10}  # relative to a tensor's largest number, by whether it has 32 bits


# slow: the largest cohort and the base in parts with rows of its own in each process run by default, in 64 and 32 bits;
# the others add methods that train alone, weights that are kept, and what checkpointing and chunks recompute
QUICK: Final = ("ddp", "fsdp nf4 32 bits")
EVERY: Final = [pytest.param(name, id=name, marks=() if name in QUICK else pytest.mark.slow) for name in TRIALS]


class Both(NamedTuple):
    whole: Found  # of one process
    divided: list[Found]  # of each of two


@pytest.fixture(scope="module")
def both(compose_trial: Compose, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Both]:
    """What a scenario's trials came to in this process, and in two; all quick scenarios, or all slow ones, run once."""

    @cache
    def run(is_quick: bool) -> Both:
        folder = tmp_path_factory.mktemp("divided")
        specs = {name: specs_of(name, compose_trial, folder) for name in TRIALS if (name in QUICK) is is_quick}
        messages = {name: [spec.to_dict() for spec in made] for name, made in specs.items()}
        divided = run_divided(2, messages, folder)
        alone = {name: [undivided(one) for one in made] for name, made in specs.items()}
        return Both({name: outcomes(name, made, ONE_PROCESS) for name, made in alone.items()}, divided)

    return lambda scenario: run(scenario in QUICK)


def specs_of(scenario: str, compose: Callable[..., TrialConfig], folder: Path) -> list[TrialSpec]:
    strategy = scenario.partition(" ")[0]
    devices = (f"training.strategy={strategy}", "training.num_devices=2", "training.epochs=1")
    made = []
    for number, (seed, overrides) in enumerate(TRIALS[scenario]):
        chosen = {one.partition("=")[0]: one for one in (*COMMON, *devices, *overrides)}
        made.append(TrialSpec(number, seed, {}, compose(*chosen.values()), folder / scenario / str(number)))
    return made


def undivided(spec: TrialSpec) -> TrialSpec:
    training = spec.config.training.replaced(strategy="single", num_devices=1)
    return replace(spec, config=spec.config.replaced(training=training), folder=spec.folder / "whole")


def assert_close(found: dict[str, Any], expected: dict[str, Any], tolerance: float) -> None:
    """Weights relative to the largest of their tensor, losses relative."""
    assert found["status"] == expected["status"] == "finished"
    assert expected["weights"]
    for name in ("step", "kept_step", "reason"):
        assert found[name] == expected[name], name
    for weight, other in zip(found["weights"], expected["weights"], strict=True):
        torch.testing.assert_close(weight, other, rtol=0, atol=tolerance * max(1e-3, other.abs().max().item()))
    assert found["losses"] == pytest.approx(expected["losses"], rel=tolerance)
    assert found["heldout"] == pytest.approx(expected["heldout"], rel=tolerance)
    assert found["tokens"] == expected["tokens"]
    assert found["solo_tokens"] == expected["solo_tokens"]


@pytest.mark.parametrize("scenario", EVERY)
def test_two_processes_end_as_one_with_the_whole_batch(both: Callable[[str], Both], scenario: str) -> None:
    expected = both(scenario).whole[scenario]
    assert len(expected) == len(TRIALS[scenario])
    for number, one in expected.items():
        for found in both(scenario).divided:
            assert_close(found[scenario][number], one, TOLERANCE["32 bits" in scenario])
            assert found[scenario][number]["losses"] == pytest.approx(one["losses"], rel=0, abs=5e-6)


@pytest.mark.parametrize("scenario", EVERY)
def test_both_processes_have_the_same_bits(both: Callable[[str], Both], scenario: str) -> None:
    first, second = (found[scenario] for found in both(scenario).divided)
    for number, one in first.items():
        assert one["losses"] == second[number]["losses"]
        assert all(map(torch.equal, one["weights"], second[number]["weights"]))


@pytest.mark.parametrize("scenario", [one for one in EVERY if "kept" in str(one.id)])
def test_the_least_loss_is_kept_and_patience_ends_in_both_processes(both: Callable[[str], Both], scenario: str) -> None:
    """What the scenarios are made for; that both processes do it as one does is compared above."""
    num_steps = 4 * 4  # epochs of 13 rows in windows of 4
    for number, one in both(scenario).whole[scenario].items():
        patience = any("patience" in override for override in TRIALS[scenario][number][1])
        assert one["kept_step"] < num_steps
        assert (one["step"] < num_steps) == patience
        assert (one["reason"] is not None) == patience


@pytest.mark.parametrize("scenario", [one for one in EVERY if "fsdp" in str(one.id)])
def test_each_process_holds_half_of_a_base_in_parts(both: Callable[[str], Both], scenario: str) -> None:
    whole = both(scenario).whole[scenario][0]["bytes"]
    for found in both(scenario).divided:
        assert found[scenario][0]["bytes"] == pytest.approx(whole / 2, rel=0.02)


def test_a_base_that_draws_by_itself_is_not_divided(embedded_base: Base) -> None:
    quiet, random_base = (
        embedded_base._replace(model=model, draws_random_numbers=has_randomness(model))
        for model in (small_llama(), small_llama(attention_dropout=0.1))
    )
    _refuse_random_base(quiet, "ddp")
    with pytest.raises(ConfigError, match=r"^training\.strategy=ddp does not go with this model: it has dropout of "):
        _refuse_random_base(random_base, "ddp")
