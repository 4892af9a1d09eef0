"""The page docs/configuration.md: `python -m sweeplab.cli.reference > docs/configuration.md`."""

import re
from typing import Final

from sweeplab.cli.help import describe_key, name_with_default
from sweeplab.config.conf import options
from sweeplab.config.reference import Key, Part, describe_option, describe_part, part_names

_HEAD: Final = """\
# Configuration

Every key with its default, meaning, values and unit; `python -m sweeplab --help=GROUP` shows the same in a terminal.
A key stands on the command line as `key=value`, an option as `group=option`. A key that
has no effect with the chosen option is refused.

This page is generated: `python -m sweeplab.cli.reference > docs/configuration.md`.

An editor completes and checks the keys of an experiment with [schema.json](schema.json), where the YAML has this line:

    # yaml-language-server: $schema=../../docs/schema.json

It is generated too: `python -m sweeplab.config.editor_schema > docs/schema.json`.
"""


def write_page() -> str:
    """The page: every group with its options, and every key."""
    chapters = ["\n".join(_write_part(describe_part(name))) for name in part_names()]
    return "\n\n".join([_HEAD.rstrip(), "\n".join(_write_experiments()), *chapters]) + "\n"


def _escape_cell(text: str) -> str:
    """Text in one line of Markdown; the cells of a table within it are told apart by dots."""
    lines = [
        re.sub(" {2,}", " · ", line.strip()) for line in text.replace("|", r"\|").replace("<", "&lt;").splitlines()
    ]
    return "<br>".join(lines)


def _write_table(head: tuple[str, str], rows: list[tuple[str, str]]) -> list[str]:
    lines = [f"| `{_escape_cell(left)}` | {_escape_cell(right)} |" for left, right in rows]
    return [f"| {head[0]} | {head[1]} |", "| --- | --- |", *lines]


def _write_experiments() -> list[str]:
    rows = [(f"+experiment={one}", describe_option("experiment", one)) for one in options("experiment")]
    return ["## experiment", "", "A study that comes with sweeplab.", "", *_write_table(("option", "what"), rows)]


def _write_part(part: Part) -> list[str]:
    meaning = f"{part.meaning[0].upper()}{part.meaning[1:]}."
    found = [f"## {part.name}", "", meaning, ""]
    if part.options:
        rows = [(f"{part.name}={option}", words) for option, words in part.options.items()]
        found += [*_write_table(("option", "what"), rows), ""]
    return [*found, *_write_table(("key", "meaning"), [(name_with_default(key), _say(part, key)) for key in part.keys])]


def _say(part: Part, key: Key) -> str:
    """What `--help` says, and the options that have the key where not all do."""
    owners = f"; of {', '.join(key.defaults)}" if len(key.defaults) < len(part.options) else ""
    return f"{describe_key(key)}{owners}"


if __name__ == "__main__":
    print(write_page(), end="")
