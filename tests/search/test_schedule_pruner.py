"""Curves at equal shares of their schedules: who goes on, with which seed, and that others do not matter."""

from typing import Final

import pytest

from sweeplab.records.record import Status, TrialRecord
from sweeplab.runtime.errors import ConfigError
from sweeplab.search.search import Search
from sweeplab.training.running_trial import _reaches_rung
from tests.study_runs import LOSS, ComposeStudy, Open, end, record_of

SCHEDULE: Final = (
    "pruner=schedule",
    "pruner.rungs=[0.125,0.5]",
    "pruner.reduction_factor=3",
    "training.heldout_interval=0.125",
    "study.seeds=[0,1]",
)
SIX: Final = ("++space.adapter.rank.choices=[2,4,8,16,32,64]", *SCHEDULE)


def follow(search: Search, losses: list[float], num_steps: int = 40) -> list[str]:
    """Runs one trial after another with a constant loss each; how each ended."""
    ends = []
    for spec, loss in zip(search.ask_all(), losses, strict=False):
        reason = None
        for step in range(num_steps // 8, num_steps, num_steps // 8):
            reason = reason or search.report(spec.number, step, loss, num_steps)
        record = record_of(spec, loss)
        if reason is not None:
            record = TrialRecord(spec.number, Status.PRUNED, spec.seed, spec.params, {}, reason=reason)
        end(search, record)
        ends.append("goes on" if reason is None else reason)
    return ends


def test_a_third_goes_on_at_an_eighth_of_the_steps(open_search: Open) -> None:
    ends = follow(open_search(*SIX), [1.0, 2.0, 3.0, 0.9, 0.95, 4.0])
    stopped = "pruner=schedule at step 5: held-out loss {}".format
    assert ends == ["goes on", stopped(2), stopped(3), "goes on", stopped(0.95), stopped(4)]


def test_of_more_trials_more_pass_a_rung_and_fewer_the_next(open_search: Open) -> None:
    search = open_search("++space.adapter.rank.choices=[1,2,3,4,5,6,7,8,9]", *SCHEDULE)
    ends = follow(search, [5.0, 6.0, 7.0, 1.0, 8.0, 2.0, 9.0, 9.0, 3.0])
    assert [end.split(":")[0].rpartition("at ")[2] for end in ends] == [
        *("goes on", "step 5", "step 5", "goes on", "step 5", "step 20", "step 5", "step 5", "step 20")
    ]


def test_further_seeds_are_trained_to_their_end(open_search: Open) -> None:
    search = open_search("++space.adapter.rank.choices=[2,4]", *SCHEDULE)
    assert follow(search, [1.0, 0.5, 9.0, 9.0]) == ["goes on"] * 4


def test_trials_of_unlike_length_are_compared_at_equal_shares(open_search: Open) -> None:
    search = open_search("++space.adapter.rank.choices=[2,4]", *SCHEDULE[:-1], "study.seeds=[0]")
    first, second = search.ask_all()
    assert search.report(first.number, 10, 3.0, num_steps=80) is None
    assert search.report(first.number, 40, 1.0, num_steps=80) is None
    assert search.report(second.number, 5, 2.0, num_steps=40) is None  # at an eighth the first had 3.0
    assert search.report(second.number, 15, 9.0, num_steps=40) is None  # no rung
    assert search.report(second.number, 20, 1.1, num_steps=40) is not None


def test_a_study_that_goes_on_decides_as_one_that_was_never_stopped(open_search: Open) -> None:
    follow(open_search(*SIX), [1.0, 2.0])
    assert follow(open_search(*SIX), [3.0, 0.9]) == ["pruner=schedule at step 5: held-out loss 3", "goes on"]


@pytest.mark.parametrize("num_steps", [7, 8, 40, 100, 1001])
@pytest.mark.parametrize("share", [0.125, 0.1, 0.3])
def test_held_out_losses_are_due_each_time_that_a_share_is_done(num_steps: int, share: float) -> None:
    due = [step for step in range(1, num_steps + 1) if _reaches_rung(step, share, num_steps)]
    expected = {
        min(step for step in range(1, num_steps + 1) if step >= count * share * num_steps - 1e-9)
        for count in range(1, int(1 / share + 1e-9) + 1)
    }
    assert due == sorted(expected)
    assert [step for step in range(1, 11) if _reaches_rung(step, 3, 10)] == [3, 6, 9]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (
            ("training.heldout_interval=0.5",),
            "must be at most pruner.rungs[0]=0.25 of a trial",
        ),
        (("training.heldout_interval=20", "training.max_steps=40"), "must be at most pruner.rungs[0]=0.25 of a trial"),
        (("training.heldout_interval=0.125", "pruner.rungs=[0.5,0.25]"), "pruner.rungs must be rising shares"),
        (("training.heldout_interval=null",), "training.heldout_interval is needed by pruner=schedule"),
        (("pruner=asha", "training.heldout_interval=0.125"), "must be a number of steps for pruner=asha"),
    ],
)
def test_rungs_that_cannot_be_compared_are_refused(
    compose_study: ComposeStudy, overrides: tuple[str, ...], words: str
) -> None:
    with pytest.raises(ConfigError) as refusal:
        compose_study("evaluation=none", LOSS, "++space.adapter.rank.choices=[2,4]", "pruner=schedule", *overrides)
    assert words in str(refusal.value)
