"""Shorter words: `model=DIR`, `model=ORG/NAME`, `data=FILE`, `export=true`, `--json`."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sweeplab.cli.slips import refuse_missing_path
from sweeplab.config.conf import options

JSON_FLAG: Final = "--json"
_HUB_NAME: Final = re.compile(r"[\w.-]+/[\w.-]+")
_DATA_FILE: Final = re.compile(r".+\.(json|jsonl|csv|tsv|parquet)", re.IGNORECASE)


def write_out(arguments: Sequence[str]) -> list[str]:
    """The arguments with shorter words written out; an option's name is that option, whatever lies beside it."""
    return [long for argument in arguments for long in _write_out_one(argument, arguments)]


def _write_out_one(argument: str, arguments: Sequence[str]) -> list[str]:
    if argument == JSON_FLAG:
        return ["output=json"]
    group, equals, value = argument.partition("=")
    if argument == "export=true":
        return [f"export.path=exports/{_find_study_name(arguments)}"]
    if group not in ("model", "data") or not equals or value in options(group):
        return [argument]
    path = Path(value).expanduser()
    if group == "model" and path.is_dir():
        return ["model=local", f"model.path={value}"]
    if group == "data" and (_DATA_FILE.fullmatch(value) or path.is_file()):
        return ["data=json", f"data.path={value}"]
    refuse_missing_path(group, value)
    return [f"{group}=hub", f"{group}.name={value}"] if _HUB_NAME.fullmatch(value) else [argument]


def _find_study_name(arguments: Sequence[str]) -> str:
    given = dict(one.lstrip("+").partition("=")[::2] for one in arguments)
    return given.get("study.name") or given.get("experiment") or "recommend"
