"""The GPU benchmark's logic on a CPU, with a shape that has nothing to measure."""

import json
import math
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
import torch

from experiments.benchmarks.gpu import cohorts, memory, peers, throughput
from experiments.benchmarks.gpu.__main__ import BUDGET_SECONDS, main, write_part
from experiments.benchmarks.gpu.cases import Case, NotMeasured, Row, run_cases
from experiments.benchmarks.gpu.ceiling import copy_bytes_per_second, driver, product_flops_per_second
from experiments.benchmarks.gpu.lengths import HISTOGRAM, alpaca_lengths, histogram
from experiments.benchmarks.gpu.report import cohorts_verdict, report
from experiments.benchmarks.gpu.trials import Laboratory, config_of
from sweeplab.runtime.provenance import describe_device, describe_software
from sweeplab.trial.profile import time_fastest

CPU: Final = torch.device("cpu")
TINY: Final = (
    "model=hub",
    "model.name=random",
    "model.random_init=true",
    "++model.architecture={model_type:llama,vocab_size:256,hidden_size:64,intermediate_size:96,num_hidden_layers:2,"
    "num_attention_heads:4,num_key_value_heads:4,max_position_embeddings:2048,tie_word_embeddings:false}",
)
CEILING: Final = 1e9
FACTS: Final[dict[str, Any]] = {
    "date": "2026-01-01",
    "driver": None,
    "device": describe_device(CPU),
    **describe_software(),
    "bf16_flops_per_second": CEILING,
    "copy_bytes_per_second": 1e9,
}


def kept(cases: list[Case], budget: float = 3600) -> list[Row]:
    return run_cases(cases, budget, lambda rows: None)


def case(name: str, measure: Any, seconds: float = 1) -> Case:
    return Case(name, seconds, {"what": name}, measure)


def test_every_failure_is_a_row_and_the_next_case_runs() -> None:
    def out_of_memory() -> Row:
        raise torch.OutOfMemoryError("CUDA out of memory.\nmore")

    def broken() -> Row:
        raise KeyError("kernel")

    def unfinished() -> Row:
        raise NotMeasured("diverged", "loss is nan")

    told: list[int] = []
    rows = run_cases(
        [case("a", out_of_memory), case("b", broken), case("c", unfinished), case("d", lambda: {"value": 3})],
        60,
        lambda rows: told.append(len(rows)),
    )
    assert [(row["case"], row["status"], row.get("reason")) for row in rows] == [
        ("a", "out_of_memory", "CUDA out of memory."),
        ("b", "failed", "KeyError: 'kernel'"),
        ("c", "diverged", "loss is nan"),
        ("d", "measured", None),
    ]
    assert (rows[3]["what"], rows[3]["value"]) == ("d", 3)
    assert told == [1, 2, 3, 4]


def test_what_would_not_end_in_time_is_left_out_and_said() -> None:
    rows = kept([case("long", lambda: {}, 50), case("short", lambda: {}, 1)], budget=10)
    assert [row["status"] for row in rows] == ["left_out", "measured"]
    assert rows[0]["reason"] == "50 s expected, 10 s of 10 left"


def test_estimates_stretch_by_what_was_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def slow() -> Row:
        now[0] += 0.2
        return {}

    rows = kept([case("slow", slow, 0.05), case("next", lambda: {}, 0.2)], budget=0.8)  # 0.2 x 4 is more than is left
    assert [row["status"] for row in rows] == ["measured", "left_out"]


def test_a_case_that_does_not_end_is_stopped_and_other_alarms_go_on() -> None:
    def forever() -> Row:
        while True:
            time.sleep(0.01)

    before = signal.getsignal(signal.SIGALRM)
    left = signal.getitimer(signal.ITIMER_REAL)[0]
    (row,) = kept([case("forever", forever, 0.1)], budget=0.3)
    assert (row["status"], row["reason"][:12]) == ("failed", "TimeoutError")
    assert signal.getsignal(signal.SIGALRM) is before
    after = signal.getitimer(signal.ITIMER_REAL)[0]
    assert (after > 0) == (left > 0)
    assert after <= left


