"""How many workers a study has, and where."""

import os
import platform
from pathlib import Path

import pytest

from sweeplab.execution import placement as module
from sweeplab.execution.placement import choose_placements, count_cores, describe_unused_gpu, list_visible_gpus
from sweeplab.runtime.errors import ConfigError
from tests.study_runs import LOSS, ComposeStudy


@pytest.fixture(autouse=True)
def _machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four cores, no GPU."""
    monkeypatch.setattr(module, "count_cores", lambda: 4)
    monkeypatch.setattr(module, "list_visible_gpus", list)


def threads(compose_study: ComposeStudy, *overrides: str) -> list[int | None]:
    return [one.executor.num_threads for one in choose_placements(compose_study("evaluation=none", LOSS, *overrides))]


def test_a_small_base_has_a_worker_for_each_core(compose_study: ComposeStudy) -> None:
    assert threads(compose_study) == [1, 1, 1, 1]
    assert threads(compose_study, "executor.num_workers=2") == [2, 2]
    assert threads(compose_study, "executor.num_workers=2", "executor.num_threads=1") == [1, 1]


@pytest.mark.parametrize(
    "overrides",
    [
        ("model=llama2_7b",),
        ("study.objectives=[solo.step_seconds]",),
        ("study.objectives=[tokens_per_second]",),
        ("sampler=tpe", "study.num_trials=3", "++space.adapter.rank={low: 1, high: 9}"),
    ],
)
def test_one_worker_where_more_would_not_fit_or_change_what_is_found(
    compose_study: ComposeStudy, overrides: tuple[str, ...]
) -> None:
    assert threads(compose_study, *overrides) == [None]


def test_a_base_in_a_folder_is_small_by_its_files(compose_study: ComposeStudy, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    weights = tmp_path / "model.safetensors"
    for size, count in ((1_000, 4), (60_000_000, 1)):
        with weights.open("wb") as stream:
            stream.truncate(size)
        assert len(threads(compose_study, "model=local", f"model.path={tmp_path}")) == count


def test_every_gpu_has_a_worker_of_its_own(compose_study: ComposeStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "list_visible_gpus", lambda: ["2", "GPU-abc"])
    config = compose_study("evaluation=none", LOSS)
    assert [(one.gpu, one.executor.num_threads) for one in choose_placements(config)] == [
        ("2", None),
        ("GPU-abc", None),
    ]
    config = compose_study("evaluation=none", LOSS, "executor.num_workers=3")
    chosen = [(one.gpu, one.gpu_share) for one in choose_placements(config)]
    assert chosen == [("2", 0.5), ("GPU-abc", 1.0), ("2", 0.5)]  # two share a GPU's memory
    config = compose_study("evaluation=none", LOSS, "executor.num_workers=3", "executor.device=cpu")
    assert [one.gpu for one in choose_placements(config)] == [None] * 3


def test_gpus_are_those_that_the_environment_shows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1, GPU-7")
    assert list_visible_gpus() == ["1", "GPU-7"]
    for hidden, seen in (("-1", []), ("0,-1,1", ["0"])):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        assert list_visible_gpus() == seen
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert list_visible_gpus() == []
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA H100 (UUID: x)'\necho 'GPU 1: NVIDIA H100 (UUID: y)'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert list_visible_gpus() == ["0", "1"]
    parts = "echo '  MIG 1g.10gb Device 0: (UUID: MIG-a-b)'\necho '  MIG 1g.10gb Device 1: (UUID: MIG-c)'\n"
    program.write_text(f"#!/bin/sh\necho 'GPU 0: NVIDIA H100 (UUID: x)'\n{parts}echo 'GPU 1: NVIDIA H100 (UUID: y)'\n")
    assert list_visible_gpus() == ["MIG-a-b", "MIG-c", "1"]  # index 0 would show the first part only
    program.write_text("#!/bin/sh\nexit 9\n")
    assert list_visible_gpus() == []
    for name in ("0000:17:00.0", "0000:65:00.0"):  # without the program the driver's own list counts
        (tmp_path / "gpus" / name).mkdir(parents=True)
    monkeypatch.setattr(module, "_DRIVER_LIST", tmp_path / "gpus")
    program.unlink()
    assert list_visible_gpus() == ["0", "1"]


DDP = ("training.strategy=ddp", "training.num_devices=2")


def test_a_model_on_several_parts_of_a_gpu_is_refused(
    compose_study: ComposeStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "list_visible_gpus", lambda: ["MIG-a", "MIG-b"])
    config = compose_study("evaluation=none", LOSS, *DDP)
    with pytest.raises(ConfigError, match=r"^training\.num_devices must be 1 where a GPU is in parts \(MIG\)"):
        choose_placements(config)


def test_a_model_on_several_gpus_has_a_worker_that_sees_them(
    compose_study: ComposeStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "list_visible_gpus", lambda: ["0", "1", "GPU-2", "3", "4"])
    config = compose_study("evaluation=none", LOSS, *DDP)
    assert [(one.gpu, one.num_devices) for one in choose_placements(config)] == [
        ("0,1", 2),
        ("GPU-2,3", 2),
    ]  # one is left
    config = compose_study("evaluation=none", LOSS, *DDP, "executor.num_workers=3")
    assert [one.gpu for one in choose_placements(config)] == ["0,1", "GPU-2,3", "0,1"]
    config = config.replaced(training=config.training.replaced(num_devices=8))
    message = (
        r"^training\.num_devices must be at most the 5 GPUs of this machine, got 8; use fewer, or executor\.device=c"
    )
    with pytest.raises(ConfigError, match=message):
        choose_placements(config)


def test_a_model_in_several_processes_leaves_cores_for_each(compose_study: ComposeStudy) -> None:
    assert threads(compose_study, *DDP) == [2, 2]  # of a worker: one for each of its processes
    assert threads(compose_study, "training.strategy=ddp", "training.num_devices=4") == [None]


def quota(folder: Path, files: dict[str, str], own: str) -> int:
    """Cores within control groups that these files describe."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "own").write_text(own)
    return count_cores(folder, folder / "own")


