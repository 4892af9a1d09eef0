"""A study's folder without a driver: two ranks with two seeds, of which some trials have ended."""

from pathlib import Path

from sweeplab.records.asked import AskedTrial, write_asked
from sweeplab.records.record import Status, StudyFacts, TrialRecord
from sweeplab.records.store import write_facts, write_record
from sweeplab.tracking.status_file import StudyStatus, TrialProgress, write_status

LOSS = "heldout_loss_nats_per_token"
POINTS = [(4, 0), (8, 0), (4, 1), (8, 1)]  # rank and seed of each trial


def make_study(folder: Path, num_ended: int = 2, name: str = "single") -> Path:
    """The trials from `num_ended` on run, as far as the files say."""
    space, config = {"adapter.rank": {"choices": [4, 8]}}, {"training": {"epochs": 3}}
    write_facts(folder, StudyFacts(name, "Which rank?", "run it", {LOSS: "minimize"}, [0, 1], space, 4, config))
    for number, (rank, seed) in enumerate(POINTS):
        write_asked(folder, AskedTrial(number, seed, {"adapter.rank": rank}, {}))
        if number < num_ended:
            end_trial(folder, number)
    running = [
        TrialProgress(number, f"trial {number}: rank={rank} seed={seed}", 40.0, 0.25, 1.5)
        for number, (rank, seed) in enumerate(POINTS)
        if number >= num_ended
    ]
    write_status(folder, StudyStatus(90.0, 4, num_ended, 125.0, False, running, ["worker 0 trains"]))
    return folder


def end_trial(folder: Path, number: int) -> None:
    rank, seed = POINTS[number]
    params = {"adapter.rank": rank}
    record = TrialRecord(number, Status.FINISHED, seed, params, {}, heldout_loss_nats_per_token=2.0 + number / 10)
    write_record(folder, record)
