"""What README, docs/ and the other pages name exists, and the commands that they show pass the checks of a study."""

import re
import shlex
from pathlib import Path
from typing import Final

import pytest

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


@pytest.mark.parametrize(
    "page", [page for page in PAGES if commands(page)], ids=lambda page: str(page.relative_to(ROOT))
)
def test_the_commands_pass_the_checks(page: Path, tmp_path: Path) -> None:
    for overrides in commands(page):
        check_command(overrides, tmp_path)
