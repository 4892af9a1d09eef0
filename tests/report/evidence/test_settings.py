"""Grouping, spreads and the best setting, against values worked out by hand or by NumPy."""

from collections.abc import Callable

import numpy as np
import pytest

from sweeplab.records.record import Score, Status, StudyFacts, TrialRecord
from sweeplab.report.evidence.comparability import group_comparable
from sweeplab.report.evidence.estimates import find_best_setting
from sweeplab.report.evidence.settings import group_by_setting, list_scores, pick_headline_scores

RecordFactory = Callable[..., TrialRecord]
FactsFactory = Callable[..., StudyFacts]


LOSS = "heldout_loss_nats_per_token"


def test_seeds_of_equal_params_are_one_setting(make_facts: FactsFactory, make_record: RecordFactory) -> None:
    records = [make_record(n, {"adapter.rank": rank}, seed) for n, (rank, seed) in enumerate([(8, 0), (4, 0), (8, 1)])]
    settings = group_by_setting(make_facts(), records)
    assert [setting.label for setting in settings] == ["rank=4", "rank=8"]
    assert [[record.number for record in setting.records] for setting in settings] == [[1], [0, 2]]


def test_settings_follow_the_axes_not_the_trial_numbers(make_facts: FactsFactory, make_record: RecordFactory) -> None:
    space = {"optimizer": {"choices": ["sgd", "adamw"]}, "optimizer.lr": {"choices": [1e-3, 1e-4]}}
    points = [("adamw", 1e-3), ("sgd", 1e-3), ("adamw", 1e-4), ("sgd", 1e-4)]
    records = [make_record(n, {"optimizer": name, "optimizer.lr": lr}) for n, (name, lr) in enumerate(points)]
    assert [setting.label for setting in group_by_setting(make_facts(space=space), records)] == [
        "optimizer=sgd, lr=0.0001",
        "optimizer=sgd, lr=0.001",
        "optimizer=adamw, lr=0.0001",
        "optimizer=adamw, lr=0.001",
    ]


def test_spread_is_over_seeds_with_numpy(make_facts: FactsFactory, make_record: RecordFactory) -> None:
    losses = [1.25, 1.5, 1.0]
    records = [make_record(n, {"adapter.rank": 4}, n, loss) for n, loss in enumerate(losses)]
    spread = group_by_setting(make_facts(), records)[0].spreads[LOSS]
    assert spread.num_seeds == 3
    assert spread.mean == pytest.approx(np.mean(losses), abs=1e-15)
    assert spread.std == pytest.approx(np.std(losses, ddof=1), abs=1e-15)


def test_one_seed_has_no_spread(make_facts: FactsFactory, make_record: RecordFactory) -> None:
    spread = group_by_setting(make_facts(), [make_record(0, {"adapter.rank": 4}, 0, 1.25)])[0].spreads[LOSS]
    assert (spread.mean, spread.std) == (1.25, None)


def test_a_seed_that_ran_twice_counts_once(make_facts: FactsFactory, make_record: RecordFactory) -> None:
    rows = [(0, 1.0), (0, 3.0), (1, 4.0)]
    records = [make_record(n, {"adapter.rank": 4}, seed, loss) for n, (seed, loss) in enumerate(rows)]
    spread = group_by_setting(make_facts(), records)[0].spreads[LOSS]
    assert (spread.num_seeds, spread.mean) == (2, 3.0)  # seed 0 is 2.0, seed 1 is 4.0
    assert spread.std == pytest.approx(2**0.5)


def test_score_has_mean_standard_error_and_items(make_facts: FactsFactory, make_record: RecordFactory) -> None:
    scores = [Score(0.5, 0.02, 100), Score(0.7, 0.04, 100), Score(0.6, None, 100)]
    records = [make_record(n, {}, n, scores={"task": {"acc": score}}) for n, score in enumerate(scores)]
    spread = group_by_setting(make_facts(), records)[0].spreads["scores.task.acc"]
    assert spread.mean == pytest.approx(0.6)
    assert spread.std == pytest.approx(0.1)
    assert spread.stderr == pytest.approx(0.03)
    assert spread.num_items == 100