@pytest.fixture(scope="module")
def tiny_parts() -> dict[str, list[Row]]:
    """Every kind of case of every part, once."""
    wanted = {"7B nf4_dq, checkpointing", "7B nf4, six toggles, rank 256, sgd", "7B bf16"}
    settings = [one for one in memory.SETTINGS if one.name in wanted]
    short = tuple(one._replace(shape=TINY, length=48, seconds=1) for one in settings)
    lab = Laboratory.on("cpu", cohort_size=1)
    grid = throughput.cases(lab, CEILING, TINY, ((1, 16), (1, 24), (1, 32)))
    skipped = ("compiled", "by cuDNN", "flash", "memory-efficient", "none, ", "Alpaca")
    few = config_of(TINY, *peers.SAME, "training.max_steps=3", "training.accumulation=2", "training.micro_batch_size=2")
    lengths = alpaca_lengths(12)
    packed = config_of(TINY, "data.packing=true", "training.max_length=720", "training.max_steps=1")
    return {
        "memory": kept(memory.cases(lab, short)),
        "throughput": kept(
            [
                *(one for one in grid if not any(word in one.name for word in skipped)),
                case("Alpaca's lengths, packed", partial(throughput.alpaca_speed, lab, packed)),
            ]
        ),
        "peers": kept([case("nf4_dq, Trainer", partial(peers.compared, lab, few, lengths, False))]),
        "cohorts": kept(cohorts.cases(lab, TINY, (16,), num_equal=2)),
    }


def test_every_kind_of_case_is_measured(tiny_parts: dict[str, list[Row]]) -> None:
    for rows in tiny_parts.values():
        assert {row["case"]: row.get("reason") for row in rows if row["status"] != "measured"} == {}


def test_settings_have_names_of_their_own_and_fit_a_part() -> None:
    assert len({one.name for one in memory.SETTINGS}) == len(memory.SETTINGS)
    assert sum(one.seconds for one in memory.SETTINGS) <= BUDGET_SECONDS


def test_memory_has_phases_and_the_plan_of_the_same_trial(tiny_parts: dict[str, list[Row]]) -> None:
    for row in tiny_parts["memory"]:
        assert {"load", "train", "evaluate"} <= row["phases"].keys()
        assert row["planned_bytes"].keys() == {"load", "train", "evaluate"}
        assert row["length"] == 48
    ranks = {row["case"]: row["trainable_params"] for row in tiny_parts["memory"]}
    assert ranks["7B bf16"] == 2 * 2 * 8 * (64 + 64)  # query and value of two layers
    assert ranks["7B nf4, six toggles, rank 256, sgd"] == 256 * (2 * (4 * 128 + 3 * 160) + 64 + 256)


def test_speeds_are_tokens_over_seconds_and_share_is_of_the_ceiling(tiny_parts: dict[str, list[Row]]) -> None:
    row = next(one for one in tiny_parts["throughput"] if one["case"] == "nf4_dq, 1 x 24, plain")
    assert row["tokens_per_second"] == pytest.approx(24 / row["step_seconds"])
    entries = 2 * (4 * 64 * 64 + 3 * 64 * 96) + 64 * 256
    flops = 4 * entries + 6 * 2 * 2 * 8 * 128
    assert row["share_of_ceiling"] == pytest.approx(row["tokens_per_second"] * flops / CEILING)


def test_the_trainer_and_sweeplab_do_the_same_work(tiny_parts: dict[str, list[Row]]) -> None:
    (row,) = tiny_parts["peers"]
    assert row["largest_loss_difference_nats"] < 5e-6
    assert [len(runs) for runs in row["rounds"].values()] == [2, 2]
    first = row["rounds"]["sweeplab"][0]
    assert len(first["losses"]) == 3
    assert first["losses"][0] == pytest.approx(math.log(256), abs=0.1)  # random weights know nothing


def test_trials_at_once_equal_trials_alone(tiny_parts: dict[str, list[Row]]) -> None:
    row = next(one for one in tiny_parts["cohorts"] if "equal" in one)
    assert row["equal"]
    assert all(0 < one < 1e-3 for one in row["peft_sensitivities"])
    for difference, sensitivity in zip(row["weight_differences_from_peft"], row["peft_sensitivities"], strict=True):
        assert difference <= 3 * sensitivity
    plain = tiny_parts["cohorts"][0]
    assert plain["ratios"]["1"] == 1
    assert plain["ratios"]["8"] == plain["tokens_per_second"]["8"] / plain["tokens_per_second"]["1"]


def test_a_cohort_that_does_not_fit_keeps_the_sizes_that_did(monkeypatch: pytest.MonkeyPatch) -> None:
    real = time_fastest

    def limited(work: Any, device: torch.device) -> float:
        limited.calls += 1  # type: ignore[attr-defined]
        if limited.calls == 3:  # type: ignore[attr-defined]
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(work, device)

    limited.calls = 0  # type: ignore[attr-defined]
    monkeypatch.setattr(cohorts, "time_fastest", limited)
    found = cohorts.speeds(Laboratory.on("cpu", 1), config_of(TINY, "quantization=none"), 8)
    assert list(found["ratios"]) == ["1", "2"]
    assert found["stopped"] == "4 at once: CUDA out of memory."


