"""Trials whose rows several processes have among them: what each process runs, and what it found.

Arguments of the first process, which starts the others: the number of all, a folder.
"""

import json
import os
import socket
import subprocess
import sys
import traceback
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final
from unittest import mock

import torch
from torch.distributed.tensor import DTensor

from sweeplab.config.trial_spec import TrialSpec
from sweeplab.logits import states
from sweeplab.models.base import Base
from sweeplab.runtime.process_group import _LOOPBACK, Ranks, join_process_group
from sweeplab.training.fsdp import free_gathered_weights, shard_base
from sweeplab.training.running_trial import RunningTrial
from tests.trial.test_cohort_numbers import DATA, HELDOUT, GivenBench, through
from tests.trials import embedded, small_llama

ROOT: Final = Path(__file__).parents[2]
UNEVEN: Final = DATA[:13]  # the last window of an epoch has one row, which one process has
SMALL_CHUNKS: Final = 4 * 128 * 3  # logits of three positions at once

Found = dict[str, dict[int, dict[str, Any]]]  # by scenario and trial


def base_of(scenario: str, ranks: Ranks) -> Base:
    """In parts where the scenario says fsdp and there are several processes."""
    base = embedded("nf4", True) if "nf4" in scenario else embedded("none", False)
    if "nf4" not in scenario:
        base = base._replace(model=small_llama().requires_grad_(False))
    if "fsdp" in scenario and ranks.size > 1:
        shard_base(base.model, ranks)
    return base


def weights_of(run: RunningTrial) -> list[torch.Tensor]:
    return [weight.detach().clone() for weight in run.parameters]


def held_bytes(base: Base) -> int:
    """Of the base's weights in this process between two trials; what was put together for the last one is free."""
    free_gathered_weights(base.model)
    local = (one.to_local() if isinstance(one, DTensor) else one for one in base.model.parameters())
    return sum(one.untyped_storage().nbytes() for one in local)


def outcomes(scenario: str, specs: list[TrialSpec], ranks: Ranks) -> dict[int, dict[str, Any]]:
    """What a scenario's trials came to: together, or each alone on a base of its own."""
    found: dict[int, dict[str, Any]] = {}
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(RunningTrial, "free"))  # which lets go of the weights to compare
        if "chunks" in scenario:
            stack.enter_context(mock.patch.object(states, "_CHUNK_BYTES", SMALL_CHUNKS))
        for group in [[one] for one in specs] if "alone" in scenario else [specs]:
            base = base_of(scenario, ranks)
            resources = GivenBench(torch.device("cpu"), ranks=ranks).given(base, UNEVEN, HELDOUT)
            runs, records = through(resources, group)
            for number, record in records.items():
                found[number] = {
                    "status": record.status.value,
                    "step": record.step,
                    "kept_step": record.kept_step,
                    "reason": record.reason,
                    "weights": weights_of(runs[number]),
                    "losses": [point.loss for point in record.losses],
                    "tokens": record.num_train_tokens,
                    "heldout": record.heldout_loss_nats_per_token,
                    "solo_tokens": None if record.solo is None else record.solo.num_tokens,
                    "bytes": held_bytes(base),
                }
    return found


def run_divided(size: int, scenarios: dict[str, list[dict[str, Any]]], folder: Path) -> list[Found]:
    """Every process's findings; the scenarios' trials as messages."""
    (folder / "scenarios.json").write_text(json.dumps(scenarios))
    done = subprocess.run(
        [sys.executable, "-m", "tests.trial.divided", str(size), str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    return [torch.load(folder / f"{rank}.pt") for rank in range(size)]


def run_rank(rank: int, size: int, listener: socket.socket, folder: Path) -> None:
    torch.set_num_threads(1)
    port, descriptor = listener.getsockname()[1], listener.fileno()
    ranks = join_process_group(rank, size, port, None if rank else descriptor, torch.device("cpu"))
    scenarios = json.loads((folder / "scenarios.json").read_text())
    found = {
        name: outcomes(name, [TrialSpec.from_dict(one) for one in messages], ranks)
        for name, messages in scenarios.items()
    }
    torch.save(found, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def main() -> None:
    """The first process is this one. The others are forked from it: each would need ten seconds to import the same."""
    size, folder = int(sys.argv[1]), Path(sys.argv[2])
    listener = socket.create_server((_LOOPBACK, 0))
    later = []
    for rank in range(1, size):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                run_rank(rank, size, listener, folder)
                code = 0
            finally:
                if code:
                    traceback.print_exc()
                os._exit(code)
        later.append(child)
    run_rank(0, size, listener, folder)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in later]
    assert codes == [0] * (size - 1), codes


if __name__ == "__main__":
    main()
