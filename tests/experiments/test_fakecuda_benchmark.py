"""The benchmark on fake CUDA tensors: its committed page is what its rows give, and a case counts what stands."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from experiments.benchmarks.fakecuda.__main__ import FOLDER, PARTS
from experiments.benchmarks.fakecuda.report import write_report
from experiments.benchmarks.fakecuda.roofline import CARDS, SHORTEST, sum_seconds
from tests.fakecuda.device import on_fake_cuda

ROOT = Path(__file__).parents[2]


def test_the_committed_page_is_what_its_rows_give(tmp_path: Path) -> None:
    parts = {part: json.loads((ROOT / FOLDER / f"{part}.json").read_text()) for part in PARTS}
    assert len(parts["memory"]) >= 12
    write_report(parts, tmp_path)
    assert (tmp_path / "report.md").read_text() == (ROOT / FOLDER / "report.md").read_text()


def test_an_operation_takes_its_bytes_or_its_arithmetic() -> None:
    """Of a product of 4,096 rows the arithmetic, of a copy the bytes, of one number the launch."""
    card, size = CARDS[0], 4096
    with on_fake_cuda() as meter:
        left, right = (torch.empty(size, size, dtype=torch.bfloat16, device="cuda") for _ in range(2))
        found = []
        works: list[Callable[[], torch.Tensor]] = [
            lambda: left @ right,
            lambda: left.clone(),
            lambda: left[:1, :1].clone(),
        ]
        for work in works:
            meter.reset()
            work()
            found.append(sum_seconds(meter, card))
    expected = [2 * size**3 / card.half_flops, 2 * 2 * size**2 / card.bytes, SHORTEST]
    assert found == pytest.approx(expected, rel=1e-9)
