"""Foreign and damaged files: one line that names the file, never a traceback, whatever reads them."""

import io
import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from rich.console import Console

import sweeplab
from sweeplab.analysis import analyze
from sweeplab.cli.compare import compare_studies
from sweeplab.cli.watch import Watcher, draw_study
from sweeplab.records.store import StoreError, record_path, write_json
from sweeplab.report import rebuild_report
from sweeplab.runtime.errors import ConfigError
from tests.hostile import answer

REAL: Final = Path(sweeplab.__file__).parents[1] / "reports" / "rank_lr" / "records.json"
QUICK: Final = 4
FEW: Final = 5  # records, of which no forest of trees is made, which takes time
THOUSANDS: Final = 3000
ODD: Final[tuple[Any, ...]] = (
    *(None, True, 0, -1, 3, 1e300, -1e-300, 10**30, float("nan"), float("inf"), "", "nan", "a.b.c", "\ud800", "\x00"),
    *([], {}, [[]], [None], {"a": 1}, {"": {}}, [1, "x"], "scores.a.b", "minimize", "data", {"low": 1, "high": 0}),
    *({"choices": 3}, {"choices": [{}]}, {"value": 2, "stderr": -1, "num_items": 0}, 0.5, 2**70, "9" * 400),
)
Paths = list[tuple[Any, ...]]


def real_study() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The study, and eight of its records: two ranks, two rates and two seeds."""
    stored = json.loads(REAL.read_text())
    varied = {"adapter.rank": (1, 8), "optimizer.lr": (0.001, 0.003)}
    kept = [one for one in stored["records"] if all(one["params"][key] in values for key, values in varied.items())]
    assert len(kept) == 8
    return stored["study"], kept


def places(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value within `value`, and to itself; of long lists to the first two."""
    yield before
    inner = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, one in inner:
        yield from places(one, (*before, key))


def damaged(value: Any, place: tuple[Any, ...], kind: str, odd: Any) -> Any:
    """A copy in which one value is gone, is another one, or has another name or one more beside it."""
    if not place:
        return odd
    copy = deepcopy(value)
    holder = copy
    for key in place[:-1]:
        holder = holder[key]
    if kind == "gone":
        del holder[place[-1]]
    elif kind == "renamed" and isinstance(holder, dict):
        holder["renamed"] = holder.pop(place[-1])
    elif kind == "more" and isinstance(holder, dict):
        holder["more"] = odd
    else:
        holder[place[-1]] = odd
    return copy


STUDY, RECORDS = real_study()
STUDY_PLACES: Paths = list(places(STUDY))
RECORD_PLACES: Paths = list(places(RECORDS[0]))
damages = st.one_of(
    st.tuples(st.just(True), st.sampled_from(STUDY_PLACES)), st.tuples(st.just(False), st.sampled_from(RECORD_PLACES))
)
kinds = st.sampled_from(("gone", "other", "other", "other", "renamed", "more"))


def fuzzing(most: int) -> settings:
    return settings(
        max_examples=most,
        derandomize=True,
        database=None,
        deadline=None,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )


def put(folder: Path, study: Any, first: Any, num_records: int) -> None:
    """The study in `folder`, its first record replaced; what is written need not be strict JSON."""
    for record in RECORDS[:num_records]:
        path = record_path(folder, record["number"])
        if not path.exists():
            write_json(path, record)
    record_path(folder, RECORDS[0]["number"]).write_text(json.dumps(first))
    (folder / "study.json").write_text(json.dumps(study))


def readers(runs: Path) -> list[Callable[[], object]]:
    """Everything that reads a study's files without training."""
    folder, reports = runs / "damaged", runs.parent / "reports"
    other = runs / "whole"

    def watch() -> None:
        seen = Watcher(folder).look()
        assert seen is not None
        Console(file=io.StringIO(), width=120).print(draw_study(seen, 0.0))

    return [
        lambda: rebuild_report(folder, reports / "damaged"),
        lambda: compare_studies(["damaged", other.name], runs, reports, uncontrolled=True),
        watch,
        lambda: analyze(folder, reports, lambda text: None),
    ]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("damaged") / "runs"
    put(made / "whole", STUDY, RECORDS[0], 1)
    return made


def check(runs: Path, damage: tuple[bool, tuple[Any, ...]], kind: str, odd: Any, num_records: int) -> None:
    """Each reader either does its work or says in one line which file is at fault."""
    of_study, place = damage
    study = damaged(STUDY, place, kind, odd) if of_study else STUDY
    first = RECORDS[0] if of_study else damaged(RECORDS[0], place, kind, odd)
    put(runs / "damaged", study, first, num_records)
    refusals = [refusal for read in readers(runs) if (refusal := refused(read)) is not None]
    assert all("\n" not in str(one) for one in refusals)
    assert all(isinstance(one, ConfigError) or ".json" in str(one) for one in refusals)


def refused(read: Callable[[], object]) -> Exception | None:
    """The refusal; None where it was read. Anything else that is raised is a finding."""
    try:
        read()
    except (StoreError, ConfigError) as refusal:
        return refusal
    return None


@fuzzing(QUICK)
@given(damage=damages, kind=kinds, odd=st.sampled_from(ODD))
@example((True, ("objectives",)), "other", {"scores.a.b": "minimize"})
@example((True, ("claims", 0)), "other", {})
@example((True, ("space", "adapter.rank")), "other", {"choices": [1]})
@example((False, ("config", "training")), "gone", None)
@example((False, ("params", "optimizer.lr")), "other", "fast")
@example((False, ("provenance",)), "other", {})
@example((False, ("heldout_loss_nats_per_token",)), "other", float("nan"))
@example((False, ("number",)), "other", 1)
def test_a_damaged_file_is_named_or_does_not_matter(
    runs: Path, damage: tuple[bool, tuple[Any, ...]], kind: str, odd: Any
) -> None:
    check(runs, damage, kind, odd, FEW)


@pytest.mark.slow
@fuzzing(THOUSANDS)
@given(damage=damages, kind=kinds, odd=st.sampled_from(ODD))
def test_thousands_of_damaged_files(runs: Path, damage: tuple[bool, tuple[Any, ...]], kind: str, odd: Any) -> None:
    check(runs, damage, kind, odd, len(RECORDS))


@pytest.mark.parametrize("action", ["report", "analyze", "watch"])
@pytest.mark.parametrize("name", ["study.json", "record.json"])
def test_the_command_line_says_which_file_in_one_line_and_exits_with_2(tmp_path: Path, action: str, name: str) -> None:
    foreign = {"weather": ["rain", 3]}
    put(tmp_path / "runs" / "mine", STUDY, RECORDS[0], FEW)
    path = tmp_path / "runs" / "mine" / name if name == "study.json" else record_path(tmp_path / "runs" / "mine", 0)
    path.write_text(json.dumps(foreign))
    once = ["watch.once=true"] if action == "watch" else []
    said = answer([f"action={action}", "study.name=mine", *once], tmp_path)
    assert said.code == 2
    assert said.err.count("\n") == 1
    assert str(path.relative_to(tmp_path)) in said.err
