"""A race in a study: who is asked for, when, and that results alone decide it."""

import math
import random
from itertools import islice
from pathlib import Path
from typing import Final

import pytest

from sweeplab.config.trial_spec import TrialSpec
from sweeplab.runtime.errors import ConfigError
from sweeplab.search.race import RaceQueue
from sweeplab.search.search import Search
from tests.study_runs import LOSS, ComposeStudy, Open, end, record_of

RANKS: Final = "++space.adapter.rank.choices=[2,4,8,16,32,64]"
RACE: Final = (RANKS, "sampler=race", "study.within=0.1", "study.seeds=[0,1,2,3,4,5,6,7,8,9]")
MEANS: Final = {2: 1.0, 4: 1.0, 8: 1.5, 16: 2.0, 32: 2.5, 64: 3.0}


def loss_of(spec: TrialSpec) -> float:
    rank = spec.params["adapter.rank"]
    return MEANS[rank] + random.Random(f"{rank} {spec.seed}").gauss(0, 0.03)


def run_all(search: Search) -> list[tuple[int, int]]:
    asked = []
    for spec in search.ask_all():
        end(search, record_of(spec, loss_of(spec)))
        asked.append((spec.params["adapter.rank"], spec.seed))
    return asked


def test_seeds_go_where_the_contest_is(open_search: Open) -> None:
    search = open_search(*RACE)
    asked = run_all(search)
    assert asked[:6] == [(rank, 0) for rank in MEANS]
    assert asked[6:10] == [(rank, 1) for rank in (2, 4, 8, 16)]
    assert {rank for rank, _ in asked[10:]} <= {2, 4, 8}
    assert len(asked) < 20 < search.num_planned == 60
    assert isinstance(search.queue, RaceQueue)
    assert not search.queue.draws
    standing = search.queue.judge()
    assert standing is not None
    assert standing.leader in (0, 1)
    assert standing.bound <= 0.1


def test_nothing_is_asked_for_while_others_of_the_round_run(open_search: Open) -> None:
    search = open_search(*RACE)
    running = list(islice(search.ask_all(), 6))
    assert search.ask() is None
    for spec in running[:5]:
        end(search, record_of(spec, loss_of(spec)))
        assert search.ask() is None
    end(search, record_of(running[5], loss_of(running[5])))
    second = search.ask()
    assert second is not None
    assert (second.params["adapter.rank"], second.seed) == (2, 1)


def test_the_order_in_which_trials_end_changes_nothing(open_search: Open, tmp_path: Path) -> None:
    search, asked = open_search(*RACE), list[tuple[int, int]]()
    while specs := list(search.ask_all()):
        for spec in reversed(specs):
            end(search, record_of(spec, loss_of(spec)))
        asked += [(spec.params["adapter.rank"], spec.seed) for spec in specs]
    assert asked == run_all(open_search(*RACE, folder=tmp_path / "in_order"))


def test_a_smaller_allowance_or_more_choices_go_on(open_search: Open) -> None:
    first = run_all(open_search(*RACE))
    more = run_all(open_search(RANKS, "sampler=race", "study.within=0.01", RACE[-1]))
    assert more
    assert not set(first) & set(more)


WALK: Final = (
    "++space.adapter.rank={choices: [16, 8, 32, 4, 2, 64], begin: 3}",
    "++space.adapter.dropout={choices: [0.0, 0.1, 0.2], begin: 1}",
    *RACE[1:],
)


def walk_all(search: Search) -> list[tuple[int, float, int]]:
    asked = []
    for spec in search.ask_all():
        end(search, record_of(spec, loss_of(spec) + spec.params["adapter.dropout"]))
        asked.append((spec.params["adapter.rank"], spec.params["adapter.dropout"], spec.seed))
    return asked


def test_a_race_goes_on_beside_its_leader(open_search: Open, tmp_path: Path) -> None:
    asked = walk_all(open_search(*WALK, "study.fresh_seeds=1"))
    tried = list(dict.fromkeys((rank, dropout) for rank, dropout, _ in asked))
    assert tried[:5] == [(16, 0.0), (8, 0.0), (32, 0.0), (4, 0.0), (8, 0.1)]  # 8 leads the first three
    assert {(2, 0.0), (4, 0.1)} <= set(tried)  # 4 leads afterwards
    assert not {64} & {rank for rank, _ in tried}
    assert not {0.2} & {dropout for _, dropout in tried}
    assert [seed for *_, seed in asked].count(10) == 1  # the fresh seed, once nothing else is left to try
    assert asked[-1][2] == 10
    again = open_search(*WALK, folder=tmp_path / "stopped")
    for spec in islice(again.ask_all(), 9):
        end(again, record_of(spec, loss_of(spec) + spec.params["adapter.dropout"]))
    again.close()
    assert walk_all(open_search(*WALK, folder=tmp_path / "stopped")) == asked[9:-1]