def test_unlike_item_counts_are_no_count(make_facts: FactsFactory, make_record: RecordFactory) -> None:
    records = [make_record(n, {}, n, scores={"task": {"acc": Score(0.5, None, size)}}) for n, size in enumerate((9, 8))]
    spread = group_by_setting(make_facts(), records)[0].spreads["scores.task.acc"]
    assert (spread.stderr, spread.num_items) == (None, None)


def test_failed_trials_are_counted_but_give_no_numbers(make_facts: FactsFactory, make_record: RecordFactory) -> None:
    records = [
        make_record(0, {"adapter.rank": 4}, 0, 2.0),
        make_record(1, {"adapter.rank": 4}, 1, 4.0),
        make_record(2, {"adapter.rank": 4}, 2, 100.0, status=Status.OUT_OF_MEMORY),
    ]
    setting = group_by_setting(make_facts(), records)[0]
    assert setting.counts == "2/3"
    assert setting.spreads[LOSS].mean == 3.0


def test_a_number_that_is_not_finite_is_missing(make_facts: FactsFactory, make_record: RecordFactory) -> None:
    setting = group_by_setting(make_facts(), [make_record(0, {}, 0, float("nan"))])[0]
    assert LOSS not in setting.spreads
    assert find_best_setting(make_facts(), [setting]) is None


@pytest.mark.parametrize(("direction", "best"), [("minimize", "rank=8"), ("maximize", "rank=16")])
def test_best_follows_the_direction(
    make_facts: FactsFactory, make_record: RecordFactory, direction: str, best: str
) -> None:
    records = [make_record(n, {"adapter.rank": 2**n}, 0, loss) for n, loss in [(2, 1.5), (3, 1.25), (4, 1.75)]]
    facts = make_facts(objectives={LOSS: direction, "adapter_bytes": "minimize"})
    found = find_best_setting(facts, group_by_setting(facts, records))
    assert found is not None
    assert found.label == best


def test_a_setting_of_which_a_run_failed_is_not_the_best_nor_one_with_a_single_seed(
    make_facts: FactsFactory, make_record: RecordFactory
) -> None:
    facts = make_facts(seeds=[0, 1])
    rows = [(4, 0, 2.0), (4, 1, 2.0), (8, 0, 1.0), (8, 1, None), (16, 0, 1.0)]
    records = [make_record(n, {"adapter.rank": rank}, seed, loss) for n, (rank, seed, loss) in enumerate(rows)]
    settings = group_by_setting(facts, records)
    found = find_best_setting(facts, settings)
    assert found is not None
    assert found.label == "rank=4"
    assert find_best_setting(facts, settings[1:]) is None


def test_headline_prefers_exact_match_then_acc_then_the_first(make_record: RecordFactory) -> None:
    score = Score(0.5, None, 10)
    scores = {
        "one": {"acc": score, "exact_match": score},
        "two": {"acc_norm": score, "acc": score},
        "three.dotted": {"bleu": score, "chrf": score},
    }
    records = [make_record(0, {}, scores=scores)]
    assert pick_headline_scores(records) == [("one", "exact_match"), ("two", "acc"), ("three.dotted", "bleu")]
    assert len(list_scores(records)) == 6


def test_keys_that_end_alike_keep_their_whole_names(make_facts: FactsFactory, make_record: RecordFactory) -> None:
    space = {"model.revision": {"choices": ["a"]}, "data.revision": {"choices": ["b"]}, "data.name": {"choices": ["c"]}}
    record = make_record(0, {"model.revision": "a", "data.revision": "b", "data.name": "c"})
    assert (
        group_by_setting(make_facts(space=space), [record])[0].label == "model.revision=a, data.revision=b, data.name=c"
    )


