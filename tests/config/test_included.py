"""A folder of tasks is read as text: its names, what leads to which file, and which functions a task would run."""

from pathlib import Path
from typing import Final

import pytest
import yaml

from sweeplab.config.compatible import check_trial
from sweeplab.config.given import refuse_code_of_files
from sweeplab.config.included import (
    check_code,
    check_folder,
    list_files,
    list_missing,
    list_names,
    list_read_files,
    list_unread,
    read_task_file,
)
from sweeplab.config.tasks import check_measured, check_task_names
from sweeplab.runtime.errors import ConfigError
from tests.evaluation.conftest import settings
from tests.study_runs import ComposeStudy, compose_study, hydra
from tests.trials import Compose

__all__ = ["compose_study", "hydra"]  # rooms of the study's tests

FILES: Final = {
    "plain.yaml": "task: my_plain\ntag: [my_tag, other_tag]\noutput_type: generate_until\n",
    "coded.yaml": "task: my_coded\ntag: my_tag\ninclude: _base\n",
    "_base": "output_type: generate_until\ndoc_to_text: !function utils.ask\n",
    "inner/group.yaml": "group: my_group\ntask:\n  - my_plain\n  - {group: nested, task: [{task: my_coded}]}\n",
    "data.yaml": "task: my_data\ndataset_kwargs: {data_files: {test: DATA}}\n",
    "broken.yaml": "task: [my_broken\n",
    "notes.yaml": "just a text\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> str:
    for name, text in FILES.items():
        path = tmp_path / "tasks" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("DATA", str(tmp_path / "items.jsonl")))
    (tmp_path / "items.jsonl").write_text("{}\n")
    (tmp_path / "tasks" / "utils.py").write_text("raise SystemExit('it has run')\n")
    (tmp_path / "tasks" / "__pycache__").mkdir()
    (tmp_path / "tasks" / "__pycache__" / "old.yaml").write_text("task: my_old\n")
    return str(tmp_path / "tasks")


def test_names_are_those_of_tasks_groups_and_tags(folder: str) -> None:
    assert list_names(folder) == [
        "my_coded", "my_data", "my_group", "my_plain", "my_tag", "nested", "other_tag"
    ]  # fmt: skip
    assert [one.partition(": ")[0].rpartition("/")[2] for one in list_unread(folder)] == ["broken.yaml", "notes.yaml"]


def test_files_are_lm_evals_own_choice(folder: str) -> None:
    from lm_eval.tasks import TaskManager
    from lm_eval.tasks._index import TaskIndex

    assert list_files(folder) == list(TaskIndex._iter_yaml_files(Path(folder)))
    known = TaskManager(include_path=folder, include_defaults=False).all_tasks
    assert set(known) == set(list_names(folder)) - {"nested"}  # which has no file of its own


def test_a_changed_file_is_read_again(folder: str) -> None:
    assert "my_new" not in list_names(folder)
    Path(folder, "plain.yaml").write_text("task: my_new\n")
    assert "my_new" in list_names(folder)


@pytest.mark.parametrize("name", ["my_coded", "my_tag", "my_group"])
def test_a_function_is_found_through_groups_tags_and_includes(name: str, folder: str) -> None:
    with pytest.raises(ConfigError, match=r"_base, line 2, names the Python function utils\.ask, which would run here"):
        check_code(folder, [name])


def test_what_leads_to_no_function_is_free(folder: str) -> None:
    check_code(folder, ["my_plain", "my_data", "other_tag", "hellaswag"])
    assert list_missing(folder, ["my_plain", "my_tag"]) == []
    assert list_missing(folder, ["my_plain", "hellaswag"]) == ["hellaswag"]
    assert list_missing(folder, ["my_group"]) == ["nested"]  # which its group defines, or lm-eval


def test_lm_evals_own_functions_are_a_part_of_lm_eval(tmp_path: Path) -> None:
    import lm_eval

    home = Path(str(lm_eval.__file__)).parent / "tasks" / "hellaswag" / "hellaswag.yaml"
    assert "!function" in home.read_text()
    (tmp_path / "mine.yaml").write_text(f"include: {home}\ntask: mine\n")
    check_code(str(tmp_path), ["mine"])
    (tmp_path / "mine.yaml").write_text(f"include: {home}\ntask: mine\nprocess_docs: !function os.system\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml, line 3, names the Python function os\.system"):
        check_code(str(tmp_path), ["mine"])


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("task: a\ninclude: itself.yaml\n", ValueError),
        ("task: a\ninclude: nowhere\n", OSError),
        ("task: &a [*a]\ngroup: b\n", None),  # a list within itself
        ("task: !!python/object/apply:os.system [true]\n", yaml.YAMLError),
    ],
)
def test_odd_files_end(text: str, error: type[Exception] | None, tmp_path: Path) -> None:
    path = tmp_path / "itself.yaml"
    path.write_text(text)
    if error is None:
        assert list(read_task_file(path).list_members()) == []
        return
    with pytest.raises(error):
        read_task_file(path)


