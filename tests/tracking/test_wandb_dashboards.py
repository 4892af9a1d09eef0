"""W&B online, against a stand-in of its API on loopback: what it is told is what the records say, and no more."""

import json
import re
import socket
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from sweeplab.records.claim import ClaimConfig
from sweeplab.records.record import BaseScore, Phase, Status, StudyFacts, TrialRecord
from sweeplab.records.store import read_base_scores, read_facts, read_records
from sweeplab.report import find_answer
from sweeplab.report.evidence.formatting import describe_params
from sweeplab.report.evidence.stored import StoredStudy
from sweeplab.report.templating import escape_markdown
from sweeplab.tracking.tracker import ReportedStudy
from sweeplab.tracking.wandb_dashboards import (
    _REPORT,
    _WORKSPACE,
    _build_sections,
    _import_packages,
    _write_claims_text,
    publish,
)
from sweeplab.tracking.wandb_report import _list_claim_rows, _list_trial_rows
from sweeplab.tracking.wandb_runs import _summarize_record
from tests.study_runs import QUICK, WITH_STANDIN, Standin, running, wait_until
from tests.tracking.test_wandb_runs import curve_of, leet
from tests.tracking.wandb_server import ENTITY, KEY, Told, serving

STUDY: Final = (
    *(one for one in QUICK if not one.startswith("tracking")),
    "tracking.mode=online",
    "study.question=Which rank?",
    "space.adapter.rank.choices=[4,8]",
)
LOSS: Final = "heldout_loss_nats_per_token"
PRIVATE: Final = {"USER": "zaphod-beeblebrox", "SECRET_TOKEN": "token-7d1f0c9a55e34b"}
GONE: Final = """
import sys, time
from pathlib import Path
from sweeplab.config.tracking import WandbTracking
from sweeplab.config.trial import TrialConfig
from sweeplab.records.record import Status, TrialRecord
from sweeplab.tracking import wandb_runs as tracking

tracking._INIT_SECONDS, tracking._FINISH_SECONDS = 1.0, 1.0
folder = Path(sys.argv[1])
tracker = tracking.build_tracker(WandbTracking(mode="online", project="sweeplab"), "study", folder, print)
config = TrialConfig.model_construct()
tracker.started(0, {}, 0, config)
(folder / "begun").touch()
while not (folder / "gone").exists():
    time.sleep(0.02)
for number in (0, 1, 2):
    if number:
        tracker.started(number, {}, 0, config)
    tracker.observed(number, 1, {"train_loss": 3.0, "num_steps": 1})
    tracker.ended(TrialRecord(number, Status.FINISHED, 0, {}, {}))
    print("ended", number)
tracker.interrupted()
"""


class Online(NamedTuple):
    """A study that was mirrored online, with what the server was told."""

    folder: Path
    told: Told

    @property
    def records(self) -> list[TrialRecord]:
        return read_records(self.folder / "runs" / "single")

    @property
    def found(self) -> ReportedStudy:
        facts = read_facts(self.folder / "runs" / "single")
        assert facts is not None
        folder = self.folder / "runs" / "single"
        page = self.folder / "reports" / "single" / "report.html"
        return ReportedStudy(facts, self.records, None, read_base_scores(folder), page)

    def run_of(self, record: TrialRecord) -> str:
        return self.told.run_named(f"{describe_params(record.params)} seed={record.seed}")


@pytest.fixture(scope="module")
def online(tmp_path_factory: pytest.TempPathFactory) -> Online:
    folder = tmp_path_factory.mktemp("online")
    (folder / "standin").mkdir()
    standin, told = Standin(folder / "standin"), Told()
    with serving(told) as url:
        variables = {**PRIVATE, "STANDIN": str(standin.program), "WANDB_BASE_URL": url, "WANDB_API_KEY": KEY}
        with running([sys.executable, "-c", WITH_STANDIN, *STUDY], folder, **variables) as study:
            _, err = study.communicate(timeout=200)
    assert (study.returncode, err) == (0, "")
    return Online(folder, told)


def without_empty(values: dict[str, Any]) -> dict[str, Any]:
    """W&B keeps the leaves of nested mappings, so that an empty one is gone."""
    inner = {key: without_empty(one) if isinstance(one, dict) else one for key, one in values.items()}
    return {key: one for key, one in inner.items() if one != {}}


def test_every_trial_is_a_run_that_says_what_its_record_says(online: Online) -> None:
    assert {run["groupName"] for run in online.told.runs.values()} == {"single"}
    assert sorted(run["jobType"] for run in online.told.runs.values()) == ["report", "trial", "trial"]
    assert set(online.told.exit_codes.values()) == {0}
    for record in online.records:
        run = online.run_of(record)
        config = {key: part["value"] for key, part in json.loads(online.told.runs[run]["config"]).items()}
        assert config["params"] == record.params
        assert config["config"] == without_empty(record.config)
        said = {key: value for key, value in online.told.summary[run].items() if not key.startswith("_")}
        assert said.pop("heldout_loss") == {"min": min(point.loss for point in record.heldout_losses)}
        assert said.pop("train_loss") == {"last": record.losses[-1].loss}
        assert said == _summarize_record(record)
        rows = online.told.history[run]
        assert {step: {k: v for k, v in row.items() if k[0] != "_"} for step, row in rows.items()} == curve_of(record)


