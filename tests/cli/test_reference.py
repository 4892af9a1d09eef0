"""docs/configuration.md is current, and names every key and every option."""

from pathlib import Path

from sweeplab.cli.reference import write_page
from sweeplab.config.conf import is_group, options
from sweeplab.config.schema import schema_keys

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_the_committed_page_is_current() -> None:
    """Else: python -m sweeplab.cli.reference > docs/configuration.md."""
    assert PAGE.read_text(encoding="utf-8") == write_page()


def test_the_page_names_every_key_and_every_option() -> None:
    cells = {line.partition("`")[2].partition("`")[0] for line in PAGE.read_text(encoding="utf-8").splitlines()}
    named = {cell.partition("=")[0] for cell in cells}
    sections = {key.partition(".")[0] for key in schema_keys() if "." in key}
    assert schema_keys().keys() - sections <= named
    assert {f"{key}={name}" for key in sections if is_group(key) for name in options(key)} <= cells
