"""What `action=recommend` tries: published rates first, and further ones beyond both ends of them."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from hydra import initialize_config_dir
from rich.console import Console

from sweeplab.cli.arguments import check_arguments
from sweeplab.cli.recommend import recommend_setting
from sweeplab.config.compose import Request, compose_conf, to_study_config
from sweeplab.config.conf import CONF
from sweeplab.execution.driver import Driver
from sweeplab.records.record import RaceGoal, Status, StudyFacts, TrialRecord
from sweeplab.records.store import write_facts, write_record
from sweeplab.runtime.errors import ConfigError

NAME: Final = "advice"


class NotedDriver(Driver):
    """A driver that trains nothing; it notes the rates that it was given."""

    tried: Final[list[dict[str, Any]]] = []

    def run(self) -> int:
        self.tried.append(self.facts.space.get("optimizer.lr", {}))
        return 1


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    NotedDriver.tried.clear()
    monkeypatch.setattr("sweeplab.cli.recommend.Driver", NotedDriver)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield NotedDriver.tried


def recommend(folder: Path, *typed: str) -> bool:
    overrides = check_arguments(["action=recommend", f"study.runs_dir={folder}", *typed])
    config = to_study_config(compose_conf(overrides), NAME, overrides)
    return recommend_setting(Request(config, overrides, ""), Console(file=io.StringIO(), width=120))


def test_published_rates_come_first_and_further_ones_follow(tried: list[dict[str, Any]], tmp_path: Path) -> None:
    assert recommend(tmp_path)
    rates = [0.003, 0.01, 0.001, 0.03, 0.0003]
    assert tried == [{"choices": [*rates, 0.1, 1e-4, 0.3, 3e-5, 1, 1e-5], "begin": 5}]


LOSS: Final = "heldout_loss_nats_per_token"


def write_earlier(folder: Path, losses: dict[tuple[float, int], float]) -> None:
    """A study `old` in `folder` with losses by rate and seed."""
    write_facts(folder / "old", StudyFacts("old", None, "", {LOSS: "minimize"}, [0, 1], {}, None, {}))
    for number, ((rate, seed), loss) in enumerate(losses.items()):
        params, config = {"optimizer.lr": rate}, {"optimizer": {"lr": rate}}
        record = TrialRecord(number, Status.FINISHED, seed, params, config, heldout_loss_nats_per_token=loss)
        write_record(folder / "old", record)


def test_an_earlier_study_s_best_rate_comes_first(tried: list[dict[str, Any]], tmp_path: Path) -> None:
    write_earlier(
        tmp_path, {(1e-2, 0): 2.0, (1e-4, 0): 1.5, (1e-4, 1): 1.5, (1e-3, 0): 1.0, (3e-4, 0): 1.4, (3e-4, 1): 1.5}
    )
    assert recommend(tmp_path, "study.warm_start=old")  # 1e-3 has a single seed
    assert tried[0]["choices"][:5] == [3e-4, 1e-3, 1e-4, 3e-3, 3e-5]


def test_an_earlier_study_that_would_not_count_is_refused(tried: list[dict[str, Any]], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"study\.warm_start must be another study in"):
        recommend(tmp_path, "study.warm_start=old")
    write_earlier(tmp_path, {})
    with pytest.raises(ConfigError, match=r"must have a finished trial with a learning rate, got old"):
        recommend(tmp_path, "study.warm_start=old")
    write_earlier(tmp_path, {(1e-2, 0): 2.0})
    with pytest.raises(ConfigError, match=r"gives action=recommend its first rates, and optimizer\.lr"):
        recommend(tmp_path, "study.warm_start=old", "optimizer.lr=1e-3")
    assert tried == []


def test_rates_of_the_command_are_taken_as_they_are(tried: list[dict[str, Any]], tmp_path: Path) -> None:
    recommend(tmp_path, "space.optimizer.lr.choices=[1e-3,2e-3]")
    assert tried == [{"choices": [0.001, 0.002]}]


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("sampler=grid", "sampler must be race for action=recommend, which sends seeds where the contest is, got grid"),
        ("space.optimizer.lr=1e-3", "space.optimizer.lr must hold choices, or low and high, got 0.001"),
        ("study.budget=20", "study.budget must be a time above 0 with its unit"),
    ],
)
def test_what_it_cannot_be_is_refused(tried: list[dict[str, Any]], tmp_path: Path, typed: str, words: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        recommend(tmp_path, typed)
    assert words in str(refusal.value)
    assert tried == []


def test_an_experiment_of_one_s_own_is_not_replaced() -> None:
    assert check_arguments(["action=recommend"])[0] == "+experiment=recommend"
    assert check_arguments(["+experiment=rank_sweep", "action=recommend"])[0] == "+experiment=rank_sweep"


@pytest.mark.parametrize("is_decided", [True, False])
def test_what_is_decided_is_exported(
    tried: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, is_decided: bool
) -> None:
    exported: list[Request] = []
    monkeypatch.setattr("sweeplab.cli.recommend.export_study", lambda request, console: exported.append(request))
    study = tmp_path / NAME
    space = {"adapter.rank": {"choices": [4, 16]}}
    loss = "heldout_loss_nats_per_token"
    write_facts(
        study, StudyFacts(NAME, None, "", {loss: "minimize"}, [0, 1], space, None, {}, race=RaceGoal(0.5, 0.95))
    )
    losses = {(4, 0): 2.0, (16, 0): 1.0, (4, 1): 2.01, (16, 1): 1.01} if is_decided else {(4, 0): 2.0, (16, 0): 1.0}
    for number, ((rank, seed), value) in enumerate(losses.items()):
        record = TrialRecord(
            number, Status.FINISHED, seed, {"adapter.rank": rank}, {}, heldout_loss_nats_per_token=value
        )
        write_record(study, record)
    path = tmp_path / "adapter"
    assert recommend(tmp_path, f"export.path={path}")
    assert [(one.config.trial, one.config.export.path) for one in exported] == [("best", str(path))] * is_decided