def test_the_report_is_an_artifact_with_the_files_as_they_are(online: Online) -> None:
    (artifact,) = [one for one in online.told.artifacts if one["artifactTypeName"] == "report"]
    assert artifact["artifactCollectionName"] == "single-report"
    for name in ("report.html", "report.md", "records.json"):
        assert online.told.stored[f"artifact/{name}"] == (online.found.page.parent / name).read_bytes()


def test_the_table_of_trials_is_the_records(online: Online) -> None:
    table = json.loads(online.told.stored["artifact/trials.table.json"])
    assert table["columns"] == ["trial", "seed", "status", "reason", "adapter.rank", "heldout_loss_nats_per_token"]
    assert table["data"] == [
        [one.number, one.seed, "finished", None, one.params["adapter.rank"], one.heldout_loss_nats_per_token]
        for one in online.records
    ]


def test_no_secret_and_nothing_of_machine_or_user_is_sent(online: Online) -> None:
    own = [KEY, *PRIVATE.values(), str(online.folder), f"{Path.home()}/", sys.executable]
    host = re.compile(rf"(?<!\w){re.escape(socket.gethostname())}(?!\w)".encode())
    for body in online.told.bodies:
        assert [secret for secret in own if secret.encode() in body] == []
    page = online.found.page.read_bytes()  # has a library of JavaScript in it, and with it any short word
    told = [body for body in online.told.bodies if len(body) < len(page) / 2]
    assert len(told) > 10
    assert [body for body in told if host.search(body)] == []


def looked_up(accessor: str, config: dict[str, Any], said: dict[str, Any]) -> Any:
    """What W&B finds of a run where a panel names `accessor`."""
    kind, _, path = accessor.partition(":")
    if kind == "summary":
        return said[path]
    value: Any = config
    for part in path.split("."):
        value = value[part]
    return value


def test_panels_name_what_the_runs_have(online: Online) -> None:
    workspace = json.loads((online.found.page.with_name(_WORKSPACE)).read_text())
    sections = workspace["spec"]["section"]["panelBankConfig"]["sections"]
    answer, bars = sections[0]["panels"]
    assert sections[0]["name"] == "The answer"
    told = json.loads(online.found.page.with_name("answer.json").read_text())
    for sentence in [told["statement"], *told["warnings"]]:
        assert escape_markdown(sentence) in answer["config"]["value"]
    assert bars["config"]["metrics"] == ["heldout_loss_nats_per_token"]
    panels = {panel["viewType"]: panel["config"] for section in sections for panel in section["panels"]}
    columns = [column["accessor"] for column in panels["Parallel Coordinates Plot"]["columns"]]
    (runs,) = workspace["spec"]["section"]["runSets"]
    for record in online.records:
        run = online.run_of(record)
        config, said = json.loads(online.told.runs[run]["config"]), online.told.summary[run]
        values = [record.params["adapter.rank"], record.heldout_loss_nats_per_token]
        assert [looked_up(one, config, said) for one in columns] == values
        assert [looked_up(f"config:{one['name']}", config, said) for one in runs["grouping"]] == values[:1]
        assert said[panels["Parameter Importance"]["targetKey"]] == record.heldout_loss_nats_per_token
        assert any("heldout_loss" in row for row in online.told.history[run].values())
    assert [(one["key"]["name"], one["value"]) for one in runs["filters"]["filters"]] == [
        ("group", "single"),
        ("jobType", "trial"),
    ]


def test_workspace_and_report_are_sent_as_they_are_kept(online: Online) -> None:
    for name, kind, view in zip((_WORKSPACE, _REPORT), ("project-view", "runs"), online.told.views, strict=True):
        kept = json.loads(online.found.page.with_name(name).read_text())
        assert json.loads(view["spec"]) == kept["spec"]
        assert (view["type"], view["entityName"], view["projectName"]) == (kind, ENTITY, "sweeplab")
    assert "Which rank?" in online.told.views[1]["spec"]


def test_what_is_sent_again_replaces_what_was_sent(online: Online) -> None:
    publish(online.found, "sweeplab", ENTITY, online=False)
    kept = [json.loads(online.found.page.with_name(name).read_text())["id"] for name in (_WORKSPACE, _REPORT)]
    assert kept == ["V1", "V2"]


