"""Evaluation's batches are halved until they fit into memory."""

import pytest
import torch

from sweeplab.evaluation.halving import halve_until_it_fits
from sweeplab.runtime.process_group import ONE_PROCESS


def test_batches_are_halved_until_they_fit() -> None:
    tried, notes = list[int](), list[str]()

    def work(size: int) -> str:
        tried.append(size)
        if size > 3:
            raise torch.OutOfMemoryError("no room")
        return f"{size} rows"

    assert halve_until_it_fits(13, work, notes) == "3 rows"
    assert halve_until_it_fits(13, work, notes) == "3 rows"
    assert tried == [13, 6, 3] * 2
    assert notes == ["memory was short in evaluation: batches of 3 instead of evaluation.batch_size=13"]


def test_what_fits_is_not_noted() -> None:
    notes = list[str]()
    assert halve_until_it_fits(8, lambda size: size, notes) == 8
    assert notes == []


def test_no_process_halves_while_others_wait_for_it() -> None:
    def work(size: int) -> None:
        raise torch.OutOfMemoryError(f"no room for {size}")

    with pytest.raises(torch.OutOfMemoryError, match="for 4"):
        halve_until_it_fits(4, work, [], ONE_PROCESS._replace(size=2))


@pytest.mark.parametrize(("error", "tries"), [(torch.OutOfMemoryError("no room"), 3), (RuntimeError("a mistake"), 1)])
def test_it_gives_up_at_one_row_and_at_other_errors(error: Exception, tries: int) -> None:
    tried = list[int]()

    def work(size: int) -> None:
        tried.append(size)
        raise error

    with pytest.raises(type(error), match=str(error)):
        halve_until_it_fits(4, work, [])
    assert len(tried) == tries
