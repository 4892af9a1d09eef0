"""What lm-eval scores is what was trained: each way in which it could be something else is caught."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from copy import deepcopy
from typing import Any

import pytest
import torch

from sweeplab.adapters.attach import attach_adapter, detach_adapter
from sweeplab.config.adapter import AdapterConfig
from sweeplab.config.model import EmbeddedModel, HubModel
from sweeplab.data.batches import Batch
from sweeplab.evaluation.harness import run_lm_eval
from sweeplab.evaluation.identity import OtherModelError, Probe, make_probe, refuse_other_model
from sweeplab.evaluation.lm import CohortLM
from sweeplab.models.base import Base, load_base
from sweeplab.multilora.packed import PackedAdapters
from sweeplab.multilora.slots import Slot, list_lora_matrices, read_lora_weights
from sweeplab.training.module import compute_target_logits
from tests.configs import quantize
from tests.evaluation.conftest import settings, with_adapter
from tests.trials import Compose

IDS = torch.tensor([[5, 9, 20, 31, 7]])
BATCH = Batch(IDS, torch.ones_like(IDS), torch.tensor([[-100, -100, 20, 31, 7]]), 5, 3)
ALL_MOVED = [True, True, True]


@contextmanager
def attach_three(base: Base, adapter: AdapterConfig) -> Iterator[PackedAdapters]:
    """Three trials with different adapters."""
    slots = []
    for seed in range(3):
        adapted = attach_adapter(base.model, adapter, HubModel(name="any"), seed)
        slot = Slot(list_lora_matrices(adapted), read_lora_weights(adapted), seed, as_vectors=True)
        detach_adapter(adapted)
        for _, b_OR in slot.weights().values():
            b_OR.normal_(0, 0.05, generator=torch.Generator().manual_seed(seed))
        slots.append(slot)
    with PackedAdapters(base.model, slots) as made:
        yield made


@pytest.fixture
def packed(nf4_base: Base, compose_trial: Compose) -> Iterator[PackedAdapters]:
    with attach_three(nf4_base, compose_trial("adapter.rank=4").adapter) as made:
        yield made


@pytest.fixture(scope="module")
def half_base() -> Base:
    """A base in bfloat16, as on every modern GPU."""
    return load_base(EmbeddedModel(name="tiny_base"), quantize("none"), torch.bfloat16, torch.device("cpu"))


def choosing(packed: PackedAdapters) -> Any:
    return lambda places: packed.only([packed.slots[place] for place in places])


def probe_of(packed: PackedAdapters) -> Probe:
    return make_probe(packed.base, BATCH, compute_target_logits, choosing(packed), ALL_MOVED, packed.only([]))


def lm_of(base: Base, choose: Any) -> CohortLM:
    return CohortLM(base.model, base.tokenizer, 4, 3, choose)


def test_the_probe_holds_every_trials_logits_and_the_bases(packed: PackedAdapters) -> None:
    probe = probe_of(packed)
    assert probe.base_NV is not None
    for place, trained in enumerate(probe.trained):
        with packed.only([packed.slots[place]]), torch.no_grad():
            alone = packed.base(BATCH.ids_BT).logits[0, 1:4]
        torch.testing.assert_close(trained, alone)
        assert not torch.equal(trained, probe.base_NV)
    with packed.only([]), torch.no_grad():
        torch.testing.assert_close(packed.base(BATCH.ids_BT).logits[0, 1:4], probe.base_NV)


def test_a_probe_of_a_long_text_holds_its_first_targets(packed: PackedAdapters, nf4_base: Base) -> None:
    ids = torch.randint(2, 128, (1, 40), generator=torch.Generator().manual_seed(0))
    labels = ids.masked_fill(torch.arange(40)[None] < 3, -100)
    long = Batch(ids, torch.ones_like(ids), labels, 40, 37)
    probe = make_probe(packed.base, long, compute_target_logits, choosing(packed), ALL_MOVED, packed.only([]))
    assert [len(one) for one in probe.trained] == [16] * 3
    with packed.only([packed.slots[0]]), torch.no_grad():
        torch.testing.assert_close(probe.trained[0], packed.base(ids).logits[0, 2:18])
    lm = lm_of(nf4_base, choosing(packed))
    lm.begin_trial(1)
    refuse_other_model(lm, 1, probe)


def test_the_trials_own_logits_pass(packed: PackedAdapters, nf4_base: Base) -> None:
    probe, lm = probe_of(packed), lm_of(nf4_base, choosing(packed))
    for trial in range(3):
        lm.begin_trial(trial)
        refuse_other_model(lm, trial, probe)


def shifted(packed: PackedAdapters) -> Any:
    return lambda places: packed.only([packed.slots[(place + 1) % 3] for place in places])


@pytest.mark.parametrize("wrong", ["another trial", "no adapter", "changed weights"])
def test_another_model_is_refused(wrong: str, packed: PackedAdapters, nf4_base: Base) -> None:
    probe = probe_of(packed)
    chooses = {"another trial": shifted(packed), "no adapter": lambda places: packed.only([])}
    choose = chooses.get(wrong, choosing(packed))
    if wrong == "changed weights":
        next(iter(packed.slots[0].weights().values()))[1].add_(1e-3)
    with pytest.raises(OtherModelError, match=r"lm-eval sees another model than the trained one: logits .* differ by"):
        refuse_other_model(lm_of(nf4_base, choose), 0, probe)


def test_in_bfloat16_another_trials_adapter_is_refused_and_ones_own_is_not(
    half_base: Base, compose_trial: Compose
) -> None:
    """Adapters differ by less than 64 epsilon of the largest logit there, and rows together round otherwise than
    alone."""
    with attach_three(half_base, compose_trial("adapter.rank=4").adapter) as packed:
        probe = probe_of(packed)
        apart = (probe.trained[0] - probe.trained[1]).abs().max()
        assert apart < 64 * torch.finfo(torch.bfloat16).eps * probe.trained[0].abs().max()
        for trial in range(3):
            own, other = lm_of(half_base, choosing(packed)), lm_of(half_base, shifted(packed))
            own.begin_trial(trial)
            refuse_other_model(own, trial, probe)
            other.begin_trial(trial)
            with pytest.raises(OtherModelError, match="another model"):
                refuse_other_model(other, trial, probe)
        with pytest.raises(OtherModelError, match="another model"):
            refuse_other_model(lm_of(half_base, lambda places: packed.only([])), 0, probe)


@pytest.mark.parametrize("half", [False, True])
def test_rows_of_all_trials_that_go_through_each_others_adapters_are_refused(
    half: bool, half_base: Base, nf4_base: Base, compose_trial: Compose
) -> None:
    with attach_three(half_base if half else nf4_base, compose_trial("adapter.rank=4").adapter) as packed:

        def exchange(places: Sequence[int]) -> AbstractContextManager[None]:
            return packed.only([packed.slots[place] for place in (*places[1:], *places[:1])])

        with pytest.raises(OtherModelError, match="gives trial 0 of the cohort the logits of trial 1"):
            make_probe(packed.base, BATCH, compute_target_logits, exchange, ALL_MOVED, None)


def test_an_adapter_that_is_off_in_training_too_is_refused_once_it_has_moved(
    packed: PackedAdapters, nf4_base: Base
) -> None:
    def off(places: Sequence[int]) -> AbstractContextManager[None]:
        return packed.only([])

    probe = make_probe(packed.base, BATCH, compute_target_logits, off, ALL_MOVED, packed.only([]))
    with pytest.raises(OtherModelError, match="lm-eval sees the base without the adapter"):
        refuse_other_model(lm_of(nf4_base, off), 0, probe)
    refuse_other_model(lm_of(nf4_base, off), 0, probe._replace(moved=[False] * 3))  # as before its first step


def test_a_method_that_has_the_model_for_itself(stories: Base) -> None:
    @contextmanager
    def alone(places: Sequence[int]) -> Iterator[None]:
        yield

    model = with_adapter(deepcopy(stories.model))
    probe = make_probe(model, BATCH, compute_target_logits, alone, [True], model.disable_adapter())
    lm = CohortLM(model, stories.tokenizer, 4, 1, alone)
    refuse_other_model(lm, 0, probe)
    with model.disable_adapter(), pytest.raises(OtherModelError, match="another model"):
        refuse_other_model(lm, 0, probe)


def test_nothing_is_scored_where_the_model_is_another(packed: PackedAdapters, nf4_base: Base) -> None:
    asked = settings("tiny_new_facts", "tiny_new_facts_choice", limit=4)
    made = run_lm_eval(nf4_base.model, nf4_base.tokenizer, asked, 3, choosing(packed), probe_of(packed))
    assert made == run_lm_eval(nf4_base.model, nf4_base.tokenizer, asked, 3, choosing(packed))
    with pytest.raises(OtherModelError):
        run_lm_eval(nf4_base.model, nf4_base.tokenizer, asked, 3, shifted(packed), probe_of(packed))