def test_a_round_that_ends_says_who_joined(open_search: Open) -> None:
    search = open_search(*WALK)
    sentences = []
    queue = search.queue
    assert isinstance(queue, RaceQueue)
    for spec in search.ask_all():
        record = record_of(spec, loss_of(spec) + spec.params["adapter.dropout"])
        queue.note_record(record)
        if (sentence := queue.describe_round()) is not None:
            sentences.append(sentence)
        end(search, record)
    assert sentences[0] == "Now: rank=8 dropout=0 leads the first 2 of 3 settings, with one seed each"
    assert "another seed will tell" in sentences[1]
    joined = next(one for one in sentences if "Now beside it" in one)
    assert "rank=8 dropout=0 leads after 6 runs, and nothing tried is better by more than 0.1" in joined
    assert joined.endswith("beside it: rank=4 dropout=0; rank=8 dropout=0.1")
    assert sentences[-1].endswith("nothing tried is better by more than 0.1")


def test_a_rate_at_an_end_is_followed_further_out_before_any_second_seed(open_search: Open) -> None:
    rates = "++space.optimizer.lr={choices: [1e-4, 3e-4, 1e-3, 3e-3, 1e-2], begin: 2}"
    ranks = "++space.adapter.rank={choices: [4, 16, 64], begin: 2}"
    search, asked, sentences = open_search(rates, ranks, *RACE[1:]), [], []
    assert isinstance(search.queue, RaceQueue)
    for spec in search.ask_all():
        rate, rank = spec.params["optimizer.lr"], spec.params["adapter.rank"]
        loss = 1 + abs(math.log10(rate) + 3) + 0.1 * (rank != 16) + random.Random(f"{rate} {spec.seed}").gauss(0, 0.01)
        record = record_of(spec, loss)
        search.queue.note_record(record)
        sentences += [sentence for sentence in [search.queue.describe_round()] if sentence is not None]
        end(search, record)
        asked.append((rate, rank, spec.seed))
    assert asked[:4] == [(rate, rank, 0) for rate in (1e-4, 3e-4) for rank in (4, 16)]
    assert asked[4:8] == [(rate, rank, 0) for rate in (1e-3, 3e-3) for rank in (4, 16)]  # two steps, both ranks
    assert asked[8][2] == 1
    assert 1e-2 not in {rate for rate, _, _ in asked}  # 3e-3 is no better than 1e-3
    words = "Now: lr=0.0003 rank=16 leads after 4 runs, at an end of the rates tried. Now further out: "
    assert sentences[1] == f"{words}lr=0.001 rank=4; lr=0.001 rank=16"


def test_a_setting_whose_trial_fails_is_out(open_search: Open) -> None:
    search = open_search(*RACE)
    asked = []
    for spec in search.ask_all():
        rank = spec.params["adapter.rank"]
        end(search, record_of(spec, None if rank == 2 else loss_of(spec)))
        asked.append((rank, spec.seed))
    assert [one for one in asked if one[0] == 2] == [(2, 0)]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("sampler=race",), "space is missing; sampler=race needs settings"),
        (
            (RANKS, "sampler=race", "study.objectives=[num_trainable_params,adapter_bytes]"),
            "study.objectives must be one metric for sampler=race",
        ),
        ((RANKS, "sampler=race", "study.objectives=[adapter_bytes]"), "study.within is missing; say how much"),
        (
            ("++space.adapter.rank={choices: [2, 4], begin: 1}",),
            "space.adapter.rank.begin does not go with sampler=grid, which runs every choice, got 1; drop it, or use",
        ),
        (
            (
                "++space.adapter.rank={choices: [2, 4], begin: 1}",
                "++space.adapter.dropout={choices: [0.0, 0.1], when: {adapter.rank: 4}}",
                "sampler=race",
            ),
            "space.adapter.rank.begin does not go with space.adapter.dropout.when, got 1; drop one of them",
        ),
        ((RANKS, "study.within=0.1"), "study.within has no effect with sampler.name=grid"),
        ((RANKS, "study.certainty=0.9"), "study.certainty has no effect with sampler.name=grid"),
        ((RANKS, "study.budget=20"), "with its unit, such as 90s, 20min or 2h, got 20; try study.budget=20min"),
        ((RANKS, "study.budget=soon"), "got soon; try study.budget=20min"),
    ],
)
def test_what_a_race_cannot_be_is_refused(compose_study: ComposeStudy, overrides: tuple[str, ...], words: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        compose_study("evaluation=none", LOSS, *overrides)
    assert words in str(refusal.value)
