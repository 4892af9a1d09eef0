"""Predicted against measured memory: `python -m experiments.benchmarks.memory_model [tensors|resident] [NAME ...]`."""

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from hydra import initialize_config_dir

from experiments.benchmarks.memory_model.geometries import GEOMETRIES, has_padding
from experiments.benchmarks.memory_model.one import count_trial
from sweeplab.config.conf import CONF
from sweeplab.records.store import write_json, write_text

REPORT: Final = Path("reports/benchmarks/memory_model")
NUM_RECORDS: Final = 20
PROMPT_CHARACTERS: Final = 256  # the borrowed tokenizer takes one token a character
RESPONSE_CHARACTERS: Final = 1200
FITTING_RESPONSE_CHARACTERS: Final = 126  # with the prompt as long as the geometries' max_length
NUM_LENGTHS: Final = 7
DEFAULT_ALLOCATOR: Final = ("8 layers of 512", "deep", "rank 256, all matrices")  # measured with glibc's defaults too
PHASES: Final = {"train": None, "evaluate": "evaluation"}  # a record's name -> the plan's moment

_Results = dict[str, dict[str, Any]]


def write_records(path: Path, padded: bool = False) -> None:
    """Records that are all longer than any geometry's max_length, so that every micro-batch is the longest.

    `padded`: they differ by up to six tokens, so that every micro-batch of four has padding, as in real data.
    """
    lengths = [RESPONSE_CHARACTERS] * NUM_RECORDS
    if padded:
        lengths = [FITTING_RESPONSE_CHARACTERS - index % NUM_LENGTHS for index in range(NUM_RECORDS)]
    records = [{"instruction": "a" * PROMPT_CHARACTERS, "output": "b" * length} for length in lengths]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def run(name: str, data: Path, how: str) -> dict[str, Any]:
    """The geometry's trial and its plan; a resident set is measured in a process of its own."""
    if how == "tensors":
        values = count_trial(name, data)
    else:
        command = [
            sys.executable,
            "-W",
            "ignore",
            "-m",
            "experiments.benchmarks.memory_model.one",
            name,
            str(data),
            how,
        ]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
        values = json.loads(done.stdout.splitlines()[-1])
    if values["status"] != "finished":
        raise RuntimeError(f"{name} {values['status']}: {values['reason']}")
    return values


def _predict(values: dict[str, Any], moment: str | None, with_process: bool) -> int:
    plan = values["plan"]
    parts = plan["moments"][moment] if moment else plan["memory"]
    return sum(size for name, size in parts.items() if with_process or name != "process_bytes")


def compared(values: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Of training: predicted and measured resident bytes, less what was resident before the base; error as a share."""
    before = values["resident_before_bytes"]
    predicted, measured = _predict(values, None, True) - before, values["measured_bytes"]["train"] - before
    return {"train": {"predicted": predicted, "measured": measured, "error": predicted / measured - 1}}


def compared_tensors(values: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Per phase predicted bytes, without the process, and those counted in a real trial; error as a share."""
    rows = {}
    for phase, moment in PHASES.items():
        predicted, counted = _predict(values, moment, False), values["tensor_bytes"][phase]
        rows[phase] = {"predicted": predicted, "counted": counted, "error": predicted / counted - 1}
    return rows


def megabytes(num_bytes: float) -> str:
    return f"{num_bytes / 1e6:,.1f}"


def _table(titles: tuple[str, ...], rows: list[list[str]]) -> list[str]:
    marks = ["---" if title in ("geometry", "highest moment") else "---:" for title in titles]
    return [f"| {' | '.join(row)} |" for row in ([*titles], marks, *rows)]


def _resident_table(results: _Results) -> list[str]:
    rows = []
    for name, values in results.items():
        (row,) = compared(values).values()
        sizes = [megabytes(row[one]) for one in ("predicted", "measured")]
        rows.append([name, *sizes, f"{100 * row['error']:+.1f} %", values["plan"]["peak_moment"]])
    return _table(("geometry", "predicted MB", "measured MB", "error", "highest moment"), rows)


def _tensor_table(results: _Results) -> list[str]:
    rows = []
    for name, values in results.items():
        cells = [name]
        for row in compared_tensors(values).values():
            cells += [megabytes(row[one]) for one in ("predicted", "counted")] + [f"{100 * row['error']:+.1f} %"]
        rows.append([*cells, values["plan"]["peak_moment"]])
    sides = [f"{phase}: {one}" for phase in PHASES for one in ("predicted", "counted", "error")]
    return _table(("geometry", *sides, "highest moment"), rows)


def _describe_errors(errors: list[float]) -> str:
    sizes = [abs(error) for error in errors]
    return f"median error {100 * statistics.median(sizes):.1f} %, worst {100 * max(sizes):.1f} %"


def _describe_source(results: _Results) -> list[str]:
    return [f"```json\n{json.dumps(next(iter(results.values()))['provenance'], indent=1)}\n```"]


def report(tensors: _Results, resident: _Results, defaults: _Results) -> str:
    """The page of all that was measured."""
    rows = [compared_tensors(values) for values in tensors.values()]
    train, evaluate = (_describe_errors([row[phase]["error"] for row in rows]) for phase in PHASES)
    resident_errors = _describe_errors([compared(values)["train"]["error"] for values in resident.values()])
    return "\n".join(
        [
            "# Memory: predicted and measured",
            "",
            f"{len(rows)} geometries. Training: {train}. Evaluation (held-out loss, adapter saved): {evaluate}. MB are "
            "1e6 bytes of tensors, the base included: predicted without the process, and counted in a trial. Made by "
            "`python -m experiments.benchmarks.memory_model tensors`.",
            "",
            *_tensor_table(tensors),
            "",
            *_describe_source(tensors),
            "",
            "## Resident sets",
            "",
            f"{len(resident)} geometries, an older measurement: {resident_errors}. MB of the phase `train`, above what "
            "was resident before the base was loaded. Generated by `python -m experiments.benchmarks.memory_model "
            "resident`.",
            "",
            *_resident_table(resident),
            "",
            "The same with glibc's defaults, which keep freed blocks:",
            "",
            *_resident_table(defaults),
            "",
            *_describe_source(resident),
            "",
        ]
    )


def measure(names: Sequence[str], how: str) -> _Results:
    """The geometries `names`, one after another."""
    results: _Results = {}
    with tempfile.TemporaryDirectory() as folder, initialize_config_dir(str(CONF), version_base="1.3"):
        for name in names:
            data = Path(folder) / "records.jsonl"
            write_records(data, padded=how == "tensors" and has_padding(name))
            results[name] = run(name, data, how)
            rows = compared_tensors(results[name]) if how == "tensors" else compared(results[name])
            print(name, how, {phase: f"{100 * row['error']:+.1f} %" for phase, row in rows.items()}, flush=True)
    return results


def main() -> None:
    which, *names = sys.argv[1:] or ["tensors"]
    chosen = names or list(GEOMETRIES)
    if which == "tensors":
        results = measure(chosen, "tensors")
        path = REPORT / "tensors.json"
    else:
        defaults = [name for name in DEFAULT_ALLOCATOR if name in chosen]
        results = {"returning": measure(chosen, "returning"), "default": measure(defaults, "default")}
        path = REPORT / "results.json"
    if names:
        return
    write_json(path, results)
    resident = json.loads((REPORT / "results.json").read_text())
    tensors = json.loads((REPORT / "tensors.json").read_text())
    write_text(REPORT / "report.md", report(tensors, resident["returning"], resident["default"]))


if __name__ == "__main__":
    main()
