"""Seeds that a person adds to a setting: next in turn, once, planned with the others, and still there after a stop."""

import pytest

from sweeplab.records.wishes import AddSeed
from tests.study_runs import Open, asked_for, run

GRID = ("space.adapter.rank.choices=[1,2]", "study.seeds=[0,1]")
TPE = ("sampler=tpe", "study.num_trials=4", "study.seeds=[0,1]", "space.adapter.rank.choices=[1,2,4,8]")


@pytest.mark.parametrize("overrides", [GRID, TPE])
def test_an_added_seed_comes_next_and_the_plan_is_kept_beside_it(overrides: tuple[str, ...], open_search: Open) -> None:
    search = open_search(*overrides)
    (first,) = run(search, most=1)
    assert search.num_planned == 4
    assert search.add_seed(AddSeed(0, 7))
    assert search.add_seed(AddSeed(0, 7))  # asked for twice
    assert search.num_planned == 5
    search.close()
    search = open_search(*overrides)  # the wish lies in a file, and is read again
    assert search.num_planned == 4
    assert search.add_seed(AddSeed(0, 7))
    second, *others = run(search)
    assert (second.params, second.seed) == (first.params, 7)
    assert not search.add_seed(AddSeed(0, 7))
    assert [spec.number for spec in others] == [2, 3, 4]
    assert len({str(one) for one in asked_for([first, second, *others])}) == 5
    assert {spec.seed for spec in others} <= {0, 1}
    search.close()
    search = open_search(*overrides)
    assert (search.num_planned, search.ask()) == (5, None)


def test_what_cannot_be_added_is_not(open_search: Open) -> None:
    search = open_search(*GRID)
    run(search, most=2)
    assert not any(map(search.add_seed, (AddSeed(0, 0), AddSeed(2, 5), AddSeed(-1, 5), AddSeed(0, -1))))
    race = open_search("sampler=race", "space.adapter.rank.choices=[1,2]", folder=search.folder.with_name("race"))
    run(race, most=1)
    assert not race.add_seed(AddSeed(0, 5))


def test_a_planned_seed_that_is_asked_for_runs_earlier_and_not_twice(open_search: Open) -> None:
    search = open_search(*GRID)
    run(search, most=1)
    assert search.add_seed(AddSeed(0, 1))
    assert search.num_planned == 4
    done = run(search)
    assert [(spec.params["adapter.rank"], spec.seed) for spec in done] == [(1, 1), (2, 0), (2, 1)]
