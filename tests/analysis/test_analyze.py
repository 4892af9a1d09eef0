"""A study written by hand, analysed whole: what stands in the files is what NumPy makes of the same matrices."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from sweeplab.analysis import analyze
from sweeplab.models.base import _EMBEDDED
from sweeplab.records.record import Phase, Score, Status, StudyFacts, TrialRecord
from sweeplab.records.store import StoreError, write_facts, write_json_lines, write_record
from tests.analysis.conftest import AdapterWriter
from tests.trials import Compose

NAMES = ("model.layers.0.self_attn.q_proj", "model.layers.3.self_attn.v_proj")
SCORE = "scores.tiny_new_facts.exact_match"
StudyWriter = Callable[..., Path]
Weights = dict[int, dict[str, tuple[NDArray[Any], NDArray[Any]]]]


def silent(text: str) -> None:
    assert text


@pytest.fixture
def weights(rng: np.random.Generator) -> Weights:
    """A and B of four trials: ranks 2 and 4, seeds 0 and 1; on the embedded base, whose matrices are read here."""
    base = load_file(_EMBEDDED / "model.safetensors")
    shapes = {name: base[f"{name}.weight"].shape for name in NAMES}
    return {
        number: {
            name: (rng.standard_normal((rank, columns)), 0.01 * rng.standard_normal((rows, rank)))
            for name, (rows, columns) in shapes.items()
        }
        for number, rank in enumerate((2, 4, 2, 4))
    }


@pytest.fixture
def write_study(tmp_path: Path, compose_trial: Compose, write_adapter: AdapterWriter, weights: Weights) -> StudyWriter:
    """Four trials of `weights`, on ten items each; `changes` to the configuration of all."""

    def write(name: str = "by_hand", **changes: dict[str, Any]) -> Path:
        folder = tmp_path / "runs" / name
        config = compose_trial("quantization=none").to_dict()
        for part, values in changes.items():
            config[part] = config[part] | values
        facts = StudyFacts(name, None, "", {SCORE: "maximize"}, [0, 1], {"adapter.rank": {"choices": [2, 4]}}, 4, {})
        write_facts(folder, facts)
        for number, pairs in weights.items():
            rank, seed = (2, 4)[number % 2], number // 2
            right = [float(item < 3 + 4 * (number % 2)) for item in range(10)]  # 3 of 10 with rank 2, 7 with rank 4
            record = TrialRecord(
                number,
                Status.FINISHED,
                seed,
                {"adapter.rank": rank},
                config,
                adapter_layers=[{"name": one, "scaling": 2.0} for one in pairs],
                cohort=[number],
                phases={"train": Phase(1.0, (100 + rank) * 2**20)},
                scores={"tiny_new_facts": {"exact_match": Score(sum(right) / 10, 0.1, 10)}},
            )
            write_record(folder, record)
            trial = folder / "trials" / f"{number:05d}"
            write_adapter(pairs, trial / "adapter")
            rows = [
                {"task": "tiny_new_facts", "item": n, "filter": "none", "metrics": {"exact_match": r}}
                for n, r in enumerate(right)
            ]
            write_json_lines(trial / "items.jsonl", rows)
        return folder

    return write


def analysed(folder: Path, tmp_path: Path) -> dict[str, Any]:
    page = analyze(folder, tmp_path / "reports", silent)
    assert page == tmp_path / "reports" / folder.name / "analysis" / "analysis.md"
    found: dict[str, Any] = json.loads(page.with_name("analysis.json").read_text())
    return found


def test_phi_of_every_pair(write_study: StudyWriter, weights: Weights, tmp_path: Path) -> None:
    found = analysed(write_study(), tmp_path)
    kinds = [(one["kind"], sorted(one["trials"])) for one in found["pairs"]]
    assert sorted(kinds) == [
        ("both", [0, 3]),
        ("both", [1, 2]),
        ("ranks", [0, 1]),
        ("ranks", [2, 3]),
        ("seeds", [0, 2]),
        ("seeds", [1, 3]),
    ]
    groups = {(one["kind"], *one["ranks"], one["part"]): one for one in found["similarity"]["groups"]}
    for part, place in (("A", 0), ("B", 1)):
        phis = []
        for one, other in ((0, 1), (2, 3)):
            for name in NAMES:
                small, large = (weights[number][name][place] for number in (one, other))
                u, v = (np.linalg.qr(x.T if place == 0 else x)[0] for x in (small, large))
                phis.append(float(np.square(u.T @ v).sum()) / 2)
        assert groups["ranks", 2, 4, part]["whole"]["phi"] == pytest.approx(np.mean(phis), rel=1e-9)
        assert groups["ranks", 2, 4, part]["whole"]["num"] == 4
    assert groups["ranks", 2, 4, "A"]["whole"]["chance"] == pytest.approx(4 / 128)
    assert abs(groups["ranks", 2, 4, "A"]["whole"]["z"]) < 4  # these were drawn at random


def test_equal_adapters_share_everything(write_study: StudyWriter, weights: Weights, tmp_path: Path) -> None:
    """Seed 1 holds what seed 0 holds, mixed by an invertible matrix, so that B A stays as it was."""
    for small in (0, 1):
        for name in NAMES:
            a_RI, b_OR = weights[small][name]
            mixing = np.triu(np.ones((len(a_RI), len(a_RI))))
            weights[small + 2][name] = (mixing @ a_RI, b_OR @ np.linalg.inv(mixing))
    groups = analysed(write_study(), tmp_path)["similarity"]["groups"]
    seeds = [one for one in groups if one["kind"] == "seeds"]
    assert len(seeds) == 8
    assert [one["whole"]["phi"] for one in seeds] == pytest.approx([1.0] * 8)
    assert [one["first"]["phi"] for one in seeds if one["part"].startswith("dW")] == pytest.approx([1.0] * 4)
    assert min(one["whole"]["z"] for one in seeds) > 10


def test_projection_and_spectrum_of_every_matrix(write_study: StudyWriter, weights: Weights, tmp_path: Path) -> None:
    found = analysed(write_study(), tmp_path)
    base = load_file(_EMBEDDED / "model.safetensors")
    assert found["base"] == "read"
    assert len(found["matrices"]) == 8
    for one in found["matrices"]:
        a_RI, b_OR = weights[one["trial"]][one["matrix"]]
        u, sizes, vt = np.linalg.svd(2.0 * b_OR @ a_RI)
        rank, weight = len(a_RI), base[f"{one['matrix']}.weight"].astype(np.float64)
        projected = float(np.linalg.norm(u[:, :rank].T @ weight @ vt[:rank].T))
        row = one["projection"]
        assert one["update_singular_values"] == pytest.approx(sizes[:rank], rel=1e-5)
        assert row["on_update"] == pytest.approx(projected, rel=1e-6)
        assert row["amplification"] == pytest.approx(float(np.linalg.norm(sizes)) / projected, rel=1e-6)
        own = np.linalg.svd(weight, compute_uv=False)
        assert row["on_itself"] == pytest.approx(float(np.linalg.norm(own[:rank])), rel=1e-6)
        assert one["weight_dimensions"]["stable_rank"] == pytest.approx(float((own**2).sum() / own[0] ** 2), rel=1e-6)


def test_elo_of_the_settings(write_study: StudyWriter, tmp_path: Path) -> None:
    """Rank 4 wins four items of ten and ties on six, under each of two seeds."""
    elo = analysed(write_study(), tmp_path)["elo"]
    assert (elo["tasks"], elo["items"], elo["matches"]) == (["tiny_new_facts"], 10, 20)
    low, high = elo["standings"]
    assert (low["setting"], high["setting"]) == ({"adapter.rank": 2}, {"adapter.rank": 4})
    assert low["elo"]["mean"] + high["elo"]["mean"] == pytest.approx(2000)
    assert high["elo"]["mean"] > 1020
    ahead = high["bradley_terry"]["points"] - low["bradley_terry"]["points"]
    assert ahead == pytest.approx(400 * np.log10(7 / 3))  # 14 points of 20


def test_the_page_and_the_figures(write_study: StudyWriter, tmp_path: Path) -> None:
    folder = write_study()
    page = analyze(folder, tmp_path / "reports", silent)
    before = {path.name: path.read_bytes() for path in page.parent.iterdir()}
    assert set(before) == {"analysis.json", "analysis.md", "similarity.svg", "spectra.svg", "elo.svg"}
    analyze(folder, tmp_path / "reports", silent)
    assert {path.name: path.read_bytes() for path in page.parent.iterdir()} == before
    text = page.read_text()
    for words in ("phi = (1 / p)(1 - d^2)", "phi = 1 - d^2 / p", "ranks 2 and 4, same seed", "rank=4", "102 MiB"):
        assert words in text
    space = "{http://www.w3.org/2000/svg}"
    similarity = ElementTree.fromstring(before["similarity.svg"])
    corners = sum(str(path.get("d")).count("M") for path in similarity.iter(f"{space}path"))
    assert corners == 3 * (2 * 4 + 4 * 4 + 2 * 4)  # A, B, chance; for ranks, seeds, both
    spectra = ElementTree.fromstring(before["spectra.svg"])
    lengths = [len(str(line.get("points")).split()) for line in spectra.iter(f"{space}polyline")]
    assert sorted(lengths) == [2, 4, 128]
    elo = ElementTree.fromstring(before["elo.svg"])
    heights = [float(str(dot.get("cy"))) for dot in elo.iter(f"{space}circle")]
    assert heights[0] < heights[1]  # the best is drawn first, and higher


def test_a_base_that_is_gone_leaves_the_rest(write_study: StudyWriter, tmp_path: Path) -> None:
    gone = {"source": "local", "path": str(tmp_path / "gone")}
    found = analysed(write_study(model=gone), tmp_path)
    assert "gone" in found["base"]
    assert {one["projection"] for one in found["matrices"]} == {None}
    assert found["matrices"][0]["update_dimensions"] is not None
    text = (tmp_path / "reports" / "by_hand" / "analysis" / "analysis.md").read_text()
    assert "The base's matrices were not read: model" in text


@pytest.mark.parametrize(
    ("part", "change", "words"),
    [
        ("adapter", {"method": "bitfit"}, "adapter.method=bitfit"),
        ("adapter", {"dora": True}, "DoRA"),
        ("adapter", {"initialization": "pissa"}, "rewrites the base"),
    ],
)
def test_what_has_no_plain_update_is_left_out(
    write_study: StudyWriter, tmp_path: Path, part: str, change: dict[str, Any], words: str
) -> None:
    found = analysed(write_study(**{part: change}), tmp_path)
    assert (found["trials"], found["pairs"], found["matrices"]) == ([], [], [])
    assert all(words in why for why in found["left_out"].values())
    assert len(found["left_out"]) == 4
    assert found["elo"] is not None


def test_a_trial_without_its_adapter_is_left_out(write_study: StudyWriter, tmp_path: Path) -> None:
    folder = write_study()
    shutil.rmtree(folder / "trials" / "00003" / "adapter")
    found = analysed(folder, tmp_path)
    assert found["left_out"] == {"3": "its adapter folder is gone"}
    assert len(found["pairs"]) == 3


def test_an_untrained_adapter_has_no_directions(write_study: StudyWriter, weights: Weights, tmp_path: Path) -> None:
    for pairs in weights.values():
        for name, (a_RI, b_OR) in pairs.items():
            pairs[name] = (a_RI, np.zeros_like(b_OR))
    found = analysed(write_study(), tmp_path)
    groups = {(one["kind"], one["part"], *one["ranks"]): one for one in found["similarity"]["groups"]}
    assert groups["ranks", "B", 2, 4]["first"] == {"phi": None, "chance": None, "z": None, "num": 0}
    assert groups["ranks", "A", 2, 4]["first"]["num"] == 4
    assert {one["projection"] for one in found["matrices"]} == {None}


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("adapter/adapter_model.safetensors", b"\x80\x04pickle", "is no LoRA adapter that can be read"),
        ("adapter/adapter_config.json", b"{", "is no LoRA adapter that can be read"),
        ("items.jsonl", b"{", "items.jsonl cannot be read: "),
        ("items.jsonl", b'{"task": 1}', "items.jsonl cannot be read: "),
        ("items.jsonl", b"[" * 100_000, "items.jsonl cannot be read: "),
        ("items.jsonl", b'{"task": "t", "item": 1, "filter": "none", "metrics": []}', "items.jsonl cannot be read: "),
    ],
)
def test_damaged_files_are_one_line(
    write_study: StudyWriter, tmp_path: Path, name: str, data: bytes, words: str
) -> None:
    folder = write_study(model={"source": "local", "path": str(tmp_path / "gone")})
    (folder / "trials" / "00001" / name).write_bytes(data)
    with pytest.raises(StoreError, match=words) as caught:
        analyze(folder, tmp_path / "reports", silent)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_adapters_of_another_base_are_not_projected(write_study: StudyWriter, weights: Weights, tmp_path: Path) -> None:
    """A matrix that the base lacks, or has in another shape."""
    for pairs in weights.values():
        pairs[NAMES[0]] = (np.ones((2, 5)), np.ones((7, 2)))
        pairs["model.layers.99.q_proj"] = (np.ones((2, 5)), np.ones((7, 2)))
    found = analysed(write_study(), tmp_path)
    projected = {one["matrix"] for one in found["matrices"] if one["projection"] is not None}
    assert projected == {NAMES[1]}


def test_a_folder_without_a_study(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"holds no study; run it first, with the same study\.name"):
        analyze(tmp_path, tmp_path / "reports", silent)


def test_text_of_a_study_stays_text(write_study: StudyWriter, tmp_path: Path) -> None:
    folder = write_study()
    for number in range(4):
        path = folder / "trials" / f"{number:05d}" / "record.json"
        values = json.loads(path.read_text())
        values["params"]["data.path"] = "<script>&|x"
        path.write_text(json.dumps(values))
    page = analyze(folder, tmp_path / "reports", silent)
    assert "<script>" not in page.read_text()
    for name in ("spectra.svg", "elo.svg"):
        assert "script" not in {
            element.tag.rpartition("}")[2] for element in ElementTree.parse(page.with_name(name)).iter()
        }


def test_numbers_out_of_bounds_in_one_matrix(write_study: StudyWriter, tmp_path: Path) -> None:
    folder = write_study()
    path = folder / "trials" / "00002" / "adapter" / "adapter_model.safetensors"
    tensors = load_file(path)
    tensors[f"base_model.model.{NAMES[1]}.lora_B.weight"][0, 0] = np.nan
    save_file(tensors, path)
    with pytest.raises(StoreError, match=r"00002.*B of model\.layers\.3\.self_attn\.v_proj holds numbers"):
        analyze(folder, tmp_path / "reports", silent)
