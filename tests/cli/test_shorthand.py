"""Shorter words mean what the long ones do."""

from pathlib import Path

import pytest

from sweeplab.cli.arguments import check_arguments
from sweeplab.cli.shorthand import write_out
from sweeplab.config.compose import compose_conf
from sweeplab.config.conf import CONF
from tests.hostile import answer


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("model=base", ["model=local", "model.path=base"]),
        ("model=./base", ["model=local", "model.path=./base"]),
        ("model=HuggingFaceTB/SmolLM2-135M", ["model=hub", "model.name=HuggingFaceTB/SmolLM2-135M"]),
        ("model=tiny", ["model=tiny"]),
        ("model=nowhere", ["model=nowhere"]),
        ("data=mine.jsonl", ["data=json", "data.path=mine.jsonl"]),
        ("data=a b/mine.CSV", ["data=json", "data.path=a b/mine.CSV"]),
        ("data=answers", ["data=json", "data.path=answers"]),
        ("data=tatsu-lab/alpaca", ["data=hub", "data.name=tatsu-lab/alpaca"]),
        ("data=alpaca", ["data=alpaca"]),
        ("adapter.rank=4", ["adapter.rank=4"]),
    ],
)
def test_what_is_typed_is_written_out(
    typed: str, meant: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "tiny").mkdir()
    (tmp_path / "answers").write_text("[]")
    monkeypatch.chdir(tmp_path)
    assert write_out([typed]) == meant


def test_a_path_of_any_letters_arrives_as_it_was_typed(tmp_path: Path) -> None:
    from hydra import initialize_config_dir

    folder = tmp_path / "my model, [v1] = 'x'"
    folder.mkdir()
    file = folder / "a=b {c}.jsonl"
    with initialize_config_dir(str(CONF), version_base="1.3"):
        composed = compose_conf(check_arguments([f"model={folder}", f"data={file}"]))
    assert (composed.model.source, composed.model.path) == ("local", str(folder))
    assert (composed.data.source, composed.data.path) == ("json", str(file))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    code, _, err, _ = answer(["data=mine.jsonl", "action=plan"], tmp_path)
    assert code == 2
    assert "data.path must be a file, got mine.jsonl" in err


def test_a_folder_for_the_export_has_the_name_of_the_study() -> None:
    assert write_out(["action=recommend", "export=true"])[1] == "export.path=exports/recommend"
    assert write_out(["action=recommend", "study.name=mine", "export=true"])[2] == "export.path=exports/mine"
    assert write_out(["+experiment=rank_lr", "export=true"])[1] == "export.path=exports/rank_lr"