@pytest.mark.parametrize(
    ("files", "own", "cores"),
    [
        ({"cpu.max": "100000 100000\n"}, "0::/\n", 1),
        ({"cpu.max": "max 100000\n"}, "0::/\n", 8),
        ({"cpu.max": "max 100000\n"}, "", 8),
        ({"cpu.max": "150000 100000\n"}, "0::/\n", 2),
        ({"cpu.max": "10000 100000\n"}, "0::/\n", 1),
        ({"a/cpu.max": "300000 100000\n", "a/b/cpu.max": "max 100000\n"}, "0::/a/b\n", 3),
        ({"a/cpu.max": "300000 100000\n", "a/b/cpu.max": "200000 100000\n"}, "0::/a/b\n", 2),
        ({"cpu.max": "200000 100000\n"}, "0::/docker/0123\n", 2),
        ({"cpu.max": "6400000 100000\n"}, "0::/\n", 8),
        ({"cpu.max": "damaged\n"}, "0::/\n", 8),
        ({"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, "5:memory:/x\n4:cpu:/x\n", 2),
        (
            {"cpu,cpuacct/x/cpu.cfs_quota_us": "50000\n", "cpu,cpuacct/x/cpu.cfs_period_us": "50000\n"},
            "4:cpu,cpuacct:/x\n0::/x\n",
            1,
        ),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, "4:cpu:/\n", 8),
    ],
)
def test_cores_are_those_that_the_control_group_has_time_for(
    files: dict[str, str], own: str, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert quota(tmp_path, files, own) == cores


@pytest.mark.parametrize(
    ("gpus", "asked", "message"),
    [
        ([], "study.objectives=[solo.peak_allocated_bytes]", None),
        ([], "++study.constraints.solo.evaluation_peak_allocated_bytes.max=1e9", None),
        (["0"], "study.objectives=[solo.peak_allocated_bytes]", None),
        (
            [],
            "study.objectives=[phases.train.peak_reserved_bytes]",
            r"^study\.objectives must be measured on a CPU, got phases\.train\.peak_reserved_bytes; use solo\.",
        ),
        (
            [],
            "++study.constraints.phases.train.peak_allocated_bytes.max=1e9",
            r"^study\.constraints must be measured on a CPU, got phases\.train\.peak_allocated_bytes; use solo\.",
        ),
        (
            ["0"],
            "study.objectives=[solo.peak_resident_bytes]",
            r"^study\.objectives must be measured on a GPU, got solo\.peak_resident_bytes; use solo\.peak_allocated",
        ),
    ],
)
def test_what_a_machine_never_measures_is_no_objective_and_no_constraint_there(
    compose_study: ComposeStudy, monkeypatch: pytest.MonkeyPatch, gpus: list[str], asked: str, message: str | None
) -> None:
    monkeypatch.setattr(module, "list_visible_gpus", lambda: gpus)
    learning = ("sampler=tpe", "study.num_trials=2", "++space.adapter.rank={low: 1, high: 9}", "executor.device=auto")
    config = compose_study("evaluation=none", *([] if "objectives" in asked else [LOSS]), *learning, asked)
    if message is None:
        assert choose_placements(config)
        return
    with pytest.raises(ConfigError, match=message):
        choose_placements(config)


def test_a_gpu_where_there_is_none_is_refused(compose_study: ComposeStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    config = compose_study(LOSS, "evaluation=none", "executor.device=cuda")
    monkeypatch.setattr(module, "_OTHER_NODES", ())
    monkeypatch.delenv(module.VISIBLE, raising=False)
    with pytest.raises(ConfigError, match=r"^executor\.device needs an NVIDIA GPU, and there is none here, got cuda"):
        choose_placements(config)
    monkeypatch.setenv(module.VISIBLE, "-1")
    with pytest.raises(ConfigError, match=r"and CUDA_VISIBLE_DEVICES=-1 shows none, got cuda; use exec"):
        choose_placements(config)


def test_where_nothing_lists_a_gpu_the_worker_tells(
    compose_study: ComposeStudy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "_OTHER_NODES", (tmp_path,))
    monkeypatch.setattr(module, "_is_torch_with_cuda", lambda: True)
    monkeypatch.delenv(module.VISIBLE, raising=False)
    assert choose_placements(compose_study(LOSS, "evaluation=none", "executor.device=cuda"))


@pytest.mark.parametrize(
    ("build", "is_with"),
    [(("None", "None"), False), (("'12.8'", "None"), True), (("None", "'6.4'"), True), ((), True)],
    ids=["CPU", "CUDA", "ROCm", "unknown"],
)
def test_a_gpu_for_a_torch_without_cuda_is_refused(
    build: tuple[str, ...],
    is_with: bool,
    compose_study: ComposeStudy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = [f"{name}: Optional[str] = {said}" for name, said in zip(("cuda", "hip"), build, strict=False)]
    monkeypatch.setattr(module, "_read_words", lambda *_: lines)
    monkeypatch.setattr(module, "list_visible_gpus", lambda: ["0"])
    config = compose_study(LOSS, "evaluation=none", "executor.device=cuda")
    if is_with:
        assert choose_placements(config)
        return
    with pytest.raises(ConfigError, match=r"^executor\.device needs a torch with CUDA, and the one installed is w"):
        choose_placements(config)


@pytest.mark.parametrize(("cards", "refuses"), [(["Tesla T4, 7.5"], True), (["Tesla T4, 7.5", "A10, 8.6"], False)])
def test_bfloat16_on_a_card_without_is_refused(
    cards: list[str], refuses: bool, tmp_path: Path, compose_study: ComposeStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\n" + "".join(f"echo '{card}'\n" for card in cards))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(module, "list_visible_gpus", lambda: ["0"])
    config = compose_study(LOSS, "evaluation=none", "training.precision=bfloat16")
    if not refuses:
        assert choose_placements(config)
        return
    with pytest.raises(ConfigError, match=r"8 or higher, and Tesla T4 has 7\.5, got bfloat16; use train"):
        choose_placements(config)


@pytest.mark.parametrize(
    ("machine", "version", "gpus", "device", "named"),
    [
        (("Darwin", "arm64"), "cuda = None\nhip = None\n", [], "auto", "Apple's GPU (MPS)"),
        (
            ("Linux", "x86_64"),
            "cuda: Optional[str] = None\nhip: Optional[str] = '7.1'\n",
            [],
            "auto",
            "AMD's GPU (ROCm)",
        ),
        (
            ("Linux", "x86_64"),
            "cuda = None\nhip = None\nxpu: Optional[str] = '20260101'\n",
            [],
            "auto",
            "Intel's GPU (XPU)",
        ),
        (("Linux", "x86_64"), "cuda = '13.0'\nhip = None\nxpu = None\n", [], "auto", None),
        (("Linux", "x86_64"), "cuda = '13.0'\nhip = None\nxpu = None\n", ["0"], "auto", None),
        (("Darwin", "arm64"), "cuda = None\nhip = None\n", [], "cpu", None),
    ],
)
def test_a_gpu_that_is_not_used_is_named(
    machine: tuple[str, str],
    version: str,
    gpus: list[str],
    device: str,
    named: str | None,
    compose_study: ComposeStudy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(platform, "system", lambda: machine[0])
    monkeypatch.setattr(platform, "machine", lambda: machine[1])
    monkeypatch.setattr(module, "list_visible_gpus", lambda: gpus)
    monkeypatch.setattr(module, "_read_torch_version", version.splitlines)
    said = describe_unused_gpu(compose_study("evaluation=none", LOSS, f"executor.device={device}").executor)
    assert said == (None if named is None else f"{named} is not used, only NVIDIA's are: trials run on the CPU.")
