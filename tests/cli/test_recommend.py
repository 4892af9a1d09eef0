"""What `action=recommend` tries: published rates first, and further ones where the best lies at an end."""

import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from hydra import initialize_config_dir
from rich.console import Console

from sweeplab.cli.arguments import check_arguments
from sweeplab.cli.recommend import recommend_setting
from sweeplab.config.compose import Request, compose_conf, to_study_config
from sweeplab.config.conf import CONF
from sweeplab.config.space import axes, grid
from sweeplab.execution.driver import Driver
from sweeplab.records.record import Status, TrialRecord
from sweeplab.records.store import write_facts, write_record
from sweeplab.runtime.errors import ConfigError

NAME: Final = "advice"


class TableDriver(Driver):
    """A driver whose trials have the losses of a valley around a rate of 0.1; it runs two seeds of everything."""

    tried: Final[list[list[float]]] = []

    def run(self) -> int:
        write_facts(self.folder, self.facts)
        points = grid(axes(self.config.space))
        self.tried.append(list(dict.fromkeys(point["optimizer.lr"] for point in points)))
        for number, (point, seed) in enumerate((point, seed) for point in points for seed in (0, 1)):
            loss = (
                1
                + abs(math.log10(point["optimizer.lr"] / 0.1))
                + point["adapter.rank"] / 100
                + 1e-4 * (seed * number % 3)
            )
            record = TrialRecord(number, Status.FINISHED, seed, point, {}, heldout_loss_nats_per_token=loss)
            write_record(self.folder, record)
        return 2 * len(points)


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[list[float]]]:
    TableDriver.tried.clear()
    monkeypatch.setattr("sweeplab.cli.recommend.Driver", TableDriver)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield TableDriver.tried


def recommend(folder: Path, *typed: str) -> tuple[bool, str]:
    overrides = check_arguments(["action=recommend", f"study.runs_dir={folder}", *typed])
    config, shown = to_study_config(compose_conf(overrides), NAME, overrides), io.StringIO()
    return recommend_setting(Request(config, overrides, ""), Console(file=shown, width=120)), shown.getvalue()


def test_rates_are_added_until_the_best_lies_between_others(tried: list[list[float]], tmp_path: Path) -> None:
    finished, shown = recommend(tmp_path)
    first = [0.003, 0.01, 0.001, 0.03, 0.0003]
    assert finished
    assert tried == [first, [*first, 0.1, 0.3]]
    assert "The best rate lies at an end of what was tried: 0.1 and 0.3 too." in shown


def test_the_same_command_goes_on_with_the_rates_that_it_had(tried: list[list[float]], tmp_path: Path) -> None:
    recommend(tmp_path)
    before = tried[-1]
    recommend(tmp_path)
    assert tried[-1] == before


def test_rates_of_the_command_are_taken_as_they_are(tried: list[list[float]], tmp_path: Path) -> None:
    recommend(tmp_path, "space.optimizer.lr.choices=[1e-3,2e-3]")
    assert tried == [[0.001, 0.002]]


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("sampler=grid", "sampler must be race for action=recommend, which sends seeds where the contest is, got grid"),
        ("space.optimizer.lr=1e-3", "space.optimizer.lr must hold choices, or low and high, got 0.001"),
        ("study.budget=20", "study.budget must be a time above 0 with its unit"),
    ],
)
def test_what_it_cannot_be_is_refused(tried: list[list[float]], tmp_path: Path, typed: str, words: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        recommend(tmp_path, typed)
    assert words in str(refusal.value)
    assert tried == []


def test_an_experiment_of_one_s_own_is_not_replaced() -> None:
    assert check_arguments(["action=recommend"])[0] == "+experiment=recommend"
    assert check_arguments(["+experiment=rank_sweep", "action=recommend"])[0] == "+experiment=rank_sweep"