def test_the_files_of_a_task_are_all_that_it_is_made_of(folder: str, tmp_path: Path) -> None:
    names = [str(path.relative_to(tmp_path)) for path in list_read_files(folder)]
    yaml_files = ["_base", "coded.yaml", "data.yaml", "inner/group.yaml", "plain.yaml", "utils.py"]
    assert names == ["items.jsonl", *[f"tasks/{name}" for name in yaml_files]]


def test_no_folder_and_no_yaml_are_refused(tmp_path: Path, compose_trial: Compose) -> None:
    with pytest.raises(ConfigError, match=r"^evaluation\.include_path must be a folder, got nowhere; check the path"):
        check_trial(compose_trial("evaluation.include_path=nowhere", "evaluation.tasks=[a]"))
    with pytest.raises(ConfigError, match=r"^evaluation\.include_path must hold lm-eval's tasks, .*\.yaml, got"):
        check_folder(str(tmp_path))


def test_an_unknown_name_is_refused_with_the_near_ones(folder: str) -> None:
    with pytest.raises(ConfigError, match=r"got my_plan; did you mean my_plain.*\?; \S*broken\.yaml: .*\(passed over"):
        check_task_names(["my_plan"], folder)
    with pytest.raises(ConfigError, match=r"got qqqq; it has my_coded, my_data"):
        check_task_names(["qqqq"], folder)
    check_task_names(["my_plain", "my_group", "my_tag", "hellaswag", "tiny_addition"], folder)
    Path(folder, "own.yaml").write_text("task: tiny_addition\n")
    with pytest.raises(ConfigError, match=r"include_path must not name a task as sweeplab does, got tiny_addition"):
        check_task_names(["tiny_addition"], folder)


def test_an_objective_may_be_a_task_of_a_group_of_the_folder(folder: str) -> None:
    check_measured("key", ["scores.my_plain.acc"], settings("my_group", include_path=folder))
    check_measured("key", ["scores.my_plain.acc"], settings("my_tag", include_path=folder))
    with pytest.raises(ConfigError, match=r"^key must name what evaluation\.tasks=\[my_group\] measures"):
        check_measured("key", ["scores.my_other.acc"], settings("my_group", include_path=folder))


def test_code_runs_only_where_the_command_line_says_so(folder: str, compose_study: ComposeStudy) -> None:
    asked = [f"evaluation.include_path={folder}", "evaluation.tasks=[my_coded]"]
    asked.append("study.objectives=[heldout_loss_nats_per_token]")
    with pytest.raises(ConfigError, match=r"names the Python function utils\.ask, .*evaluation\.include_code=true"):
        compose_study(*asked)
    assert compose_study(*asked, "evaluation.include_code=true").evaluation.include_code
    with pytest.raises(ConfigError, match=r"^evaluation\.include_code has no effect while evaluation\.include_path is"):
        compose_study("evaluation.include_code=true")


def test_neither_an_axis_nor_a_record_may_say_that_code_runs(folder: str, compose_trial: Compose) -> None:
    asked = [f"evaluation.include_path={folder}", "evaluation.tasks=[my_coded]"]
    must = r"^evaluation\.include_code must be typed: no experiment, axis or record may say that"
    with pytest.raises(ConfigError, match=must):
        compose_trial(*asked, **{"evaluation.include_code": True})
    config = compose_trial(*asked, "evaluation.include_code=true")
    refuse_code_of_files(config, ["evaluation.include_code=true"])
    for overrides in ([], ["~evaluation.include_code"], ["evaluation={include_code:true}"]):
        with pytest.raises(ConfigError, match=must):
            refuse_code_of_files(config, overrides)


def test_a_trial_without_a_folder_is_recorded_as_before_there_was_the_key(folder: str, compose_trial: Compose) -> None:
    asked = [f"evaluation.include_path={folder}", "evaluation.tasks=[my_plain]"]
    assert compose_trial(*asked).to_dict()["evaluation"]["include_path"] == folder
    assert not {"include_path", "include_code"} & compose_trial().to_dict()["evaluation"].keys()
