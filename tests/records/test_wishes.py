"""Wishes: a file each, whole or not at all; asking twice is asking once."""

from pathlib import Path

import pytest

from sweeplab.records.store import partial_of
from sweeplab.records.wishes import (
    AddSeed,
    StopStudy,
    StopTrial,
    Wish,
    list_wish_files,
    read_wishes,
    remove_wish,
    write_wish,
)

EVERY: list[Wish] = [AddSeed(3, 5), StopStudy("abc"), StopTrial(7)]


def test_wishes_are_read_as_they_were_written_and_are_gone_once_removed(tmp_path: Path) -> None:
    assert read_wishes(tmp_path) == ([], {})
    for wish in (*EVERY, *EVERY):
        write_wish(tmp_path, wish)
    assert read_wishes(tmp_path) == (EVERY, {})
    remove_wish(tmp_path, EVERY[0])
    remove_wish(tmp_path, EVERY[0])
    assert read_wishes(tmp_path) == (EVERY[1:], {})


def test_a_file_that_is_being_written_is_no_wish_yet(tmp_path: Path) -> None:
    write_wish(tmp_path, StopTrial(7))
    half = partial_of(tmp_path / "wishes" / StopTrial(8).file_name)
    half.write_text('{"kind": "stop_tr')
    assert list_wish_files(tmp_path) == ["stop-trial-7.json"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "Expecting property name"),
        ("[]", "no kind that is known"),
        ('{"kind": "run_code", "trial": 7}', "no kind that is known"),
        ('{"kind": "stop_trial"}', "trial"),
        ('{"kind": "stop_trial", "trial": "7"}', "trial is malformed"),
        ('{"kind": "stop_trial", "trial": true}', "trial is malformed"),
        ('{"kind": "stop_trial", "trial": 7, "more": 1}', "more"),
        ('{"kind": "stop_trial", "trial": 8}', "it is stop-trial-8.json"),
        ('{"kind": "add_seed", "trial": 7, "seed": 1}', "it is seed-1-of-trial-7.json"),
        ("[" * 100_000, "recursion"),
    ],
)
def test_a_damaged_or_foreign_file_is_named_and_the_others_are_read(text: str, reason: str, tmp_path: Path) -> None:
    write_wish(tmp_path, AddSeed(3, 5))
    path = tmp_path / "wishes" / "stop-trial-7.json"
    path.write_text(text)
    wishes, damaged = read_wishes(tmp_path)
    assert wishes == [AddSeed(3, 5)]
    assert list(damaged) == [path]
    assert reason in damaged[path]