def test_choices_that_are_lists_can_be_an_axis(make_facts: FactsFactory, make_record: RecordFactory) -> None:
    records = [make_record(n, {"evaluation.tasks": tasks}) for n, tasks in enumerate([["a"], ["a", "b"], ["a"]])]
    settings = group_by_setting(make_facts(space={"evaluation.tasks": {"choices": [["a", "b"], ["a"]]}}), records)
    assert [setting.label for setting in settings] == ['tasks=["a", "b"]', 'tasks=["a"]']
    assert [setting.counts for setting in settings] == ["1/1", "2/2"]


def heldout_records(make_record: RecordFactory, data: list[dict[str, object]]) -> list[TrialRecord]:
    return [
        make_record(n, {"data.path": one["path"]}, loss=n + 1.0, config={"data": {"source": "json"} | one})
        for n, one in enumerate(data)
    ]


def test_losses_on_one_held_out_file_compare_whatever_was_trained_on(
    make_facts: FactsFactory, make_record: RecordFactory
) -> None:
    facts = make_facts(space={"data.path": {"choices": ["a.json", "b.json"]}})
    data: list[dict[str, object]] = [
        {"path": "a.json", "name": "a", "split": "train", "heldout_fraction": 0.1, "heldout_path": "h.json"},
        {"path": "b.json", "name": "b", "split": "test", "heldout_fraction": 0.2, "heldout_path": "h.json"},
    ]
    settings = group_by_setting(facts, heldout_records(make_record, data))
    assert list(group_comparable(facts, settings, LOSS)) == [""]
    other_file = [data[0], data[1] | {"heldout_path": "other.json"}]
    assert len(group_comparable(facts, group_by_setting(facts, heldout_records(make_record, other_file)), LOSS)) == 2
    other_style = [data[0], data[1] | {"style": "alpaca"}]
    other_style[0] |= {"style": "plain"}
    assert len(group_comparable(facts, group_by_setting(facts, heldout_records(make_record, other_style)), LOSS)) == 2
    set_aside = [one | {"heldout_path": None} for one in data]
    assert list(group_comparable(facts, group_by_setting(facts, heldout_records(make_record, set_aside)), LOSS)) == [
        "data.path=a.json",
        "data.path=b.json",
    ]
    ignored = [one | {"source": "world", "target": one["name"]} for one in data]  # which reads no file
    assert len(group_comparable(facts, group_by_setting(facts, heldout_records(make_record, ignored)), LOSS)) == 2


def test_losses_of_cut_held_out_examples_compare_at_one_length_only(
    make_facts: FactsFactory, make_record: RecordFactory
) -> None:
    facts = make_facts(space={"training.max_length": {"choices": [32, 64, 128, 256]}})

    def cut(counts: list[tuple[int | None, int]]) -> list[TrialRecord]:
        return [
            make_record(
                n,
                {"training.max_length": length},
                loss=n + 1.0,
                config={"training": {"max_length": length}},
                num_heldout_truncated=heldout,
                num_truncated=trained,
            )
            for n, (length, (heldout, trained)) in enumerate(zip((32, 64, 128, 256), counts, strict=True))
        ]

    def labels(counts: list[tuple[int | None, int]]) -> dict[str, int]:
        families = group_comparable(facts, group_by_setting(facts, cut(counts)), LOSS)
        return {label: len(members) for label, members in families.items()}

    apart = {"max_length=32": 1, "max_length=64": 1, "no example cut": 2}
    assert labels([(9, 0), (3, 0), (0, 0), (0, 0)]) == apart
    assert labels([(None, 9), (None, 3), (None, 0), (None, 0)]) == apart  # as earlier records have it
    assert labels([(0, 9), (0, 3), (0, 0), (0, 0)]) == {"": 4}  # of training examples only
    assert find_best_setting(facts, group_by_setting(facts, cut([(9, 0), (3, 0), (0, 0), (0, 0)]))) is None
    assert list(group_comparable(facts, group_by_setting(facts, cut([(9, 0)] * 4)), "scores.t.acc")) == [""]