def test_the_page_shows_published_figures_verdicts_and_what_is_missing(
    tiny_parts: dict[str, list[Row]], tmp_path: Path
) -> None:
    left_out = {"case": "13B", "status": "left_out", "reason": "no time", "published_gigabytes": 38.12}
    for part, rows in tiny_parts.items():
        told = {"surroundings": FACTS, "budget_seconds": 540, "rows": [*rows, left_out]}
        write_part(tmp_path, part, told)
        assert json.loads((tmp_path / f"{part}.json").read_text()) == told
    page = (tmp_path / "report.md").read_text()
    assert [line for line in page.splitlines() if line.startswith("## ")] == [f"## {part}" for part in tiny_parts]
    assert "| 7B bf16 | 21.33 |" in page
    assert "- 13B: left_out, no time" in page
    assert "driver –" in page


def synthetic(name: str, peak: float, plan: float, published: float | None) -> Row:
    phase = {"peak_allocated_bytes": int(peak * 1e9), "peak_reserved_bytes": int(peak * 1e9)}
    return {
        "case": name,
        "status": "measured",
        "published_gigabytes": published,
        "train_peak_bytes": int(peak * 1e9),
        "planned_bytes": {"train": int(plan * 1e9)},
        "phases": {"load": phase, "train": phase, "evaluate": phase},
    }


def test_verdicts_by_hand() -> None:
    rows = [
        synthetic("7B nf4_dq, checkpointing", 9.5, 9.5, 13.84),
        synthetic("b", 20, 23, 19),
        synthetic("c", 1, 1, None),
    ]
    page = report({"memory": {"surroundings": FACTS, "rows": rows}})
    assert "At or under the published peak: 1 of 2." in page
    assert "7B nf4_dq, checkpointing under 10 GB: met." in page
    assert "median error 0.0 %, worst 15.0 %, goal (5 and 12) missed." in page


def test_verdicts_of_cohorts_by_hand() -> None:
    def row(goal: float, *ratios: float) -> Row:
        return {"goal_of_8": goal, "ratios": dict(zip(("1", "2", "4", "8"), ratios, strict=False))}

    rows = [row(4.0, 1, 2, 3, 4.1), row(1.05, 1, 0.96, 1.0, 1.04), row(2.0, 1, 1.5)]
    said = cohorts_verdict(rows)
    assert "Goals for eight at once: 1 of 2 met. Lowest ratio 0.96, goal 0.97 missed." in said


def test_kernels_are_sorted_by_their_names() -> None:
    sums = throughput.sums_by_kind(
        [
            ("void kDequantizeBlockwise<__nv_bfloat16, 512, 64, 8, NF4>(float*)", 1.0),
            ("sm90_xmma_gemm_bf16bf16_bf16f32", 2.0),
            ("nvjet_hsh_128x256_64x4_1x2_h_bz_coopA_TNT", 4.0),
            ("void pytorch_flash::flash_fwd_kernel<...>", 8.0),
            ("void at::native::vectorized_elementwise_kernel<4, MulFunctor>", 16.0),
            ("Memcpy DtoD (Device -> Device)", 32.0),
        ]
    )
    assert sums == {"dequantization": 1, "attention": 8, "matrix products": 6, "copies": 32, throughput.OTHER: 16}


def test_ceilings_of_this_processor() -> None:
    assert product_flops_per_second(CPU, 64) > 1e6
    assert copy_bytes_per_second(CPU, 1 << 20) > 1e7
    assert driver() is None or driver()


def test_lengths_follow_the_histogram() -> None:
    counts = {int(length): count for length, count in json.loads(HISTOGRAM.read_text())["counts"].items()}
    drawn = alpaca_lengths(20_000)
    mean = sum(length * count for length, count in counts.items()) / sum(counts.values())
    spread = math.sqrt(sum(count * (length - mean) ** 2 for length, count in counts.items()) / sum(counts.values()))
    assert sum(drawn) / len(drawn) == pytest.approx(mean, abs=5 * spread / math.sqrt(len(drawn)))
    assert set(drawn) <= counts.keys()
    assert alpaca_lengths(50) == alpaca_lengths(50)


def test_the_committed_histogram_is_alpacas(shared_data: Path) -> None:
    records = json.loads((shared_data / "instruct" / "alpaca_5000.json").read_text())
    assert histogram(records) == json.loads(HISTOGRAM.read_text())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, and the benchmark would run")
def test_without_a_gpu_it_says_so_and_ends_with_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu", "--part", "memory", "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "needs a CUDA device" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