def test_a_server_that_goes_away_costs_no_trial_and_no_long_wait(tmp_path: Path) -> None:
    told = Told()
    with ExitStack() as server:
        variables = {"WANDB_BASE_URL": server.enter_context(serving(told)), "WANDB_API_KEY": KEY}
        with running([sys.executable, "-c", GONE, str(tmp_path)], tmp_path, **variables) as process:
            wait_until((tmp_path / "begun").exists)
            server.close()
            (tmp_path / "gone").touch()
            out, err = process.communicate(timeout=80)
    assert (process.returncode, err) == (0, "")
    lines = out.splitlines()
    assert [line for line in lines if line.startswith("ended")] == ["ended 0", "ended 1", "ended 2"]
    (switched,) = [line for line in lines if line.startswith("W&B is gone")]
    kept = f"{tmp_path}/wandb"
    assert switched.endswith(f"from study seed=0 on runs are kept offline, later: wandb sync {kept}/offline-run-*")
    assert lines[-1].startswith(f"W&B did not take all of 1 runs; later: wandb sync {kept}/run-")
    (cut_off,) = Path(lines[-1].partition("wandb sync ")[2]).glob("*.wandb")
    assert 3.0 in [record["history"]["item"].get("train_loss") for record in leet(cut_off) if "history" in record]
    assert len(list(tmp_path.glob("wandb/offline-run-*/*.wandb"))) == 2


def test_a_server_that_is_not_there_is_one_clear_error(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        variables = {"WANDB_BASE_URL": f"http://127.0.0.1:{taken.getsockname()[1]}", "WANDB_API_KEY": KEY}
        with running([sys.executable, "-c", GONE, str(tmp_path)], tmp_path, **variables) as process:
            _, err = process.communicate(timeout=80)
    last = err.strip().splitlines()[-1]
    assert last.startswith(
        "sweeplab.runtime.errors.ConfigError: tracking.mode=online: W&B cannot be reached or refuses: "
    )
    assert last.endswith("; use tracking.mode=offline or tracking=none")


@pytest.fixture
def claimed() -> ReportedStudy:
    """Two ranks with three seeds each and memory; rank 8 is said to be better, and to be the same."""
    records = [
        TrialRecord(
            number,
            Status.FINISHED,
            seed,
            {"adapter.rank": rank},
            {},
            phases={"train": Phase(1.0, peak_resident_bytes=1000 * rank)},
            heldout_loss_nats_per_token=2.0 / rank + 0.001 * rank * (seed - 1),
        )
        for number, (rank, seed) in enumerate((rank, seed) for rank in (4, 8) for seed in (0, 1, 2))
    ]
    ranks: list[dict[str, Any]] = [{"adapter.rank": 8}, {"adapter.rank": 4}]
    claims = [
        ClaimConfig(words="more is better", source="me", metric=LOSS, better=ranks[0], worse=ranks[1], published=-0.3),
        ClaimConfig(words="it is all the same", source="you", metric=LOSS, same=ranks, margin=0.01),
    ]
    facts = StudyFacts(
        "study",
        None,
        "run it",
        {LOSS: "minimize"},
        [0, 1, 2],
        {"adapter.rank": {"choices": [4, 8]}},
        6,
        {},
        [claim.model_dump() for claim in claims],
    )
    return ReportedStudy(facts, records, None, [], Path("report.html"))


def test_the_workspace_says_of_the_base_what_the_answer_says(claimed: ReportedStudy) -> None:
    worse = claimed._replace(bases=[BaseScore("key", 0.2, {}, 1.0, {})])
    _, reports = _import_packages()
    said = _build_sections(reports, worse)["The answer"][0]._to_model().config.value
    answer = find_answer(StoredStudy(worse.facts, worse.records, None, worse.bases))
    assert answer.statement.startswith("No gain over the base")
    assert said.startswith(escape_markdown(answer.statement))


def test_claims_are_a_table_and_a_panel(claimed: ReportedStudy) -> None:
    columns, rows = _list_claim_rows(claimed)
    better, same = (dict(zip(columns, row, strict=True)) for row in rows)
    assert (better["verdict"], better["published"], same["verdict"]) == ("supported", -0.3, "contradicted")
    assert better["ours"] == pytest.approx(-0.25)
    assert better["low"] < better["ours"] < better["high"] < 0
    first, second = _write_claims_text(claimed).splitlines()
    assert first.startswith("- **supported**: more is better (me): difference -0.250 [")
    assert second.startswith("- **contradicted**: it is all the same (you)")


def test_the_score_is_drawn_against_the_memory_that_was_measured(claimed: ReportedStudy) -> None:
    _, reports = _import_packages()
    (panel,) = _build_sections(reports, claimed)["Score against memory"]
    config = panel._to_model().config
    assert config.x_axis == "summary:phases/train/peak_resident_bytes"
    assert config.y_axis == f"summary:{LOSS}"
    assert {config.x_axis[8:], config.y_axis[8:]} <= set(_summarize_record(claimed.records[0]))
    columns, rows = _list_trial_rows(claimed)
    assert columns[-2:] == [LOSS, "phases.train.peak_resident_bytes"]
    assert [row[-1] for row in rows] == [4000] * 3 + [8000] * 3
