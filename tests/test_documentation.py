"""What README, docs/ and the other pages name exists, and the commands that they show pass the checks of a study."""

import re
import shlex
import tomllib
from pathlib import Path
from typing import Final, get_args

import pytest

from sweeplab.config.study import StudyConfig
from tests.shown_commands import check_command

ROOT: Final = Path(__file__).parents[1]
PAGES: Final = [
    *(ROOT / name for name in ("README.md", "AGENTS.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "experiments").rglob("README.md")),
]
NAMES: Final = [str(page.relative_to(ROOT)) for page in PAGES]
LINK: Final = re.compile(r"\]\(([^)\s]+)\)")
OURS: Final = re.compile(r"(?<![\w/.-])(?:sweeplab|conf|tests|experiments|docs)/[\w./-]*[\w/]")
FENCE: Final = re.compile(r"^( *)```\w*\n(.*?)^\1```", re.DOTALL | re.MULTILINE)


def anchor(heading: str) -> str:
    """A heading's address within its page, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def has_anchor(page: Path, name: str) -> bool:
    return name in {anchor(line.lstrip("#")) for line in page.read_text().splitlines() if line.startswith("#")}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text()):
        if "://" in link:
            continue
        path, _, name = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not name or has_anchor(target, name), link


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_path_of_ours_exists(page: Path) -> None:
    """But names with a part for the reader to fill in, such as conf/experiment/NAME.yaml."""
    named = set(OURS.findall(re.sub(r"\S*(?:<\w+>|NAME|GROUP|…)\S*", "", page.read_text())))
    assert [one for one in sorted(named) if not (ROOT / one).exists()] == []


def test_every_extra_is_installed_from_the_code_with_its_pins() -> None:
    """The package is on no registry: `pip install sweeplab[...]` would fetch whatever somebody put there."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    known = {"-c constraints.txt -e .", *(f"-c constraints.txt -e '.[{name}]'" for name in extras)}
    for path in [*PAGES, *(ROOT / "sweeplab").rglob("*.py")]:
        typed = re.findall(r"pip install (?!optuna-dashboard)([^`\"\n]*?)(?= && |[`\",\n])", path.read_text())
        assert {line.replace("{name}", "ray") for line in typed} <= known, path


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 100


def test_the_readme_shows_the_two_commands_in_fences() -> None:
    blocks = [block.strip() for _, block in FENCE.findall((ROOT / "README.md").read_text())]
    assert "pip install -c constraints.txt -e . && python -m sweeplab +experiment=rank_sweep" in blocks
    assert "pip install -c constraints.txt -e '.[test]' && pytest" in blocks


def test_the_commands_of_the_readme_s_table_pass_the_checks(tmp_path: Path) -> None:
    table = (ROOT / "README.md").read_text().partition("| type after `python -m sweeplab` |")[2].partition("\n\n")[0]
    typed = [shlex.split(cell) for cell in re.findall(r"`([^`]+)`", table)]
    assert len(typed) > 10
    for words in typed:
        if words[0] != "--help":
            check_command(words, tmp_path)


def commands(page: Path) -> list[list[str]]:
    """The overrides of every `python -m sweeplab` in a page's blocks."""
    text = page.read_text()
    blocks = [block for _, block in FENCE.findall(text)] + re.findall(r"(?:^    .*\n)+", text, re.MULTILINE)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    shown = [line.partition("python -m sweeplab ")[2].partition("  #")[0] for line in lines]
    return [shlex.split(line) for line in shown if line and not line.startswith("[")]


def test_the_architecture_has_the_layers_that_are_checked() -> None:
    contract, *_ = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    text = (ROOT / "docs" / "architecture.md").read_text()
    _, shown = FENCE.findall(text.partition("## Layers")[2])[0]
    assert shown.splitlines() == contract["layers"]


def test_the_architecture_shows_every_room() -> None:
    _, shown = FENCE.findall((ROOT / "docs" / "architecture.md").read_text().partition("## Rooms")[2])[0]
    rooms = {path.parent.name for path in (ROOT / "sweeplab").glob("*/__init__.py")}
    assert set(re.findall(r"^  (\w+)/ ", shown, re.MULTILINE)) == rooms


def test_the_guide_lists_its_sections_and_every_action() -> None:
    text = (ROOT / "docs" / "guide.md").read_text()
    listed = text.partition("Contents:")[2].partition("\n\n")[0]
    assert re.findall(r"\(#([^)]+)\)", listed) == [anchor(one) for one in re.findall(r"^## (.*)", text, re.MULTILINE)]
    named = text.partition("- `action=` is ")[2].partition(". The command line")[0]
    assert set(re.findall(r"`(\w+)`", named)) == set(get_args(StudyConfig.model_fields["action"].annotation))


@pytest.mark.parametrize(
    "page", [page for page in PAGES if commands(page)], ids=lambda page: str(page.relative_to(ROOT))
)
def test_the_commands_pass_the_checks(page: Path, tmp_path: Path) -> None:
    for overrides in commands(page):
        check_command(overrides, tmp_path)
